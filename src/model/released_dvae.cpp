#include "model/released_dvae.h"

#include <algorithm>
#include <array>
#include <map>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "core/error.h"
#include "tensor/torch_tensors.h"

namespace dalle {
namespace {

namespace fs = std::filesystem;

constexpr std::string_view kEncoder = "encoder.", kDecoder = "decoder.";
constexpr std::string_view kInput = "blocks.input.w";

/// Parts of FLAVA's names, and of OpenAI's.
constexpr std::array<std::pair<std::string_view, std::string_view>, 4> kFlavaNames = {
    {{".group.block_", ".block_"},
     {".res_path.path.", ".res_path."},
     {".weight", ".w"},
     {".bias", ".b"}}};

std::string openai_name(std::string name) {
  for (const auto& [flava, openai] : kFlavaNames)
    if (const size_t at = name.find(flava); at != name.npos) name.replace(at, flava.size(), openai);
  return name;
}

/// The tensors and the modules' numbers of all files, by their names in a DiscreteVae.
struct Parts {
  std::map<std::string, at::Tensor> tensors;
  std::vector<double> post_gains;

  bool has(std::string_view part) const {
    return tensors.contains(fmt::format("{}{}", part, kInput));
  }

  /// @throws dalle::Error if there is no such tensor, or it is empty or not four-dimensional
  int64_t size(const std::string& name, int64_t dimension) const {
    const auto found = tensors.find(name);
    if (found == tensors.end() || found->second.dim() != 4 || found->second.numel() == 0)
      throw Error("expected a tensor {} of four dimensions that is not empty", name);
    return found->second.size(dimension);
  }
};

/// Which of the two a file has whose names do not say it: their first convolutions are 7x7 and 1x1.
std::string_view part_of(const std::string& source, const NamedTensors& tensors) {
  for (const auto& [name, tensor] : tensors)
    if (openai_name(name) == kInput && tensor.dim() == 4)
      return tensor.size(2) == 1 ? kDecoder : kEncoder;
  throw Error("{}: expected the encoder or decoder of OpenAI's dVAE, found no tensor {}", source,
              kInput);
}

void add_file(const fs::path& path, Parts& parts) {
  const std::string source = path.string();
  const ForeignTensors file = read_foreign_tensors(path);
  for (const auto& [name, number] : file.numbers)
    if (name.ends_with(".post_gain")) parts.post_gains.push_back(number);
  const auto says_part = [](const std::string& name) {
    return name.starts_with(kEncoder) || name.starts_with(kDecoder);
  };
  std::string_view part;
  for (const auto& [name, tensor] : file.tensors) {
    if (!says_part(name) && part.empty()) part = part_of(source, file.tensors);
    std::string full = says_part(name) ? name : fmt::format("{}{}", part, name);
    full = openai_name(std::move(full));
    if (!parts.tensors.emplace(full, tensor).second)
      throw Error("{}: found {} a second time; expected one encoder and one decoder", source, full);
  }
}

/// How many of NAME1, NAME2, ... begin the name of a tensor.
int64_t count(const Parts& parts, const std::string& name) {
  int64_t found = 0;
  for (;; ++found) {
    const std::string prefix = fmt::format("{}{}.", name, found + 1);
    const auto next = parts.tensors.lower_bound(prefix);
    if (next == parts.tensors.end() || !next->first.starts_with(prefix)) return found;
  }
}

void check_range(const char* what, int64_t found, int64_t least, int64_t most) {
  if (found < least || found > most)
    throw Error("found {} {}, expected {} to {}", found, what, least, most);
}

/// The shapes' config, within the ranges of DiscreteVaeConfig::fields().
DiscreteVaeConfig config_of(const Parts& parts) {
  DiscreteVaeConfig config{.groups = count(parts, "encoder.blocks.group_"),
                           .blocks_per_group = count(parts, "encoder.blocks.group_1.block_"),
                           .hidden = parts.size("encoder.blocks.input.w", 0),
                           .vocab_size = parts.size("encoder.blocks.output.conv.w", 0),
                           .codebook_width = parts.size("decoder.blocks.input.w", 0)};
  check_range("groups", config.groups, 1, 7);
  check_range("blocks per group", config.blocks_per_group, 1, 16);
  check_range("codes", config.vocab_size, 2, 65536);
  if (config.hidden % 4 != 0)
    throw Error("found {} channels, expected a multiple of 4", config.hidden);
  for (const double gain : parts.post_gains)
    if (!(gain > 0 && gain <= 1))
      throw Error("found a post_gain of {}, expected more than 0 and at most 1", gain);
  if (!parts.post_gains.empty() && parts.post_gains.front() != config.residual_gain())
    config.post_gain = parts.post_gains.front();
  if (std::ranges::any_of(parts.post_gains,
                          [&](double gain) { return gain != config.residual_gain(); }))
    throw Error("found blocks of different post_gain, expected the same in all");
  return config;
}

/// Sizes that the tensors contradict could need any amount of memory.
void check_size(const DiscreteVaeConfig& config, const Parts& parts) {
  double expected = 0, found = 0;
  const DvaeConvolutions convolutions = dvae_convolutions(config, /*image_size=*/1);
  for (const auto* list : {&convolutions.encoder, &convolutions.decoder})
    for (const ConvolutionShape& shape : *list)
      expected += static_cast<double>(shape.in_channels) * static_cast<double>(shape.out_channels) *
                  static_cast<double>(shape.kernel * shape.kernel);
  for (const auto& [name, tensor] : parts.tensors) found += static_cast<double>(tensor.numel());
  if (expected > 2 * found)
    throw Error(
        "found {:.0f} weights, but a dVAE of {} groups of {} blocks, {} channels and {} "
        "codes has {:.0f}",
        found, config.groups, config.blocks_per_group, config.hidden, config.vocab_size, expected);
}

}  // namespace

DiscreteVae read_released_dvae(std::span<const fs::path> files) {
  std::vector<std::string> names;
  Parts parts;
  for (const fs::path& file : files) {
    names.push_back(file.string());
    add_file(file, parts);
  }
  const std::string source = fmt::format("{}", fmt::join(names, " and "));
  if (parts.has(kEncoder) && !parts.has(kDecoder))
    throw Error(
        "{}: found an encoder alone, but a dVAE also needs a decoder: add its file "
        "(FLAVA's encoder is OpenAI's, so OpenAI's decoder.pkl fits)",
        source);
  if (!parts.has(kEncoder))
    throw Error("{}: found no encoder, expected {}{}", source, kEncoder, kInput);
  DiscreteVaeConfig config;
  try {
    config = config_of(parts);
    check_size(config, parts);
  } catch (const Error& error) {
    throw Error("{}: not a dVAE of the released classes: {}", source, error.what());
  }
  DiscreteVae vae(config);
  load_weights(*vae, NamedTensors(parts.tensors.begin(), parts.tensors.end()), source);
  return vae;
}

}  // namespace dalle
