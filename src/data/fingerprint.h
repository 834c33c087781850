#pragma once

#include <string>

#include "data/dataset.h"

namespace dalle {

/// Identifies a data set by the number of its samples and a hash of their keys, in order. Images
/// are not read, so replacing an image under the same name does not change the fingerprint.
/// @return a line of text such as "3000 images, names 0f3a5c7712ab90ef"
std::string fingerprint(const Dataset& dataset);

/// Distinguishes data sets with equal keys by a hash of the images and captions of up to 16 evenly
/// spaced samples. For images that the data set renders itself, only the captions are hashed.
std::string content_fingerprint(const Dataset& dataset);

}  // namespace dalle
