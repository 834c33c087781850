#pragma once

#include <array>
#include <cstdint>
#include <string_view>
#include <utility>

#include "core/config/config_checks.h"
#include "core/fields.h"
#include "core/schedule.h"
#include "optim/optimizer.h"
#include "tensor/precision.h"

namespace dalle {

/// Reduces the learning rate whenever the training loss stops falling.
/// Source: Ramesh et al. 2021, appendix B.2; how a plateau is recognized is not stated
struct PlateauConfig {
  int64_t patience = 0;
  double threshold = 1e-3;
  double factor = 0.5;
  int64_t max_reductions = 5;

  bool operator==(const PlateauConfig&) const = default;

  void validate(const ConfigChecks& checks) const {
    checks.require(factor > 0 && factor < 1, "factor", {},
                   "found {}, expected more than 0 and less than 1", factor);
  }

  template <class Self, class Visitor>
  static void fields(Self& self, Visitor&& visit) {
    visit("patience", self.patience,
          {.help = "evaluations of the mean training loss without improvement before the learning "
                   "rate is reduced; 0: never",
           .min = 0});
    visit("threshold", self.threshold,
          {.help = "minimum relative decrease of the loss that counts as an improvement",
           .min = 0,
           .max = 1});
    visit("factor", self.factor,
          {.help = "what a reduction multiplies the learning rate by",
           .min = 0,
           .max = 1,
           .paper = "0.5 (B.2)"});
    visit("max_reductions", self.max_reductions,
          {.help = "maximum number of reductions",
           .min = 0,
           .paper = "5 (B.2)",
           .formerly = "max_cuts"});
  }
};

inline void require_nonnegative(const Schedule& schedule, const ConfigChecks& checks) {
  for (const auto& [value, key] : {std::pair{schedule.from, "from"}, {schedule.to, "to"}})
    checks.require(value >= 0, key, {}, "found {}, expected 0 or more", value);
}

/// Settings that the training of all models shares: batches, optimizer, EMA, and when to save and
/// report.
struct TrainConfig {
  int64_t steps = 0;
  int64_t batch_size = 0;
  int64_t micro_batch_size = 0;
  OptimizerKind optimizer = OptimizerKind::kAdamW;
  double learning_rate = 0.0;
  int64_t warmup_steps = 0;
  Schedule decay = {.shape = ScheduleShape::kConstant};
  PlateauConfig plateau = {};
  double beta1 = 0.9;
  double beta2 = 0.999;
  double epsilon = 1e-8;
  double weight_decay = 0.0;
  double max_grad_norm = 0.0;
  double ema_decay = 0.999;
  int64_t ema_every = 1;
  Precision precision = Precision::kFloat32;
  int64_t max_skipped_steps = 20;
  int64_t log_every = 10;
  int64_t eval_every = 1000;
  int64_t eval_samples = 512;
  int64_t save_every = 1000;
  double save_every_minutes = 0;
  int64_t keep_last = 2;
  bool keep_best = true;

  bool operator==(const TrainConfig&) const = default;

  void validate(const ConfigChecks& checks) const {
    checks.require(micro_batch_size == 0 || batch_size % micro_batch_size == 0, "micro_batch_size",
                   {"batch_size"}, "found {}, expected a divisor of {}, which is {}",
                   micro_batch_size, checks.path("batch_size"), batch_size);
    for (const auto& [value, key] :
         {std::pair{beta1, "beta1"}, {beta2, "beta2"}, {ema_decay, "ema_decay"}})
      checks.require(value < 1, key, {}, "found {}, expected less than 1", value);
    checks.require(epsilon > 0, "epsilon", {}, "found 0, expected more than 0");
    plateau.validate(checks.of("plateau"));
    require_nonnegative(decay, checks.of("decay"));
  }

  template <class Self, class Visitor>
  static void fields(Self& self, Visitor&& visit) {
    visit("steps", self.steps,
          {.help = "training steps, each with one batch; skipped ones count too",
           .min = 1,
           .paper = "dVAE 3,000,000 (A.2); DALL-E 430,000 (B.2); CLIP 390,625",
           .may_change = true});
    visit("batch_size", self.batch_size,
          {.help = "samples per update, over all micro-batches",
           .min = 1,
           .max = 1e9,
           .paper = "dVAE 512 (A.2); DALL-E 1024 (B.2); CLIP 32,768"});
    visit("micro_batch_size", self.micro_batch_size,
          {.help = "samples computed at once; must divide batch_size; 0: all of them",
           .min = 0,
           .paper = "8 (dVAE), 1 (DALL-E) per GPU"});
    visit("optimizer", self.optimizer,
          {.help = "adamw; or muon, which uses Muon for the matrices of hidden layers and AdamW "
                   "for the rest, and needs fewer samples in short runs",
           .paper = "adamw (A.2, B.2)"});
    visit("learning_rate", self.learning_rate,
          {.help = "peak learning rate, after warm-up",
           .min = 0,
           .paper = "dVAE 1e-4 (A.2); DALL-E 4.5e-4 (B.2); CLIP 5e-4"});
    visit("warmup_steps", self.warmup_steps,
          {.help = "updates over which the learning rate rises linearly from 0",
           .min = 0,
           .paper = "dVAE 0; DALL-E 5000 (B.2); CLIP 2000"});
    visit("decay", self.decay,
          {.help = "schedule of the factor that multiplies the learning rate, starting at the end "
                   "of warm-up",
           .paper = "dVAE half_cosine 1 to 0.0125 in 1,200,000 (A.2); DALL-E constant; CLIP "
                    "half_cosine 1 to 0"});
    visit("plateau", self.plateau,
          {.help = "reduce the learning rate when the training loss plateaus"});
    visit("beta1", self.beta1,
          {.help = "decay of AdamW's first moment", .min = 0, .max = 1, .paper = "0.9 (A.2, B.2)"});
    visit("beta2", self.beta2,
          {.help = "decay of AdamW's second moment",
           .min = 0,
           .max = 1,
           .paper = "dVAE 0.999 (A.2); DALL-E 0.96 (B.2); CLIP 0.98"});
    visit("epsilon", self.epsilon,
          {.help = "AdamW's epsilon", .min = 0, .paper = "1e-8 (A.2, B.2); CLIP 1e-6"});
    visit("weight_decay", self.weight_decay,
          {.help = "AdamW's decoupled weight decay, applied to all parameters; in the contrastive "
                   "model, not to gains, biases or the logit scale",
           .min = 0,
           .paper = "dVAE 1e-4 (A.2); DALL-E 4.5e-2 (B.2); CLIP 0.2, not on gains and biases"});
    visit("max_grad_norm", self.max_grad_norm,
          {.help = "maximum gradient norm; larger gradients are clipped; 0: no clipping",
           .min = 0,
           .paper = "dVAE none; DALL-E 4 (B.2); CLIP none",
           .formerly = "clip_norm"});
    visit("ema_decay", self.ema_decay,
          {.help =
               "decay of the exponential moving average (EMA) of the weights, which evaluation and "
               "sampling use",
           .min = 0,
           .max = 1,
           .paper = "dVAE 0.999 (A.2); DALL-E 0.99 (B.2)",
           .formerly = "average_decay"});
    visit("ema_every", self.ema_every,
          {.help = "training updates between EMA updates",
           .min = 1,
           .paper = "dVAE 1 (A.2); DALL-E 25 (B.2)",
           .formerly = "average_every"});
    visit("precision", self.precision,
          {.help = "precision of matrix products and convolutions: float32 or bfloat16",
           .paper = "mixed float16"});
    visit(
        "max_skipped_steps", self.max_skipped_steps,
        {.help =
             "steps in a row with a non-finite loss or gradient before training ends with an error",
         .min = 0,
         .may_change = true});
    visit("log_every", self.log_every, {.help = "steps between log lines", .min = 1});
    visit("eval_every", self.eval_every, {.help = "steps between evaluations", .min = 1});
    visit("eval_samples", self.eval_samples,
          {.help = "validation samples per evaluation", .min = 1});
    visit("save_every", self.save_every,
          {.help = "steps between checkpoints", .min = 1, .may_change = true});
    visit(
        "save_every_minutes", self.save_every_minutes,
        {.help =
             "also save a checkpoint when this many minutes have passed since the last one; 0: no",
         .min = 0,
         .may_change = true});
    visit("keep_last", self.keep_last,
          {.help = "newest checkpoints that are kept, in addition to the best one",
           .min = 1,
           .may_change = true});
    visit("keep_best", self.keep_best,
          {.help = "also save a checkpoint after each evaluation that is better than all before it",
           .may_change = true});
  }
};

/// Training of the dVAE; the defaults are the paper's.
/// Source: Ramesh et al. 2021, appendix A.2
struct DvaeTrainConfig : TrainConfig {
  Schedule temperature = {
      .shape = ScheduleShape::kHalfCosine, .from = 1.0, .to = 1.0 / 16, .steps = 150'000};
  Schedule kl_weight = {
      .shape = ScheduleShape::kHalfCosine, .from = 0.0, .to = 6.6, .steps = 5'000};

  int64_t hard_codes_from = 0;

  DvaeTrainConfig()
      : TrainConfig{.steps = 3'000'000,
                    .batch_size = 512,
                    .learning_rate = 1e-4,
                    .decay = {.shape = ScheduleShape::kHalfCosine,
                              .from = 1.0,
                              .to = 0.0125,
                              .steps = 1'200'000},
                    .plateau = {},
                    .weight_decay = 1e-4} {}

  bool operator==(const DvaeTrainConfig&) const = default;

  void validate(const ConfigChecks& checks) const {
    TrainConfig::validate(checks);
    for (const auto& [value, key] : {std::pair{temperature.from, "from"}, {temperature.to, "to"}})
      checks.of("temperature").require(value > 0, key, {}, "found {}, expected more than 0", value);
    require_nonnegative(kl_weight, checks.of("kl_weight"));
  }

  template <class Self, class Visitor>
  static void fields(Self& self, Visitor&& visit) {
    TrainConfig::fields(self, visit);
    visit("temperature", self.temperature,
          {.help = "temperature of the Gumbel-softmax relaxation",
           .paper = "half_cosine 1 to 1/16 in 150,000 (A.2)"});
    visit("kl_weight", self.kl_weight,
          {.help = "weight beta of the KL divergence to the uniform prior",
           .paper = "half_cosine 0 to 6.6 in 5,000 (A.2)"});
    visit("hard_codes_from", self.hard_codes_from,
          {.help = "update from which on the decoder is trained on the codes that it will decode, "
                   "the most likely ones, in place of the relaxation; 0: never",
           .min = 0,
           .paper = "never"});
  }
};

/// Training of the transformer; the defaults are the paper's.
/// Source: Ramesh et al. 2021, appendix B.2
struct DalleTrainConfig : TrainConfig {
  int64_t sample_every = 1000;
  double caption_dropout = 0.0;

  DalleTrainConfig()
      : TrainConfig{.steps = 430'000,
                    .batch_size = 1024,
                    .learning_rate = 4.5e-4,
                    .warmup_steps = 5'000,
                    .plateau = {.patience = 10},
                    .beta2 = 0.96,
                    .weight_decay = 4.5e-2,
                    .max_grad_norm = 4.0,
                    .ema_decay = 0.99,
                    .ema_every = 25} {}

  bool operator==(const DalleTrainConfig&) const = default;

  template <class Self, class Visitor>
  static void fields(Self& self, Visitor&& visit) {
    TrainConfig::fields(self, visit);
    visit("sample_every", self.sample_every,
          {.help = "steps between grids of sample images", .min = 1, .may_change = true});
    visit("caption_dropout", self.caption_dropout,
          {.help = "probability that a training sample's caption is replaced by padding, so that "
                   "the model also learns images without a caption, which sample.guidance needs; "
                   "0.1 is usual",
           .min = 0,
           .max = 1,
           .paper = "0 (none mentioned)"});
  }
};

/// Training of the contrastive model; the defaults are those of ViT-B/32. A sample is compared with
/// all others of its batch.
/// Source: Radford et al. 2021, section 2.5 and tables 18 and 20
struct ClipTrainConfig : TrainConfig {
  bool same_caption_positive = true;
  int64_t eval_chunk = 256;

  ClipTrainConfig()
      : TrainConfig{.steps = 390'625,
                    .batch_size = 32'768,
                    .learning_rate = 5e-4,
                    .warmup_steps = 2'000,
                    .decay = {.shape = ScheduleShape::kHalfCosine,
                              .from = 1.0,
                              .to = 0.0,
                              .steps = 388'625},
                    .plateau = {},
                    .beta2 = 0.98,
                    .epsilon = 1e-6,
                    .weight_decay = 0.2} {}

  bool operator==(const ClipTrainConfig&) const = default;

  void validate(const ConfigChecks& checks) const {
    TrainConfig::validate(checks);
    for (const auto& [value, key] :
         {std::pair{batch_size, "batch_size"}, {eval_samples, "eval_samples"}})
      checks.require(value >= 2, key, {},
                     "found {}, expected at least 2, since samples are compared with one another",
                     value);
  }

  template <class Self, class Visitor>
  static void fields(Self& self, Visitor&& visit) {
    TrainConfig::fields(self, visit);
    visit("same_caption_positive", self.same_caption_positive,
          {.help = "treat samples of a batch that have the same caption as positives of one "
                   "another; false: as negatives. No effect if captions do not repeat",
           .paper = "CLIP: false"});
    visit("eval_chunk", self.eval_chunk,
          {.help = "number of validation samples compared with one another at a time; the more, "
                   "the harder the retrieval and the higher the loss",
           .min = 2});
  }
};

}  // namespace dalle
