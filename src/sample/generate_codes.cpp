#include "sample/generate_codes.h"

#include <algorithm>
#include <utility>
#include <vector>

#include <torch/types.h>

#include "core/error.h"
#include "model/cpu_decoder.h"
#include "sample/decode_schedule.h"
#include "sample/image_noise.h"
#include "sample/token_sampler.h"

namespace dalle {
namespace {

GenerateStatistics generate_on_cpu(const DalleModel& model, std::span<const CaptionImages> requests,
                                   const SamplingConfig& sampling, const GenerateOptions& options,
                                   int64_t images, const CodesDone& codes_done,
                                   const std::function<void(int64_t)>& add_progress) {
  CpuDecoder decoder(model, {.captions = images,
                             .images = images,
                             .rows = DecodeSchedule::most_rows(options.decode, images,
                                                               model->layout().image_length())});
  DecodeSchedule schedule(decoder, requests, sampling, options, images);
  while (!schedule.is_done()) add_progress(schedule.pass(codes_done));
  return schedule.statistics();
}

/// Generates images [first, first + count) of a request, one position of all of them at a time.
/// @return  [count, image_length]
at::Tensor generate_batch(DalleModel& model, const CaptionImages& request,
                          const SamplingConfig& sampling, uint64_t seed, int64_t first,
                          int64_t count, const std::function<void(int64_t)>& add_progress) {
  const int64_t length = model->layout().image_length();
  const at::Device device = model->parameters().front().device();
  const ImageNoise noise(seed, {request.caption.const_data_ptr<int64_t>(),
                                static_cast<size_t>(request.caption.numel())});
  TokenSampler sampler(sampling);
  DecodeState state = model->prefill(request.caption.to(device).unsqueeze(0).expand({count, -1}));
  auto codes = torch::zeros({count, length}, at::kLong);
  auto previous = torch::zeros({count}, at::device(device).dtype(at::kLong));
  for (int64_t position = 0; position < length; ++position) {
    const at::Tensor logits = model->decode_step(state, previous).cpu().contiguous();  // [rows, V]
    const auto classes = static_cast<size_t>(logits.size(1));
    for (int64_t row = 0; row < count; ++row)
      codes[row][position] = sampler.sample(
          std::span(logits.const_data_ptr<float>(), static_cast<size_t>(logits.numel()))
              .subspan(static_cast<size_t>(row) * classes, classes),
          noise.at(first + row, position));
    previous = codes.select(1, position).to(device);
    add_progress(count);
  }
  return codes;
}

GenerateStatistics generate_on_device(DalleModel& model, std::span<const CaptionImages> requests,
                                      const SamplingConfig& sampling,
                                      const GenerateOptions& options, int64_t images,
                                      const CodesDone& codes_done,
                                      const std::function<void(int64_t)>& add_progress) {
  const SequenceLayout& layout = model->layout();
  GenerateStatistics statistics;
  for (size_t r = 0; r < requests.size(); ++r) {
    const int64_t end = requests[r].first_image + requests[r].count;
    for (int64_t first = requests[r].first_image; first < end; first += images) {
      const int64_t count = std::min(images, end - first);
      const at::Tensor codes =
          generate_batch(model, requests[r], sampling, options.seed, first, count, add_progress);
      statistics.passes += layout.image_length();
      statistics.rows += codes.numel();
      statistics.codes += codes.numel();
      for (int64_t i = 0; i < count; ++i)
        codes_done(r, first + i, codes[i].view({layout.grid_height, layout.grid_width}));
    }
  }
  return statistics;
}

}  // namespace

int64_t default_batch_size(const TransformerConfig& config, const SequenceLayout& layout) {
  constexpr int64_t kImages = 32, kBytes = int64_t{1} << 30;
  return std::clamp<int64_t>(kBytes / CpuDecoder::cache_bytes(config, layout), 1, kImages);
}

GenerateStatistics generate_codes(DalleModel model, std::span<const CaptionImages> requests,
                                  const SamplingConfig& sampling, const GenerateOptions& options,
                                  const CodesDone& codes_done, const GenerateProgress& progress) {
  const torch::NoGradGuard no_grad;
  const SequenceLayout& layout = model->layout();
  int64_t count = 0;
  for (const CaptionImages& request : requests) {
    DALLE_CHECK(request.count > 0 && request.first_image >= 0);
    DALLE_CHECK(request.caption.is_cpu() && request.caption.scalar_type() == at::kLong &&
                request.caption.is_contiguous());
    count += request.count;
  }
  if (count == 0) return {};
  const int64_t batch_size =
      options.batch_size > 0 ? options.batch_size : default_batch_size(model->config(), layout);
  const int64_t images = std::min(batch_size, count);
  int64_t done = 0;
  const auto add_progress = [&](int64_t codes) {
    done += codes;
    if (progress) progress(done, count * layout.image_length());
  };
  if (model->parameters().front().is_cpu())
    return generate_on_cpu(model, requests, sampling, options, images, codes_done, add_progress);
  return generate_on_device(model, requests, sampling, options, images, codes_done, add_progress);
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
