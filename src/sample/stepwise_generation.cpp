#include "sample/stepwise_generation.h"

#include <algorithm>
#include <vector>

#include <torch/types.h>

#include "sample/forced_codes.h"
#include "sample/guidance.h"
#include "sample/image_noise.h"
#include "sample/token_sampler.h"
#include "tensor/device_of.h"

namespace dalle {
namespace {

/// Images [first, first + count) of a request, which are generated together.
class ImageBatch {
 public:
  ImageBatch(const CaptionImages& request, int64_t image_length, uint64_t seed, int64_t first,
             int64_t count)
      : first_(first),
        noise_(seed, {request.caption.const_data_ptr<int64_t>(),
                      static_cast<size_t>(request.caption.numel())}),
        codes_(torch::empty({count, image_length}, at::kLong)) {
    for (int64_t row = 0; row < count; ++row) {
      const std::vector<int64_t> forced = forced_codes(request, image_length, seed, first + row);
      end_ = std::max(end_, evaluated_positions(forced));
      std::ranges::copy(forced, codes_.accessor<int64_t, 2>()[row].data());
    }
  }

  int64_t count() const { return codes_.size(0); }
  int64_t end() const { return end_; }  ///< of the positions that are free in any image
  const at::Tensor& codes() const { return codes_; }  ///< [count, image_length]

  bool is_free(int64_t position) const {
    return codes_.select(1, position).eq(kFreeCode).any().item<bool>();
  }

  /// Samples the free codes of a position.
  /// @param logits  [count, V]; with guidance [2 count, V], the unconditional ones last
  void sample(TokenSampler& sampler, int64_t position, const at::Tensor& logits) {
    const at::Tensor on_cpu = logits.cpu().contiguous();
    const auto row_of = [&](int64_t row) {
      return std::span(on_cpu[row].const_data_ptr<float>(), static_cast<size_t>(on_cpu.size(1)));
    };
    auto codes = codes_.accessor<int64_t, 2>();
    for (int64_t row = 0; row < count(); ++row) {
      if (codes[row][position] != kFreeCode) continue;
      std::span<const float> of_row = row_of(row);
      if (on_cpu.size(0) > count()) of_row = sampler.guided(of_row, row_of(count() + row));
      codes[row][position] = sampler.sample(of_row, noise_.at(first_ + row, position));
    }
  }

 private:
  int64_t first_;
  ImageNoise noise_;
  at::Tensor codes_;
  int64_t end_ = 0;
};

/// [count, text_length - 1], followed by as many null captions with guidance
at::Tensor captions_of(const CaptionImages& request, int64_t count, bool with_null) {
  const at::Tensor captions = request.caption.expand({count, -1});
  return with_null ? at::cat({captions, at::full_like(captions, kPadToken)}) : captions;
}

void keep_first(DecodeState& state, int64_t count) {
  for (KvCache& layer : state.layers) {
    layer.keys = layer.keys.narrow(0, 0, count);
    layer.values = layer.values.narrow(0, 0, count);
  }
}

/// @return  rows that were evaluated
int64_t generate(DalleModel& model, const CaptionImages& request, const SamplingConfig& sampling,
                 ImageBatch& batch, const std::function<void(int64_t)>& add_progress) {
  const int64_t length = model->layout().image_length();
  const GuidedPositions guided = guided_positions(sampling, length);
  const at::Device device = device_of(*model);
  const int64_t count = batch.count();
  TokenSampler sampler(sampling);
  DecodeState state = model->prefill(captions_of(request, count, guided.end > 0).to(device));
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
      batch.sample(sampler, position,
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
  GenerateStatistics statistics;
  for (size_t r = 0; r < requests.size(); ++r) {
    const int64_t end = requests[r].first_image + requests[r].count;
    for (int64_t first = requests[r].first_image; first < end; first += images) {
      const int64_t count = std::min(images, end - first);
      ImageBatch batch(requests[r], layout.image_length(), options.seed, first, count);
      statistics.rows += generate(model, requests[r], sampling, batch, add_progress);
      statistics.passes += batch.end();
      statistics.codes += batch.codes().numel();
      for (int64_t i = 0; i < count; ++i)
        codes_done(r, first + i, batch.codes()[i].view({layout.grid_height, layout.grid_width}));
    }
  }
  return statistics;
}

}  // namespace dalle
