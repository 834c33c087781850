#include "sample/generate_codes.h"

#include <algorithm>
#include <utility>
#include <vector>

#include <torch/types.h>

#include "core/error.h"
#include "model/cpu_decoder.h"
#include "sample/decode_batch.h"
#include "sample/guidance.h"
#include "sample/stepwise_generation.h"
#include "sample/token_sampler.h"
#include "tensor/device_of.h"

namespace dalle {
namespace {

GenerateStatistics generate_on_cpu(const DalleModel& model, std::span<const CaptionImages> requests,
                                   const SamplingConfig& sampling, const GenerateOptions& options,
                                   int64_t images, const CodesDone& codes_done,
                                   const std::function<void(int64_t)>& add_progress) {
  struct Started {
    size_t request = 0;
    int64_t image = 0;
  };
  std::vector<Started> started(static_cast<size_t>(images));  // by their number in the batch
  const BatchDone done = [&](int64_t id, const at::Tensor& codes) {
    if (!codes.defined()) throw Error("{}", kNonFiniteLogits);
    const auto& [request, image] = started[static_cast<size_t>(id)];
    codes_done(request, image, codes);
  };
  DecodeBatch batch(
      model,
      {.images = images, .sequences = sequences_per_image(sampling), .decode = options.decode});
  Started next;  // its image counts from the request's first one
  while (next.request < requests.size() || !batch.is_empty()) {
    while (next.request < requests.size() && !batch.is_full()) {
      CaptionImages image = requests[next.request];
      image.first_image += next.image;
      const int64_t id = batch.start(image, options.seed, sampling);
      started[static_cast<size_t>(id)] = {next.request, image.first_image};
      if (++next.image == image.count) next = {.request = next.request + 1};
    }
    add_progress(batch.pass(done));
  }
  return batch.statistics();
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
    check_caption_images(model, request);
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
