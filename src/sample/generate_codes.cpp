#include "sample/generate_codes.h"

#include <algorithm>
#include <utility>

#include <torch/types.h>

#include "core/error.h"
#include "model/cpu_decoder.h"
#include "sample/decode_schedule.h"
#include "sample/guidance.h"
#include "sample/stepwise_generation.h"
#include "tensor/device_of.h"

namespace dalle {
namespace {

void check_tokens(const at::Tensor& tokens, int64_t length) {
  DALLE_CHECK(tokens.is_cpu() && tokens.scalar_type() == at::kLong && tokens.is_contiguous() &&
              tokens.dim() == 1 && tokens.numel() == length);
}

GenerateStatistics generate_on_cpu(const DalleModel& model, std::span<const CaptionImages> requests,
                                   const SamplingConfig& sampling, const GenerateOptions& options,
                                   int64_t images, const CodesDone& codes_done,
                                   const std::function<void(int64_t)>& add_progress) {
  CpuDecoder decoder(model, DecodeSchedule::capacity(requests, sampling, options.decode, images,
                                                     model->layout().image_length()));
  DecodeSchedule schedule(decoder, requests, sampling, options, images);
  while (!schedule.is_done()) add_progress(schedule.pass(codes_done));
  return schedule.statistics();
}

}  // namespace

int64_t default_batch_size(const TransformerConfig& config, const SequenceLayout& layout,
                           const SamplingConfig& sampling) {
  constexpr int64_t kImages = 32, kBytes = int64_t{1} << 30;
  const int64_t bytes = sequences_per_image(sampling) * CpuDecoder::cache_bytes(config, layout);
  return std::clamp<int64_t>(kBytes / bytes, 1, kImages);
}

GenerateStatistics generate_codes(DalleModel model, std::span<const CaptionImages> requests,
                                  const SamplingConfig& sampling, const GenerateOptions& options,
                                  const CodesDone& codes_done, const GenerateProgress& progress) {
  const torch::NoGradGuard no_grad;
  const SequenceLayout& layout = model->layout();
  int64_t count = 0;
  for (const CaptionImages& request : requests) {
    DALLE_CHECK(request.count > 0 && request.first_image >= 0);
    check_tokens(request.caption, layout.max_caption_tokens());
    DALLE_CHECK(request.variation >= 0 && request.variation <= 1);
    if (request.forced.defined()) {
      check_tokens(request.forced, layout.image_length());
      DALLE_CHECK(request.forced.ge(kFreeCode).all().item<bool>() &&
                  request.forced.lt(model->image_vocab_size()).all().item<bool>());
    }
    count += request.count;
  }
  if (count == 0) return {};
  const int64_t batch_size = options.batch_size > 0
                                 ? options.batch_size
                                 : default_batch_size(model->config(), layout, sampling);
  const int64_t images = std::min(batch_size, count);
  int64_t done = 0;
  const auto add_progress = [&](int64_t codes) {
    done += codes;
    if (progress) progress(done, count * layout.image_length());
  };
  if (device_of(*model).is_cpu())
    return generate_on_cpu(model, requests, sampling, options, images, codes_done, add_progress);
  return generate_stepwise(model, requests, sampling, options, images, codes_done, add_progress);
}

at::Tensor generate_codes(DalleModel model, const CaptionImages& images,
                          const SamplingConfig& sampling, const GenerateOptions& options,
                          const GenerateProgress& progress) {
  const SequenceLayout layout = model->layout();
  auto codes = torch::zeros({images.count, layout.grid_height, layout.grid_width}, at::kLong);
  generate_codes(
      std::move(model), std::span(&images, 1), sampling, options,
      [&](size_t, int64_t image, const at::Tensor& found) {
        codes[image - images.first_image].copy_(found);
      },
      progress);
  return codes;
}

}  // namespace dalle
