#pragma once

#include <cstdint>
#include <string>

#include "dist/process_group.h"

namespace dalle {

/// Checks that all ranks have the same text.
///
/// @param what  what the text is, for the error: "config"
/// @throws dalle::Error on every rank, naming the first rank whose text differs from rank 0's and
///         the first line that differs
void check_agreement(ProcessGroup& group, const std::string& what, const std::string& text);

/// The number of ranks whose text is that of this rank, itself included. Collective.
int64_t count_agreeing(ProcessGroup& group, const std::string& text);

}  // namespace dalle
