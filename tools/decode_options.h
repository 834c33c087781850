#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "command_line.h"
#include "sample/decode_config.h"

namespace dalle {

/// Command-line options for how images are generated, which does not change them on a CPU.
struct DecodeOptions {
  std::optional<int64_t> batch_size;
  std::string decode;
  std::optional<int64_t> window;
};

void add_decode_options(CLI::App& app, DecodeOptions& options);

/// @param decode  of the model's config
DecodeConfig override_decoding(DecodeConfig decode, const DecodeOptions& options);

}  // namespace dalle
