#include "subject.h"

#include <numeric>
#include <utility>
#include <vector>

#include <ATen/CPUGeneratorImpl.h>
#include <torch/types.h>

#include "core/sequence_layout.h"
#include "experiment/stages/clip_task.h"
#include "experiment/stages/dalle_task.h"
#include "experiment/stages/dvae_task.h"
#include "model/clip_model.h"
#include "nn/contrastive_loss.h"
#include "tensor/flat_range.h"

namespace dalle {
namespace {

constexpr double kTemperature = 0.7;
constexpr double kKlWeight = 2.0;

at::Generator seeded(uint64_t seed) {
  return at::make_generator<at::CPUGeneratorImpl>(seed);
}

/// [B, tokens] int64: captions of all lengths, padded with kPadToken
at::Tensor random_captions(const ExperimentConfig& config, int64_t batch, int64_t tokens,
                           const at::Generator& generator) {
  auto captions =
      torch::randint(config.tokenizer.vocab_size, {batch, tokens}, generator, torch::kLong);
  for (int64_t b = 0; b < batch; ++b)
    captions[b].slice(0, 1 + (7 * b + 5) % tokens).fill_(kPadToken);
  return captions;
}

/// [B, 3, S, S] float32 in [0, 1)
at::Tensor random_images(const ExperimentConfig& config, int64_t batch) {
  return torch::rand({batch, 3, config.data.image_size, config.data.image_size}, seeded(5));
}

}  // namespace

ExperimentConfig small_experiment(Precision precision) {
  ExperimentConfig config;
  config.data.kind = DatasetKind::kShapes;
  config.data.image_size = 32;
  config.tokenizer.vocab_size = 128;
  config.dvae.model = {.groups = 3,
                       .blocks_per_group = 1,
                       .hidden = 32,
                       .vocab_size = 64,
                       .codebook_width = 32,
                       .post_gain = 0.5,
                       .codebook_init_std = 1.0};
  config.dvae.train.batch_size = 4;
  config.dvae.train.learning_rate = 2e-3;
  config.dvae.train.precision = precision;
  config.dalle.model.depth = 3;
  config.dalle.model.heads = 2;
  config.dalle.model.width = 128;
  config.dalle.model.text_length = 16;
  config.dalle.model.conv_kernel = 5;
  config.dalle.model.init = TransformerInit::kNormal002;
  config.dalle.train.batch_size = 4;
  config.dalle.train.learning_rate = 2e-3;
  config.dalle.train.precision = precision;
  config.clip.emplace();
  config.clip->model = {.patch_size = 8,
                        .image_depth = 3,
                        .image_heads = 2,
                        .image_width = 128,
                        .text_depth = 2,
                        .text_heads = 2,
                        .text_width = 64,
                        .text_length = 16,
                        .embed_dim = 32};
  config.clip->train.batch_size = 8;
  config.clip->train.precision = precision;
  return config;
}

DiscreteVae make_dvae(const ExperimentConfig& config, c10::Device device) {
  DiscreteVae vae(config.dvae.model, config.dvae.train.precision);
  vae->initialize(seeded(1));
  vae->to(device);
  return vae;
}

DalleModel make_transformer(const ExperimentConfig& config, c10::Device device) {
  DalleModel model(config.dalle.model, config.layout(), config.tokenizer.vocab_size,
                   config.dvae.model.vocab_size, config.dalle.train.precision);
  model->initialize(seeded(2));
  model->to(device);
  return model;
}

void perturb_weights(torch::nn::Module& module) {
  constexpr double kStd = 0.05;
  const torch::NoGradGuard no_grad;
  at::Generator generator = seeded(3);
  for (at::Tensor& parameter : module.parameters())
    parameter.add_(torch::randn(parameter.sizes(), generator).to(parameter.device()), kStd);
}

RandomSequences random_sequences(const ExperimentConfig& config, int64_t batch,
                                 c10::Device device) {
  const SequenceLayout layout = config.layout();
  const at::Generator generator = seeded(4);
  const auto captions = random_captions(config, batch, layout.max_caption_tokens(), generator);
  const auto codes = torch::randint(config.dvae.model.vocab_size, {batch, layout.image_length()},
                                    generator, torch::kLong);
  return {.captions = captions.to(device), .codes = codes.to(device)};
}

Subject dvae_subject(const ExperimentConfig& config, c10::Device device) {
  const DvaeCost cost = estimate_dvae_cost(config);
  const int64_t size = config.data.image_size;
  DiscreteVae vae = make_dvae(config, device);
  const auto images = random_images(config, cost.micro_batch_size).to(device);
  std::vector<uint64_t> seeds(static_cast<size_t>(cost.micro_batch_size));
  std::iota(seeds.begin(), seeds.end(), 100);
  return {.module = vae.ptr(),
          .loss =
              [=]() mutable {
                return vae->loss(images, {vae->noise(seeds, size, size), kTemperature, kKlWeight})
                    .total;
              },
          .uses_muon = is_residual_kernel,
          .train = config.dvae.train,
          .memory = cost.memory};
}

Subject transformer_subject(const ExperimentConfig& config, c10::Device device) {
  const DalleCost cost = estimate_dalle_cost(config, config.tokenizer.vocab_size);
  DalleModel model = make_transformer(config, device);
  // As in training, the captions are on the host.
  const auto [captions, codes] = random_sequences(config, cost.micro_batch_size, at::kCPU);
  return {.module = model.ptr(),
          .loss = [model, captions = captions, codes = codes.to(device),
                   counts = model->count_targets(
                       captions)]() mutable { return model->loss(captions, codes, counts).total; },
          .uses_muon = is_block_matrix,
          .train = config.dalle.train,
          .memory = cost.memory};
}

Subject clip_subject(const ExperimentConfig& config, c10::Device device) {
  const ClipCost cost = estimate_clip_cost(config, config.tokenizer.vocab_size);
  const int64_t batch = cost.micro_batch_size;
  ClipModel model(config.clip->model, config.data.image_size, config.tokenizer.vocab_size,
                  config.clip->train.precision);
  model->initialize(seeded(6));
  model->to(device);
  const auto images = random_images(config, batch).to(device);
  const auto captions =
      random_captions(config, batch, config.clip->model.max_caption_tokens(), seeded(4)).to(device);
  const auto labels = torch::arange(batch).div(2, "floor").to(device);  // pairs of partners
  return {.module = model.ptr(),
          .loss =
              [=]() mutable {
                return contrastive_loss(model->embed_images(images),
                                        model->embed_captions(captions), model->logit_scale(),
                                        labels)
                    .total;
              },
          .uses_muon = is_clip_block_matrix,
          .train = config.clip->train,
          .memory = cost.memory};
}

SubjectTraining::SubjectTraining(Subject subject)
    : subject_(std::move(subject)),
      parameters_(*subject_.module),
      optimizer_(parameters_, subject_.train.optimizer,
                 {.beta1 = subject_.train.beta1,
                  .beta2 = subject_.train.beta2,
                  .epsilon = subject_.train.epsilon,
                  .weight_decay = subject_.train.weight_decay},
                 subject_.uses_muon, all_of(parameters_.values())) {}

double SubjectTraining::step() {
  parameters_.zero_gradients();
  const at::Tensor loss = subject_.loss();
  loss.backward();
  optimizer_.step(parameters_.gradients(), subject_.train.learning_rate);
  return loss.item<double>();  // waits for all queued work
}

}  // namespace dalle
