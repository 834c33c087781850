#include "experiment/config/experiment_config.h"

#include <algorithm>
#include <bit>
#include <sstream>
#include <utility>

#include <fmt/format.h>

#include "core/ascii.h"
#include "core/log.h"
#include "data/code_cache.h"

namespace dalle {
namespace {

constexpr size_t kMaxNameLength = 200;  // file systems allow 255 bytes; a time may be appended

bool is_plain_folder_name(const std::string& name) {
  const bool has_control = std::ranges::any_of(name, [](char c) {
    const auto byte = static_cast<unsigned char>(c);
    return byte < 0x20 || byte == 0x7f;
  });
  return !is_blank(name) && name != "." && name != ".." && name.find('/') == name.npos &&
         !has_control && name.front() != ' ' && name.back() != ' ' && name.front() != '-' &&
         name.size() <= kMaxNameLength;
}

void check_data(const ExperimentConfig& config, ConfigUse use, const ConfigChecks& checks) {
  const DataConfig& data = config.data;
  checks.require(
      data.kind == DatasetKind::kShapes || use == ConfigUse::kShow || !is_blank(data.path),
      "data.path", {"data.kind"},
      "found no path, expected the path of the images, since data.kind is {}",
      to_string(data.kind));
  data.validate(checks.of("data"));
}

void check_dvae(const ExperimentConfig& config, const ConfigChecks& checks) {
  const int64_t groups = config.dvae.model.groups;
  const int64_t factor = int64_t{1} << (groups - 1);
  checks.require(
      config.data.image_size % factor == 0, "data.image_size", {"dvae.model.groups"},
      "found {}, expected a multiple of {}, the downsampling factor (dvae.model.groups is "
      "{})",
      config.data.image_size, factor, groups);
  checks.require(config.dvae.checkpoint.empty() || config.from.checkpoint.empty(),
                 "dvae.checkpoint", {"from.checkpoint"},
                 "found {}; must not be set together with from.checkpoint, which has its own dVAE",
                 config.dvae.checkpoint);
  config.dvae.validate(checks.of("dvae"));
}

void check_dalle(const ExperimentConfig& config, const ConfigChecks& checks) {
  config.dalle.validate(checks.of("dalle"));
  const TransformerConfig& model = config.dalle.model;
  const int64_t grid = config.dvae.model.grid_size(config.data.image_size);
  checks.require(!model.uses_conv() || grid < 1 || model.conv_kernel <= 2 * grid - 1,
                 "dalle.model.conv_kernel", {"data.image_size", "dvae.model.groups"},
                 "found {}, expected at most {}, which spans the {}x{} grid of codes",
                 model.conv_kernel, 2 * grid - 1, grid, grid);
  const BottleneckKind bottleneck = config.dvae.model.bottleneck;
  checks.require(
      config.dalle.image_tokens == ImageTokens::kArgmax || bottleneck == BottleneckKind::kGumbel,
      "dalle.image_tokens", {"dvae.model.bottleneck"},
      "found sample, expected argmax, since dvae.model.bottleneck is {}, which has no "
      "distribution to sample from",
      to_string(bottleneck));
  checks.require(
      !config.dalle.cache_codes || config.dvae.model.vocab_size <= kMaxCachedVocabulary,
      "dalle.cache_codes", {"dvae.model.vocab_size"},
      "found true, expected false, since dvae.model.vocab_size is {} and the cache holds codes "
      "below {}",
      config.dvae.model.vocab_size, kMaxCachedVocabulary);
}

void check_clip(const ExperimentConfig& config, const ConfigChecks& checks) {
  if (!config.clip) return;
  config.clip->validate(checks.of("clip"));
  const int64_t patch = config.clip->model.patch_size;
  checks.require(config.data.image_size % patch == 0, "clip.model.patch_size", {"data.image_size"},
                 "found {}, expected a divisor of data.image_size, which is {}", patch,
                 config.data.image_size);
}

void check_sampling(const ExperimentConfig& config, const ConfigChecks& checks) {
  config.sample.validate(checks.of("sample"));
  const int64_t most = config.layout().max_caption_tokens();
  for (size_t i = 0; i < config.sample.captions.size(); ++i) {
    std::istringstream caption(config.sample.captions[i]);
    int64_t words = 0;
    for (std::string word; caption >> word;) ++words;
    checks.require(words <= most, fmt::format("sample.captions[{}]", i),
                   {"dalle.model.text_length"},
                   "found {} words, expected at most {}, the tokens that fit into "
                   "dalle.model.text_length with start-of-text",
                   words, most);
  }
}

void check_distributed(const ExperimentConfig& config, const ConfigChecks& checks) {
  const DistributedConfig& distributed = config.distributed;
  distributed.validate(checks.of("distributed"));
  for (const auto& [stage, train] : config.trained_stages()) {
    const std::string key = fmt::format("{}.train", to_string(stage));
    checks.require(
        !distributed.shard_optimizer || train->optimizer == OptimizerKind::kAdamW,
        "distributed.shard_optimizer", {key + ".optimizer"},
        "found true, expected false, since {}.optimizer is {}, which needs whole matrices", key,
        to_string(train->optimizer));
    const int64_t size = train->micro_batch_size;
    checks.require(
        !distributed.bitwise ||
            (size > 0 && std::has_single_bit(static_cast<uint64_t>(train->batch_size / size))),
        key + ".micro_batch_size", {key + ".batch_size", "distributed.bitwise"},
        "found {}, expected {}.batch_size, which is {}, divided by a power of two, since "
        "distributed.bitwise is true",
        size, key, train->batch_size);
  }
}

}  // namespace

void DalleStageConfig::validate(const ConfigChecks& checks) const {
  model.validate(checks.of("model"));
  train.validate(checks.of("train"));
  checks.require(!cache_codes || crops_per_image >= 1, "cache_codes", {"crops_per_image"},
                 "found true, expected false, since {} is 0: fresh crops cannot be cached",
                 checks.path("crops_per_image"));
  checks.require(!cache_codes || image_tokens == ImageTokens::kArgmax, "cache_codes",
                 {"image_tokens"},
                 "found true, expected false, since {} is sample: fresh samples cannot be cached",
                 checks.path("image_tokens"));
}

void SampleStageConfig::validate(const ConfigChecks& checks) const {
  SamplingConfig::validate(checks);
  for (size_t i = 0; i < captions.size(); ++i)
    checks.require(!is_blank(captions[i]), fmt::format("captions[{}]", i), {},
                   "found an empty caption, expected words");
}

std::vector<ConfigConflict> validate(const ExperimentConfig& config, ConfigUse use) {
  std::vector<ConfigConflict> conflicts;
  const ConfigChecks checks(conflicts);
  checks.require(is_plain_folder_name(config.name), "name", {},
                 "found \"{}\", expected the plain name of a folder: no slash, no control "
                 "characters, no leading space or hyphen, at most {} bytes",
                 config.name, kMaxNameLength);
  config.from.validate(checks.of("from"));
  check_data(config, use, checks);
  check_dvae(config, checks);
  check_dalle(config, checks);
  check_clip(config, checks);
  check_sampling(config, checks);
  check_distributed(config, checks);
  return conflicts;
}

void warn_of_untrained_guidance(const ExperimentConfig& config, const SamplingConfig& sampling) {
  if (sampling.guidance == 1 || config.dalle.train.caption_dropout > 0) return;
  log_warning(
      "guidance is {}, but dalle.train.caption_dropout is 0: the model has not learned images "
      "without a caption, so guidance may make images worse",
      sampling.guidance);
}

}  // namespace dalle
