#pragma once

#include <cstdint>
#include <optional>

#include "command_line.h"
#include "sample/decode_config.h"
#include "sample/sampling_config.h"

namespace dalle {

/// Adds the options that decide which images are generated.
void add_sampling_options(CLI::App& app, SamplingOverrides& options);

/// Command-line options for how images are generated, which does not change them on a CPU.
struct DecodeOptions {
  std::optional<int64_t> batch_size;
  std::optional<DecodeMode> decode;
  std::optional<int64_t> window;
};

void add_decode_options(CLI::App& app, DecodeOptions& options);

/// @param decode  of the model's config
DecodeConfig override_decoding(DecodeConfig decode, const DecodeOptions& options);

}  // namespace dalle
