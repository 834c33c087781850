#pragma once

#include <string>

#include "dalle/data/dataset.h"

namespace dalle {

/// Tells a data set from another: how many samples it has and a hash over their keys, in order. The
/// images themselves are not read, so an image that was replaced under its own name passes.
/// @return a line of text such as "3000 pictures, names 0f3a5c7712ab90ef"
std::string fingerprint(const Dataset& dataset);

/// Tells data sets of the same names apart: a hash over up to 16 evenly spread examples, images and
/// captions. Those that the data set makes itself count by their captions alone.
std::string content_fingerprint(const Dataset& dataset);

}  // namespace dalle
