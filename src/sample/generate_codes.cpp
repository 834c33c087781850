#include "sample/generate_codes.h"

#include <algorithm>
#include <vector>

#include <torch/types.h>

#include "core/error.h"
#include "core/seeds.h"
#include "sample/logits.h"

namespace dalle {
namespace {

/// A hash of the caption's tokens. With it, captions that share a seed do not share their noise;
/// otherwise image i of each would have its object in the same place.
uint64_t caption_hash(const at::Tensor& caption) {
  const at::Tensor tokens = caption.to(at::kCPU, at::kLong).contiguous();
  uint64_t hash = 0;
  for (int64_t i = 0; i < tokens.numel(); ++i)
    hash = derive_seed(hash, SeedPurpose::kImageToken,
                       static_cast<uint64_t>(tokens.const_data_ptr<int64_t>()[i]));
  return hash;
}

/// The tokens of images [first, first + kGenerationBatch) of a seed, [kGenerationBatch, N]. `first`
/// is a multiple of kGenerationBatch, so that each image always has the same row.
at::Tensor generate_batch(DalleModel& model, const at::Tensor& caption,
                          const SamplingConfig& sampling, uint64_t seed, int64_t first,
                          const std::function<void()>& token_done) {
  const int64_t length = model->layout().image_length();
  const at::Device device = model->parameters().front().device();
  const uint64_t hash = caption_hash(caption);
  DecodeState state =
      model->prefill(caption.to(device).unsqueeze(0).expand({kGenerationBatch, -1}));
  auto codes = torch::zeros({kGenerationBatch, length}, at::kLong);
  auto previous = torch::zeros({kGenerationBatch}, at::device(device).dtype(at::kLong));
  for (int64_t position = 0; position < length; ++position) {
    const at::Tensor logits = model->decode_step(state, previous);  // [rows, V]
    std::vector<double> uniforms;
    for (int64_t row = 0; row < kGenerationBatch; ++row)
      uniforms.push_back(
          to_unit(derive_seed(seed, SeedPurpose::kImageToken, static_cast<uint64_t>(first + row),
                              static_cast<uint64_t>(position), hash)));
    const at::Tensor tokens = sample_tokens(token_probabilities(logits, sampling), uniforms);
    codes.select(1, position).copy_(tokens);
    previous = tokens.to(device);
    token_done();
  }
  return codes;
}

}  // namespace

at::Tensor generate_codes(DalleModel model, const at::Tensor& caption,
                          const SamplingConfig& sampling, const GenerateOptions& options,
                          const GenerateProgress& progress) {
  DALLE_CHECK(options.count > 0 && options.first_image >= 0);
  const torch::NoGradGuard no_grad;
  const SequenceLayout& layout = model->layout();
  std::vector<at::Tensor> parts;
  const int64_t first_batch = options.first_image / kGenerationBatch;
  const int64_t last_batch = (options.first_image + options.count - 1) / kGenerationBatch;
  const int64_t total = (last_batch - first_batch + 1) * layout.image_length();
  int64_t done = 0;
  for (int64_t batch = first_batch; batch <= last_batch; ++batch) {
    parts.push_back(
        generate_batch(model, caption, sampling, options.seed, batch * kGenerationBatch, [&] {
          if (progress) progress(++done, total);
        }));
  }
  return torch::cat(parts)
      .narrow(0, options.first_image - first_batch * kGenerationBatch, options.count)
      .reshape({options.count, layout.grid_height, layout.grid_width});
}

}  // namespace dalle
