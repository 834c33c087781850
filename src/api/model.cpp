#include "dalle/model.h"

#include <algorithm>
#include <numbers>
#include <span>
#include <utility>
#include <vector>

#include <torch/types.h>

#include "core/error.h"
#include "core/number_range.h"
#include "core/sequence_layout.h"
#include "data/image/image.h"
#include "eval/token_scores.h"
#include "experiment/torch_setup.h"
#include "experiment/trained/reranker.h"
#include "experiment/trained/trained_dalle.h"
#include "sample/best_candidates.h"
#include "sample/decode_image.h"
#include "sample/generate_codes.h"
#include "tensor/tensor_checks.h"

namespace dalle {
namespace {

void check_range(const SampleOptions& options) {
  check_in_range("seed", options.seed, 0);
  check_in_range("first", options.first, 0);
  check_in_range("count", options.count, 1);
  if (options.best_of != 0 && options.best_of < options.count)
    throw Error("best_of: found {}, expected 0 or at least count, which is {}", options.best_of,
                options.count);
  check_in_range("variation", options.variation, 0, 1);
}

/// [1, 3, H, W] float32 in [0, 1] on the device
at::Tensor model_pixels(const at::Tensor& image, c10::Device device) {
  const at::Tensor there = image.detach().to(device);
  const at::Tensor pixels = there.to(torch::kFloat32);
  return there.scalar_type() == at::kByte ? pixels.div(255) : pixels;
}

void check_images(const at::Tensor& images) {
  const bool has_pixels =
      images.defined() && (images.scalar_type() == at::kByte || images.is_floating_point());
  if (!has_pixels || images.dim() != 4 || images.size(1) != 3 ||
      images.size(2) * images.size(3) == 0)
    throw Error("images: found {}, expected uint8 or floating point [N, 3, H, W]",
                describe_tensor(images));
  if (images.is_floating_point() && !(images.ge(0) & images.le(1)).all().item<bool>())
    throw Error("images: found values outside [0, 1], expected floating point in [0, 1] or uint8");
}

void check_codes(const at::Tensor& codes, int64_t count, int64_t grid, int64_t vocab_size) {
  if (!codes.defined() || codes.scalar_type() != at::kLong ||
      codes.sizes() != at::IntArrayRef({count, grid, grid}))
    throw Error("codes: found {}, expected Long [{}, {}, {}] for {} captions",
                describe_tensor(codes), count, grid, grid, count);
  check_code_range("codes", codes, vocab_size);
}

/// [grid * grid] int64 on the CPU; undefined if `known` is
at::Tensor checked_known_codes(const at::Tensor& known, int64_t grid, int64_t vocab_size) {
  if (!known.defined()) return known;
  if (known.scalar_type() != at::kLong || known.sizes() != at::IntArrayRef({grid, grid}))
    throw Error("known_codes: found {}, expected Long [{}, {}]", describe_tensor(known), grid,
                grid);
  const at::Tensor codes = known.detach().cpu().flatten().contiguous();
  if ((codes.lt(kFreeCode) | codes.ge(vocab_size)).any().item<bool>())
    throw Error("known_codes: found values from {} to {}, expected values in [0, {}), or {}",
                codes.min().item<int64_t>(), codes.max().item<int64_t>(), vocab_size, kFreeCode);
  return codes;
}

}  // namespace

struct Model::State {
  TrainedDalle dalle;
  c10::Device device;
  bool has_warned_of_guidance = false;
  std::unique_ptr<Reranker> reranker = nullptr;  ///< null until it is needed
};

Model::Model(std::unique_ptr<State> state) : state_(std::move(state)) {}
Model::Model(Model&& other) noexcept = default;
Model& Model::operator=(Model&& other) noexcept = default;
Model::~Model() = default;

Model Model::load(const std::filesystem::path& path, const std::string& device_name) {
  set_up_torch();
  const c10::Device device = find_device(device_name);
  return Model(std::unique_ptr<State>(
      new State{.dalle = load_trained_dalle(path, device), .device = device}));
}

std::filesystem::path Model::checkpoint() const {
  return state_->dalle.checkpoint;
}

int64_t Model::step() const {
  return state_->dalle.step;
}

int64_t Model::image_size() const {
  return state_->dalle.config.data.image_size;
}

int64_t Model::grid_size() const {
  return state_->dalle.config.layout().grid_height;
}

int64_t Model::image_vocab_size() const {
  return state_->dalle.config.dvae.model.vocab_size;
}

int64_t Model::text_vocab_size() const {
  return state_->dalle.tokenizer.vocab_size();
}

int64_t Model::max_caption_tokens() const {
  return state_->dalle.config.layout().max_caption_tokens();
}

std::vector<int64_t> Model::tokenize(const std::string& caption) const {
  return state_->dalle.tokenizer.encode(caption);
}

at::Tensor Model::generate(const std::string& caption, const SampleOptions& options) const {
  return decode(generate_codes(caption, options));
}

at::Tensor Model::generate_codes(const std::string& caption, const SampleOptions& options) const {
  const TrainedDalle& dalle = state_->dalle;
  check_range(options);
  const SamplingConfig sampling = override_sampling(dalle.config.sample, options);
  if (sampling.guidance != 1 && !std::exchange(state_->has_warned_of_guidance, true))
    warn_of_untrained_guidance(dalle.config, sampling);
  const CaptionImages images{
      .caption = caption_tokens(dalle, caption),
      .first_image = options.first,
      .count = std::max(options.count, options.best_of),
      .forced = checked_known_codes(options.known_codes, grid_size(), image_vocab_size()),
      .variation = options.variation};
  const GenerateOptions generation{.seed = static_cast<uint64_t>(options.seed),
                                   .decode = dalle.config.sample};
  if (options.best_of == 0) return dalle::generate_codes(dalle.model, images, sampling, generation);
  if (!state_->reranker) state_->reranker = make_clip_reranker(dalle, "", state_->device);
  BestCandidates<at::Tensor> candidates(options.count);
  dalle::generate_codes(
      dalle.model, std::span(&images, 1), sampling, generation,
      [&](size_t, int64_t number, const at::Tensor& codes) {
        const double score =
            state_->reranker->score(caption, codes, decode_image(dalle.vae, codes));
        candidates.add({.number = number, .score = score, .content = codes.clone()});
      });
  std::vector<at::Tensor> best;
  for (const auto& candidate : candidates.best()) best.push_back(candidate.content);
  return at::stack(best);
}

at::Tensor Model::encode(const at::Tensor& images) const {
  check_images(images);
  DiscreteVae vae = state_->dalle.vae;
  const int64_t pixels_per_code = image_size() / grid_size();
  at::Tensor codes = torch::empty(
      {images.size(0), images.size(2) / pixels_per_code, images.size(3) / pixels_per_code},
      at::kLong);
  // One by one, because rounding may depend on the batch size.
  for (int64_t i = 0; i < images.size(0); ++i)
    codes.narrow(0, i, 1).copy_(vae->encode(model_pixels(images.narrow(0, i, 1), state_->device)));
  return codes;
}

at::Tensor Model::decode(const at::Tensor& codes) const {
  if (!codes.defined() || codes.dim() != 3 || codes.size(1) * codes.size(2) == 0)
    throw Error("codes: found {}, expected Long [N, h, w]", describe_tensor(codes));
  const int64_t pixels_per_code = image_size() / grid_size();
  at::Tensor images = torch::empty(
      {codes.size(0), 3, codes.size(1) * pixels_per_code, codes.size(2) * pixels_per_code},
      at::kByte);
  for (int64_t i = 0; i < codes.size(0); ++i)
    images[i].copy_(image_to_tensor(decode_image(state_->dalle.vae, codes[i])));
  return images;
}

LogLikelihood Model::log_likelihood(const std::vector<std::string>& captions,
                                    const at::Tensor& codes) const {
  const torch::NoGradGuard no_grad;
  const auto count = static_cast<int64_t>(captions.size());
  check_codes(codes, count, grid_size(), image_vocab_size());
  DalleModel model = state_->dalle.model;
  LogLikelihood likelihood{.text = torch::empty({count}, at::kDouble),
                           .image = torch::empty({count}, at::kDouble)};
  const auto nats = [](const TokenScores& scores) {
    return -std::numbers::ln2 * scores.bits.sum().item<double>();
  };
  // One by one, because rounding may depend on the batch size.
  for (int64_t i = 0; i < count; ++i) {
    const at::Tensor caption =
        caption_tokens(state_->dalle, captions[static_cast<size_t>(i)]).to(state_->device);
    const at::Tensor own = codes[i].flatten().to(state_->device);
    const at::Tensor states = model->hidden_states(caption.unsqueeze(0), own.unsqueeze(0))[0];
    const SequenceScores scores = score_sequence(model, states, caption, own);
    likelihood.text[i] = nats(scores.text);
    likelihood.image[i] = nats(scores.image);
  }
  return likelihood;
}

}  // namespace dalle
