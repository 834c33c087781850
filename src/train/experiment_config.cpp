#include "dalle/train/experiment_config.h"

#include <algorithm>
#include <bit>
#include <set>
#include <sstream>
#include <utility>

#include "dalle/core/config_io.h"
#include "dalle/core/is_blank.h"
#include "dalle/data/code_cache.h"

namespace dalle {
namespace {

constexpr size_t kMaxNameLength = 200;  // file systems allow 255 bytes; a time may be appended

/// Collects the conflicts of one config.
class Checks {
 public:
  /// Notes a conflict unless `holds`.
  template <class... Args>
  void require(bool holds, std::string key, std::vector<std::string> involves,
               fmt::format_string<Args...> message, Args&&... args) {
    if (holds) return;
    conflicts_.push_back(
        {std::move(key), fmt::format(message, std::forward<Args>(args)...), std::move(involves)});
  }

  std::vector<ConfigConflict> take() { return std::move(conflicts_); }

 private:
  std::vector<ConfigConflict> conflicts_;
};

bool is_plain_folder_name(const std::string& name) {
  const bool has_control = std::ranges::any_of(name, [](char c) {
    const auto byte = static_cast<unsigned char>(c);
    return byte < 0x20 || byte == 0x7f;
  });
  return !is_blank(name) && name != "." && name != ".." && name.find('/') == name.npos &&
         !has_control && name.front() != ' ' && name.back() != ' ' && name.front() != '-' &&
         name.size() <= kMaxNameLength;
}

template <class T>
bool has_duplicates(const std::vector<T>& values) {
  return std::set<T>(values.begin(), values.end()).size() < values.size();
}

void check_shapes(const ShapesConfig& shapes, Checks& checks) {
  checks.require(shapes.min_objects <= shapes.max_objects, "data.shapes.min_objects",
                 {"data.shapes.max_objects"},
                 "found {}, expected at most data.shapes.max_objects, which is {}",
                 shapes.min_objects, shapes.max_objects);
  const auto require_distinct = [&](const auto& values, const char* key) {
    checks.require(!has_duplicates(values), key, {},
                   "found a name twice, expected each at most once");
  };
  require_distinct(shapes.shapes, "data.shapes.shapes");
  require_distinct(shapes.colors, "data.shapes.colors");
  require_distinct(shapes.sizes, "data.shapes.sizes");
  require_distinct(shapes.textures, "data.shapes.textures");
  require_distinct(shapes.backgrounds, "data.shapes.backgrounds");
}

void check_data(const ExperimentConfig& config, ConfigUse use, Checks& checks) {
  const DataConfig& data = config.data;
  if (data.kind == DatasetKind::kShapes) {
    check_shapes(data.shapes, checks);
  } else {
    checks.require(use == ConfigUse::kShow || !is_blank(data.path), "data.path", {"data.kind"},
                   "found no path, expected where the pictures are, since data.kind is {}",
                   to_string(data.kind));
    checks.require(!data.validation_path.empty() || data.validation_fraction > 0,
                   "data.validation_fraction", {"data.validation_path"},
                   "found 0, expected more, since no data.validation_path is given");
  }
}

void check_schedule(const Schedule& schedule, const std::string& key, bool may_be_zero,
                    Checks& checks) {
  for (const auto& [value, name] : {std::pair{schedule.from, ".from"}, {schedule.to, ".to"}})
    checks.require(may_be_zero ? value >= 0 : value > 0, key + name, {}, "found {}, expected {}",
                   value, may_be_zero ? "0 or more" : "more than 0");
}

void check_training(const TrainConfig& train, const std::string& key, Checks& checks) {
  checks.require(train.micro_batch_size == 0 || train.batch_size % train.micro_batch_size == 0,
                 key + ".micro_batch_size", {key + ".batch_size"},
                 "found {}, expected a divisor of {}.batch_size, which is {}",
                 train.micro_batch_size, key, train.batch_size);
  for (const auto& [value, name] : {std::pair{train.beta1, ".beta1"},
                                    {train.beta2, ".beta2"},
                                    {train.average_decay, ".average_decay"}})
    checks.require(value < 1, key + name, {}, "found {}, expected less than 1", value);
  checks.require(train.epsilon > 0, key + ".epsilon", {}, "found 0, expected more than 0");
  checks.require(train.plateau.factor > 0 && train.plateau.factor < 1, key + ".plateau.factor", {},
                 "found {}, expected more than 0 and less than 1", train.plateau.factor);
  check_schedule(train.decay, key + ".decay", true, checks);
}

void check_dvae(const ExperimentConfig& config, Checks& checks) {
  const DiscreteVaeConfig& model = config.dvae.model;
  const int64_t factor = int64_t{1} << (model.groups - 1);
  checks.require(config.data.image_size % factor == 0, "data.image_size", {"dvae.model.groups"},
                 "found {}, expected a multiple of {}, by which the {} groups of dvae.model shrink "
                 "a picture",
                 config.data.image_size, factor, model.groups);
  checks.require(model.hidden % 4 == 0, "dvae.model.hidden", {},
                 "found {}, expected a multiple of 4", model.hidden);
  checks.require(!model.post_gain || *model.post_gain > 0, "dvae.model.post_gain", {},
                 "found 0, expected more than 0 or null");
  checks.require(!model.codebook_init_std || *model.codebook_init_std > 0,
                 "dvae.model.codebook_init_std", {}, "found 0, expected more than 0 or null");
  check_training(config.dvae.train, "dvae.train", checks);
  check_schedule(config.dvae.train.temperature, "dvae.train.temperature", false, checks);
  check_schedule(config.dvae.train.kl_weight, "dvae.train.kl_weight", true, checks);
}

bool uses_conv(const TransformerConfig& model) {
  return model.last_attention == AttentionKind::kConv ||
         std::ranges::find(model.attention, AttentionKind::kConv) != model.attention.end();
}

void check_dalle(const ExperimentConfig& config, Checks& checks) {
  const TransformerConfig& model = config.dalle.model;
  checks.require(model.width % model.heads == 0, "dalle.model.heads", {"dalle.model.width"},
                 "found {}, expected a divisor of dalle.model.width, which is {}", model.heads,
                 model.width);
  checks.require(!model.attention.empty(), "dalle.model.attention", {},
                 "found an empty list, expected at least one mask");
  checks.require(model.conv_kernel % 2 == 1, "dalle.model.conv_kernel", {},
                 "found {}, expected an odd number", model.conv_kernel);
  const int64_t grid = config.dvae.model.grid_size(config.data.image_size);
  checks.require(!uses_conv(model) || grid < 1 || model.conv_kernel <= 2 * grid - 1,
                 "dalle.model.conv_kernel", {"data.image_size", "dvae.model.groups"},
                 "found {}, expected at most {}, which spans the {}x{} grid of codes",
                 model.conv_kernel, 2 * grid - 1, grid, grid);
  if (config.dalle.cache_codes) {
    checks.require(config.dalle.crops_per_picture >= 1, "dalle.cache_codes",
                   {"dalle.crops_per_picture"},
                   "found true, expected false, since dalle.crops_per_picture is 0: fresh crops "
                   "cannot be cached");
    checks.require(config.dalle.image_tokens == ImageTokens::kArgmax, "dalle.cache_codes",
                   {"dalle.image_tokens"},
                   "found true, expected false, since dalle.image_tokens is sample: fresh samples "
                   "cannot be cached");
    checks.require(config.dvae.model.vocab_size <= kMaxCachedVocabulary, "dalle.cache_codes",
                   {"dvae.model.vocab_size"},
                   "found true, expected false, since dvae.model.vocab_size is {} and the cache "
                   "holds codes below {}",
                   config.dvae.model.vocab_size, kMaxCachedVocabulary);
  }
  check_training(config.dalle.train, "dalle.train", checks);
}

void check_sampling(const ExperimentConfig& config, Checks& checks) {
  checks.require(config.sample.top_p > 0, "sample.top_p", {}, "found 0, expected more than 0");
  const int64_t most = config.layout().max_caption_tokens();
  for (size_t i = 0; i < config.sample.captions.size(); ++i) {
    const std::string key = fmt::format("sample.captions[{}]", i);
    checks.require(!is_blank(config.sample.captions[i]), key, {},
                   "found an empty caption, expected words");
    std::istringstream caption(config.sample.captions[i]);
    int64_t words = 0;
    for (std::string word; caption >> word;) ++words;
    checks.require(words <= most, key, {"dalle.model.text_length"},
                   "found {} words, expected at most {}, the tokens that fit beside start-of-text "
                   "into dalle.model.text_length",
                   words, most);
  }
}

void check_distributed(const ExperimentConfig& config, Checks& checks) {
  const DistributedConfig& distributed = config.distributed;
  checks.require(!distributed.exact || distributed.reduce_dtype == ReduceType::kFloat32,
                 "distributed.reduce_dtype", {"distributed.exact"},
                 "found {}, expected float32, since distributed.exact is true",
                 to_string(distributed.reduce_dtype));
  for (const auto& [key, train] :
       {std::pair<std::string, const TrainConfig&>{"dvae.train", config.dvae.train},
        {"dalle.train", config.dalle.train}}) {
    checks.require(
        !distributed.shard_optimizer || train.optimizer == OptimizerKind::kAdamW,
        "distributed.shard_optimizer", {key + ".optimizer"},
        "found true, expected false, since {}.optimizer is {}, which needs whole matrices", key,
        to_string(train.optimizer));
    if (!distributed.exact) continue;
    const int64_t size = train.micro_batch_size;
    checks.require(
        size > 0 && std::has_single_bit(static_cast<uint64_t>(train.batch_size / size)),
        key + ".micro_batch_size", {key + ".batch_size", "distributed.exact"},
        "found {}, expected {}.batch_size, which is {}, divided by a power of two, since "
        "distributed.exact is true",
        size, key, train.batch_size);
  }
}

/// Adds the conflicts of the config that was read to the problems of reading it.
ExperimentConfig finish(ConfigReading reading, std::string_view source, ConfigUse use) {
  ExperimentConfig config;
  apply(reading, config);
  if (reading.is_empty) {
    reading.problems.push_back(
        {std::string(source), "",
         "found no keys (empty, or only comments), expected the YAML of an experiment"});
  } else if (reading.is_readable) {
    std::set<std::string, std::less<>> wrong;
    for (const ConfigProblem& problem : reading.problems) wrong.insert(problem.key);
    for (ConfigConflict& conflict : validate(config, use)) {
      const auto is_wrong = [&](const std::string& key) { return wrong.contains(key); };
      if (is_wrong(conflict.key) || std::ranges::any_of(conflict.involves, is_wrong)) continue;
      std::string place = reading.place_of(conflict.key);
      for (const std::string& key : conflict.involves)
        if (place.empty()) place = reading.place_of(key);
      if (place.empty()) place = source;
      reading.problems.push_back(
          {std::move(place), std::move(conflict.key), std::move(conflict.message)});
    }
  }
  reading.throw_problems();
  return config;
}

}  // namespace

std::vector<ConfigConflict> validate(const ExperimentConfig& config, ConfigUse use) {
  Checks checks;
  checks.require(is_plain_folder_name(config.name), "name", {},
                 "found \"{}\", expected the plain name of a folder: no slash, no control "
                 "characters, no space or minus at its start, at most {} bytes",
                 config.name, kMaxNameLength);
  check_data(config, use, checks);
  check_dvae(config, checks);
  check_dalle(config, checks);
  check_sampling(config, checks);
  check_distributed(config, checks);
  return checks.take();
}

ExperimentConfig load_experiment(const std::filesystem::path& path,
                                 std::span<const std::string> overrides, ConfigUse use) {
  return finish(read_config_file(config_schema<ExperimentConfig>(), path, overrides), path.string(),
                use);
}

ExperimentConfig load_experiment_text(const std::string& text, std::string_view source,
                                      std::span<const std::string> overrides, ConfigUse use) {
  return finish(read_config_text(config_schema<ExperimentConfig>(), text, source, overrides),
                source, use);
}

}  // namespace dalle
