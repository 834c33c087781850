#include "sample/stepwise_generation.h"

#include <algorithm>
#include <mutex>
#include <span>
#include <vector>

#include <ATen/Context.h>
#include <ATen/Parallel.h>
#include <torch/types.h>

#include "sample/guidance.h"
#include "sample/image_noise.h"
#include "sample/token_sampler.h"
#include "tensor/device_of.h"

namespace dalle {
namespace {

/// An image of a request.
struct RequestedImage {
  size_t request = 0;
  int64_t number = 0;
};

/// Images that are generated together, a row each.
class ImageBatch {
 public:
  ImageBatch(std::span<const CaptionImages> requests, std::span<const RequestedImage> images,
             int64_t image_length, uint64_t seed)
      : images_(images.begin(), images.end()),
        codes_(torch::empty({std::ssize(images), image_length}, at::kLong)) {
    for (size_t row = 0; row < images.size(); ++row) {
      const CaptionImages& request = requests[images[row].request];
      captions_.push_back(request.caption);
      noise_.emplace_back(seed, std::span(request.caption.const_data_ptr<int64_t>(),
                                          static_cast<size_t>(request.caption.numel())));
      const std::vector<int64_t> forced =
          forced_codes(request, image_length, seed, images[row].number);
      end_ = std::max(end_, evaluated_positions(forced));
      std::ranges::copy(forced, codes_.accessor<int64_t, 2>()[static_cast<int64_t>(row)].data());
    }
  }

  /// [count, text_length - 1], followed by as many null captions with guidance
  at::Tensor captions(bool with_null) const {
    const at::Tensor captions = at::stack(captions_);
    return with_null ? at::cat({captions, at::full_like(captions, kPadToken)}) : captions;
  }

  int64_t count() const { return codes_.size(0); }
  int64_t end() const { return end_; }  ///< of the positions that are free in any image
  const at::Tensor& codes() const { return codes_; }  ///< [count, image_length]

  bool is_free(int64_t position) const {
    return codes_.select(1, position).eq(kFreeCode).any().item<bool>();
  }

  /// Samples the free codes of a position.
  /// @param samplers  one per thread
  /// @param logits    [count, V]; with guidance [2 count, V], the unconditional ones last
  void sample(std::span<TokenSampler> samplers, int64_t position, const at::Tensor& logits) {
    const at::Tensor on_cpu = logits.cpu().contiguous();
    const auto classes = static_cast<size_t>(on_cpu.size(1));
    const auto row_of = [&](int64_t row) {
      return std::span(on_cpu.const_data_ptr<float>() + row * on_cpu.size(1), classes);
    };
    auto codes = codes_.accessor<int64_t, 2>();
    at::parallel_for(0, count(), /*grain_size=*/1, [&](int64_t begin, int64_t end) {
      TokenSampler& sampler = samplers[static_cast<size_t>(at::get_thread_num())];
      for (int64_t row = begin; row < end; ++row) {
        if (codes[row][position] != kFreeCode) continue;
        std::span<const float> of_row = row_of(row);
        if (on_cpu.size(0) > count()) of_row = sampler.guided(of_row, row_of(count() + row));
        const auto image = static_cast<size_t>(row);
        codes[row][position] =
            sampler.sample(of_row, noise_[image].at(images_[image].number, position));
      }
    });
  }

 private:
  std::vector<RequestedImage> images_;
  std::vector<at::Tensor> captions_;
  std::vector<ImageNoise> noise_;
  at::Tensor codes_;
  int64_t end_ = 0;
};

void keep_first(DecodeState& state, int64_t count) {
  for (KvCache& layer : state.layers) {
    layer.keys = layer.keys.narrow(0, 0, count);
    layer.values = layer.values.narrow(0, 0, count);
  }
}

std::mutex g_cudnn_mutex;
int g_without_cudnn = 0;  // how many objects of the following class exist
bool g_former_cudnn = true;

/// Keeps cuDNN from computing attention: it prepares each number of keys anew, which takes longer
/// than many tokens. The setting is the process's, so it is restored once no thread needs it.
class WithoutCudnnAttention {
 public:
  WithoutCudnnAttention() {
    const std::lock_guard lock(g_cudnn_mutex);
    if (g_without_cudnn++ == 0) g_former_cudnn = at::globalContext().userEnabledCuDNNSDP();
    at::globalContext().setSDPUseCuDNN(false);
  }
  ~WithoutCudnnAttention() {
    const std::lock_guard lock(g_cudnn_mutex);
    if (--g_without_cudnn == 0) at::globalContext().setSDPUseCuDNN(g_former_cudnn);
  }
  WithoutCudnnAttention(const WithoutCudnnAttention&) = delete;
  WithoutCudnnAttention& operator=(const WithoutCudnnAttention&) = delete;
};

/// @return  rows that were evaluated
int64_t generate(DalleModel& model, const SamplingConfig& sampling, ImageBatch& batch,
                 const std::function<void(int64_t)>& add_progress) {
  const int64_t length = model->layout().image_length();
  const GuidedPositions guided = guided_positions(sampling, length);
  const at::Device device = device_of(*model);
  const int64_t count = batch.count();
  std::vector<TokenSampler> samplers(static_cast<size_t>(at::get_num_threads()),
                                     TokenSampler(sampling));
  DecodeState state = model->prefill(batch.captions(guided.end > 0).to(device));
  auto previous =
      torch::zeros({guided.end > 0 ? 2 * count : count}, at::device(device).dtype(at::kLong));
  int64_t rows = 0;
  for (int64_t position = 0; position < batch.end(); ++position) {
    if (position == guided.end && position > 0) {
      keep_first(state, count);
      previous = previous.narrow(0, 0, count);
    }
    const at::Tensor logits = model->decode_step(state, previous);  // [rows, V]
    if (batch.is_free(position))
      batch.sample(samplers, position,
                   guided.contains(position) ? logits : logits.narrow(0, 0, count));
    previous = batch.codes().select(1, position).to(device);
    if (position < guided.end) previous = previous.repeat({2});
    rows += logits.size(0);
    // The last step completes the images: all later codes are forced.
    add_progress(position + 1 < batch.end() ? count : count * (length - position));
  }
  return rows;
}

}  // namespace

GenerateStatistics generate_stepwise(DalleModel& model, std::span<const CaptionImages> requests,
                                     const SamplingConfig& sampling, const GenerateOptions& options,
                                     int64_t images, const CodesDone& codes_done,
                                     const std::function<void(int64_t)>& add_progress) {
  const SequenceLayout& layout = model->layout();
  const WithoutCudnnAttention without_cudnn;
  std::vector<RequestedImage> all;
  for (size_t r = 0; r < requests.size(); ++r)
    for (int64_t i = 0; i < requests[r].count; ++i) all.push_back({r, requests[r].first_image + i});
  GenerateStatistics statistics;
  for (size_t begin = 0; begin < all.size(); begin += static_cast<size_t>(images)) {
    const size_t count = std::min(static_cast<size_t>(images), all.size() - begin);
    ImageBatch batch(requests, std::span(all).subspan(begin, count), layout.image_length(),
                     options.seed);
    statistics.rows += generate(model, sampling, batch, add_progress);
    statistics.passes += batch.end();
    statistics.codes += batch.codes().numel();
    for (size_t row = 0; row < count; ++row)
      codes_done(
          all[begin + row].request, all[begin + row].number,
          batch.codes()[static_cast<int64_t>(row)].view({layout.grid_height, layout.grid_width}));
  }
  return statistics;
}

}  // namespace dalle
