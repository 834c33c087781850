#include "dalle/sample/image_generator.h"

#include <algorithm>
#include <vector>

#include <torch/types.h>

#include "dalle/core/error.h"
#include "dalle/core/seeds.h"
#include "dalle/sample/logits.h"

namespace dalle {
namespace {

/// A number of the caption's tokens: captions that share a seed do not share their noise, or
/// picture i of each would have its object in the same place.
uint64_t caption_number(const at::Tensor& caption) {
  const at::Tensor tokens = caption.to(at::kCPU, at::kLong).contiguous();
  uint64_t number = 0;
  for (int64_t i = 0; i < tokens.numel(); ++i)
    number = derive_seed(number, SeedPurpose::kImageToken,
                         static_cast<uint64_t>(tokens.const_data_ptr<int64_t>()[i]));
  return number;
}

/// The tokens of images [first, first + kRowsAtOnce) of a seed, [kRowsAtOnce, N]. `first` is a
/// multiple of kRowsAtOnce, so that an image has one place among the rows.
at::Tensor generate_rows(DalleModel& model, const at::Tensor& caption,
                         const SamplingConfig& sampling, uint64_t seed, int64_t first,
                         const std::function<void()>& token_done) {
  const int64_t length = model->layout().image_length();
  const at::Device device = model->parameters().front().device();
  const uint64_t number = caption_number(caption);
  DecodingState state =
      model->read_captions(caption.to(device).unsqueeze(0).expand({kRowsAtOnce, -1}));
  auto codes = torch::zeros({kRowsAtOnce, length}, at::kLong);
  auto previous = torch::zeros({kRowsAtOnce}, at::device(device).dtype(at::kLong));
  for (int64_t position = 0; position < length; ++position) {
    const at::Tensor logits = model->next_image_logits(state, previous);  // [rows, V]
    std::vector<double> uniforms;
    for (int64_t row = 0; row < kRowsAtOnce; ++row)
      uniforms.push_back(
          to_unit(derive_seed(seed, SeedPurpose::kImageToken, static_cast<uint64_t>(first + row),
                              static_cast<uint64_t>(position), number)));
    const at::Tensor tokens = draw_tokens(token_probabilities(logits, sampling), uniforms);
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
  const int64_t first_group = options.first_image / kRowsAtOnce;
  const int64_t last_group = (options.first_image + options.count - 1) / kRowsAtOnce;
  const int64_t total = (last_group - first_group + 1) * layout.image_length();
  int64_t done = 0;
  for (int64_t group = first_group; group <= last_group; ++group) {
    parts.push_back(generate_rows(model, caption, sampling, options.seed, group * kRowsAtOnce, [&] {
      if (progress) progress(++done, total);
    }));
  }
  return torch::cat(parts)
      .narrow(0, options.first_image - first_group * kRowsAtOnce, options.count)
      .reshape({options.count, layout.grid_height, layout.grid_width});
}

}  // namespace dalle
