#pragma once

#include <string>

#include "dalle/data/dataset.h"

namespace dalle {

/// Tells a data set from another: how many samples it has and a hash over their keys, in order. The
/// pictures themselves are not read, so a picture that was replaced under its own name passes.
/// @return a line of text such as "3000 pictures, names 0f3a5c7712ab90ef"
std::string fingerprint(const Dataset& dataset);

}  // namespace dalle
