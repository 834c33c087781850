#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "core/config/config_checks.h"
#include "core/fields.h"
#include "core/sequence_layout.h"
#include "data/data_config.h"
#include "data/text/tokenizer_config.h"
#include "dist/distributed_config.h"
#include "experiment/config/stages.h"
#include "model/clip_config.h"
#include "model/discrete_vae_config.h"
#include "model/transformer_config.h"
#include "sample/decode_config.h"
#include "sample/sampling_config.h"
#include "train/train_config.h"

namespace dalle {

/// How images become image tokens for the transformer.
enum class ImageTokens { kArgmax, kSample };

constexpr auto enum_names(ImageTokens) {
  return names_in_order<ImageTokens>("argmax", "sample");
}

/// Which checkpoint of the finished dVAE turns images into image tokens.
enum class DvaeCheckpoint { kBest, kLast };

constexpr auto enum_names(DvaeCheckpoint) {
  return names_in_order<DvaeCheckpoint>("best", "last");
}

/// Fine-tuning: the trained models whose weights a run begins with.
struct FromConfig {
  std::string checkpoint = "";
  std::string checkpoint_sha256 = "";
  std::string clip_checkpoint = "";
  std::string clip_checkpoint_sha256 = "";

  bool operator==(const FromConfig&) const = default;

  void validate(const ConfigChecks& checks) const {
    const auto require = [&](bool holds, const char* key, const char* needed,
                             const std::string& found) {
      checks.require(holds, key, {needed}, "found {}; must not be set without {}", found,
                     checks.path(needed));
    };
    require(checkpoint_sha256.empty() || !checkpoint.empty(), "checkpoint_sha256", "checkpoint",
            checkpoint_sha256);
    require(clip_checkpoint.empty() || !checkpoint.empty(), "clip_checkpoint", "checkpoint",
            clip_checkpoint);
    require(clip_checkpoint_sha256.empty() || !clip_checkpoint.empty(), "clip_checkpoint_sha256",
            "clip_checkpoint", clip_checkpoint_sha256);
  }

  template <class Self, class Visitor>
  static void fields(Self& self, Visitor&& visit) {
    visit("checkpoint", self.checkpoint,
          {.help = "same as dalle-train --from: a finished run or a checkpoint of the dalle stage, "
                   "whose tokenizer is kept and whose dVAE and transformer initialize the run; or "
                   "a checkpoint of the dvae stage, for the dVAE only. Recorded as the "
                   "checkpoint's folder; empty: random initialization",
           .may_change = true,
           .may_differ_between_ranks = true});
    visit("checkpoint_sha256", self.checkpoint_sha256,
          {.help = "SHA-256 of that checkpoint's manifest, which is recorded when the config is "
                   "loaded; if it is given, it must match"});
    visit("clip_checkpoint", self.clip_checkpoint,
          {.help = "the contrastive model that initializes the clip stage; empty: that of the run "
                   "that from.checkpoint belongs to or, if it has none, random initialization",
           .may_change = true,
           .may_differ_between_ranks = true});
    visit("clip_checkpoint_sha256", self.clip_checkpoint_sha256,
          {.help = "SHA-256 of the manifest of from.clip_checkpoint, which is recorded when the "
                   "config is loaded; if it is given, it must match"});
  }
};

struct DvaeStageConfig {
  DiscreteVaeConfig model;
  DvaeTrainConfig train;
  std::string checkpoint = "";
  std::string checkpoint_sha256 = "";
  bool freeze = true;

  bool operator==(const DvaeStageConfig&) const = default;

  void validate(const ConfigChecks& checks) const {
    model.validate(checks.of("model"));
    train.validate(checks.of("train"));
    checks.require(checkpoint_sha256.empty() || !checkpoint.empty(), "checkpoint_sha256",
                   {"checkpoint"}, "found {}; must not be set without {}", checkpoint_sha256,
                   checks.path("checkpoint"));
  }

  template <class Self, class Visitor>
  static void fields(Self& self, Visitor&& visit) {
    visit("model", self.model, {.help = "shape of the dVAE"});
    visit("train", self.train, {.help = "training of the dVAE"});
    visit("checkpoint", self.checkpoint,
          {.help = "a trained dVAE to use instead of training one: a finished run, a checkpoint of "
                   "a dvae stage, or what dalle-import wrote. It also sets dvae.model. Recorded as "
                   "the folder of the checkpoint; empty: train one",
           .may_change = true,
           .may_differ_between_ranks = true});
    visit(
        "checkpoint_sha256", self.checkpoint_sha256,
        {.help = "SHA-256 of the weights in that checkpoint, which is recorded when the config is "
                 "loaded; if it is given, it must match"});
    visit("freeze", self.freeze,
          {.help = "with from.checkpoint: keep its dVAE as it is and skip this stage, since its "
                   "codes are the transformer's vocabulary; false: train it further. Without "
                   "from.checkpoint: no effect"});
  }
};

struct DalleStageConfig {
  TransformerConfig model;
  DalleTrainConfig train;
  DvaeCheckpoint dvae_checkpoint = DvaeCheckpoint::kBest;
  ImageTokens image_tokens = ImageTokens::kArgmax;
  int64_t crops_per_image = 0;
  bool cache_codes = false;

  bool operator==(const DalleStageConfig&) const = default;

  void validate(const ConfigChecks& checks) const;

  template <class Self, class Visitor>
  static void fields(Self& self, Visitor&& visit) {
    visit("model", self.model, {.help = "shape of the transformer"});
    visit("train", self.train, {.help = "training of the transformer"});
    visit(
        "dvae_checkpoint", self.dvae_checkpoint,
        {.help = "the dVAE that encodes image tokens: best, the checkpoint with the highest PSNR "
                 "of validation images reconstructed from hard codes; or last. A resumed run keeps "
                 "the one it started with",
         .paper = "not stated"});
    visit("image_tokens", self.image_tokens,
          {.help = "argmax of the dVAE's distribution, or a sample of it",
           .paper = "argmax (section 2.2)"});
    visit("crops_per_image", self.crops_per_image,
          {.help = "number of fixed random crops per image, one of which is chosen each epoch; 0: "
                   "a new random crop every epoch",
           .min = 0,
           .max = 64,
           .paper = "0",
           .formerly = "crops_per_picture"});
    visit("cache_codes", self.cache_codes,
          {.help = "compute the image tokens once, into the run folder; needs crops_per_image of "
                   "at least 1 and argmax",
           .may_change = true});
  }
};

struct ClipStageConfig {
  ClipConfig model;
  ClipTrainConfig train;

  bool operator==(const ClipStageConfig&) const = default;

  void validate(const ConfigChecks& checks) const {
    model.validate(checks.of("model"));
    train.validate(checks.of("train"));
  }

  template <class Self, class Visitor>
  static void fields(Self& self, Visitor&& visit) {
    visit("model", self.model, {.help = "shape of the contrastive model"});
    visit("train", self.train, {.help = "training of the contrastive model"});
  }
};

struct SampleStageConfig : SamplingConfig, DecodeConfig {
  std::vector<std::string> captions;
  int64_t count = 4;

  bool operator==(const SampleStageConfig&) const = default;

  void validate(const ConfigChecks& checks) const;

  template <class Self, class Visitor>
  static void fields(Self& self, Visitor&& visit) {
    SamplingConfig::fields(self, visit);
    DecodeConfig::fields(self, visit);
    visit("captions", self.captions,
          {.help = "captions of the sample images during training; empty: captions of validation "
                   "samples"});
    visit("count", self.count, {.help = "images per caption", .min = 1, .max = 512});
  }
};

/// A whole experiment: one YAML file. Its defaults are the paper's.
struct ExperimentConfig {
  std::string name = "experiment";
  int64_t seed = 1;
  FromConfig from;
  DataConfig data;
  TokenizerConfig tokenizer;
  DvaeStageConfig dvae;
  DalleStageConfig dalle;
  std::optional<ClipStageConfig> clip;
  SampleStageConfig sample;
  DistributedConfig distributed;

  /// The layout of the transformer's sequences.
  SequenceLayout layout() const {
    const int64_t grid = dvae.model.grid_size(data.image_size);
    return {.text_length = dalle.model.text_length, .grid_height = grid, .grid_width = grid};
  }

  /// Whether there is a dvae stage, or else a dVAE that was trained elsewhere.
  bool trains_dvae() const {
    return dvae.checkpoint.empty() && (from.checkpoint.empty() || !dvae.freeze);
  }

  /// The settings of each stage that trains a network, in the order in which they run.
  std::vector<std::pair<Stage, const TrainConfig*>> trained_stages() const {
    std::vector<std::pair<Stage, const TrainConfig*>> stages;
    if (trains_dvae()) stages.emplace_back(Stage::kDvae, &dvae.train);
    stages.emplace_back(Stage::kDalle, &dalle.train);
    if (clip) stages.emplace_back(Stage::kClip, &clip->train);
    return stages;
  }

  bool operator==(const ExperimentConfig&) const = default;

  template <class Self, class Visitor>
  static void fields(Self& self, Visitor&& visit) {
    visit("name", self.name, {.help = "names the run folder, runs/<name>", .may_change = true});
    visit("seed", self.seed, {.help = "random seed", .min = 0});
    visit("from", self.from, {.help = "the trained models that initialize the weights"});
    visit("data", self.data, {.help = "images and captions"});
    visit("tokenizer", self.tokenizer, {.help = "captions to tokens"});
    visit("dvae", self.dvae, {.help = "the first stage: images to codes"});
    visit("dalle", self.dalle, {.help = "the second stage: captions and codes"});
    visit("clip", self.clip,
          {.help = "the contrastive model that ranks generated images by how well they fit their "
                   "captions; null: none is trained"});
    visit("sample", self.sample,
          {.help = "sample images during training, and defaults of dalle-sample",
           .may_change = true});
    visit("distributed", self.distributed, {.help = "training on several ranks"});
  }
};

/// Whether an experiment is to be run or only shown, which needs no data.
enum class ConfigUse { kTrain, kShow };

/// What the structs require of themselves, see ConfigChecks, and of one another. Looks at the
/// config alone, never at the disk.
///
/// @return  every conflict; empty if the experiment can be run
std::vector<ConfigConflict> validate(const ExperimentConfig& config,
                                     ConfigUse use = ConfigUse::kTrain);

/// Warns if `sampling` guides a model whose training showed it no images without captions.
void warn_of_untrained_guidance(const ExperimentConfig& config, const SamplingConfig& sampling);

}  // namespace dalle
