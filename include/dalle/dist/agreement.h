#pragma once

#include <string>

#include "dalle/dist/process_group.h"

namespace dalle {

/// Compares a text of this rank with those of the others: all must be the same.
///
/// @param what  names it in the error: "config"
/// @throws dalle::Error, on every rank, naming the first rank that has another text than the first
///         one, with the first line that differs
void check_agreement(ProcessGroup& group, const std::string& what, const std::string& text);

}  // namespace dalle
