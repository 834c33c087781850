#pragma once

#include "command_line.h"
#include "sample/sampling_overrides.h"

namespace dalle {

void add_sampling_options(CLI::App& app, SamplingOverrides& options);

}  // namespace dalle
