#include "sample/stepwise_generation.h"

#include <algorithm>
#include <mutex>
#include <span>
#include <utility>
#include <vector>

#include <ATen/Context.h>
#include <torch/types.h>

#include "core/error.h"
#include "sample/graph_stream.h"
#include "sample/guidance.h"
#include "sample/image_noise.h"
#include "sample/sample_tokens.h"
#include "sample/token_sampler.h"
#include "tensor/device_of.h"
#include "tensor/put_at.h"

namespace dalle {
namespace {

/// An image of a request.
struct RequestedImage {
  size_t request = 0;
  int64_t number = 0;
};

/// Images that are generated together on a device, a row each.
class ImageBatch {
 public:
  ImageBatch(std::span<const CaptionImages> requests, std::span<const RequestedImage> images,
             int64_t image_length, uint64_t seed, at::Device device)
      : is_finite_(torch::ones({}, at::device(device).dtype(at::kBool))) {
    auto codes = torch::empty({std::ssize(images), image_length}, at::kLong);
    auto uniform = torch::empty(codes.sizes(), at::kDouble);
    auto code_rows = codes.accessor<int64_t, 2>();
    auto uniform_rows = uniform.accessor<double, 2>();
    std::vector<at::Tensor> captions;
    for (int64_t row = 0; row < codes.size(0); ++row) {
      const auto& [index, number] = images[static_cast<size_t>(row)];
      const CaptionImages& request = requests[index];
      captions.push_back(request.caption);
      const std::vector<int64_t> forced = forced_codes(request, image_length, seed, number);
      end_ = std::max(end_, evaluated_positions(forced));
      std::ranges::copy(forced, code_rows[row].data());
      const ImageNoise noise(seed, std::span(request.caption.const_data_ptr<int64_t>(),
                                             static_cast<size_t>(request.caption.numel())));
      for (int64_t position = 0; position < image_length; ++position)
        uniform_rows[row][position] = noise.at(number, position);
    }
    captions_ = at::stack(captions).to(device);
    codes_ = codes.to(device);
    uniform_ = uniform.to(device);
  }

  /// [count, text_length - 1], followed by as many null captions with guidance
  at::Tensor captions(bool with_null) const {
    return with_null ? at::cat({captions_, at::full_like(captions_, kPadToken)}) : captions_;
  }

  int64_t count() const { return codes_.size(0); }
  int64_t end() const { return end_; }  ///< of the positions that are free in any image
  at::Tensor codes() const { return codes_.cpu(); }  ///< [count, image_length]

  /// Samples the codes of a position where they are free, without waiting for the device.
  /// @param position  [1] int64
  /// @param logits    [count, V]; to guide them, [2 count, V], the unconditional ones last
  /// @return          [count] int64, the codes of the position
  at::Tensor sample(const SamplingConfig& sampling, const at::Tensor& position, at::Tensor logits) {
    const auto given = codes_.index_select(1, position).squeeze(1);  // [count]
    const auto is_given = given.ne(kFreeCode);
    if (logits.size(0) > count())
      logits = guided_logits(logits.narrow(0, 0, count()), logits.narrow(0, count(), count()),
                             sampling.guidance);
    is_finite_.logical_and_(logits.isfinite().all(1).logical_or(is_given).all());
    const auto sampled =
        sample_tokens(logits, sampling, uniform_.index_select(1, position).squeeze(1));
    const auto codes = at::where(is_given, given, sampled);
    put_at(codes_, 1, position, codes.unsqueeze(1));
    return codes;
  }

  /// Waits for the device.
  /// @throws dalle::Error if logits that sample() needed were not finite
  void check_finite() const {
    if (!is_finite_.item<bool>()) throw Error("{}", kNonFiniteLogits);
  }

 private:
  at::Tensor captions_;   // [count, text_length - 1] int64
  at::Tensor codes_;      // [count, image_length] int64, kFreeCode where not known yet
  at::Tensor uniform_;    // [count, image_length] float64
  at::Tensor is_finite_;  // [] bool
  int64_t end_ = 0;
};

/// Drops the sequences after the first `count`.
void keep_first(DecodeState& state, int64_t count) {
  for (KvCache& layer : state.layers) {
    layer.keys = layer.keys.narrow(0, 0, count);
    layer.values = layer.values.narrow(0, 0, count);
  }
}

std::mutex g_cudnn_mutex;
int g_without_cudnn = 0;  // how many objects of the following class exist
bool g_former_cudnn = true;

/// Keeps cuDNN from computing attention: it first prepares each shape, which takes longer than many
/// tokens. The setting is the process's, so it is restored once no thread needs it.
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

/// Runs a step many times. Calls `poll`, which may wait for the device, at least every 32 steps and
/// after the last one, with the number of steps since its last call.
void repeat(GraphStream& stream, int64_t times, const std::function<void()>& step,
            const std::function<void(int64_t)>& poll) {
  constexpr int64_t kWarmUpSteps = 2, kStepsPerPoll = 32;
  constexpr int64_t kFewestReplays = 8;  // for fewer, recording takes longer than it saves
  std::function<void()> run = step;
  int64_t polled = 0;
  for (int64_t done = 0; done < times;) {
    if (done == kWarmUpSteps && times - done >= kFewestReplays) run = stream.record(step);
    run();
    if (++done % kStepsPerPoll == 0 || done == times) poll(done - std::exchange(polled, done));
  }
}

/// @return  rows that were evaluated
int64_t generate(DalleModel& model, const SamplingConfig& sampling, ImageBatch& batch,
                 const std::function<void(int64_t)>& add_progress) {
  const int64_t length = model->layout().image_length();
  const GuidedPositions guided = guided_positions(sampling, length);
  const int64_t count = batch.count();
  GraphStream stream(device_of(*model));
  DecodeState state = model->prefill(batch.captions(guided.end > 0));
  auto previous = torch::zeros({guided.end > 0 ? 2 * count : count}, state.position.options());
  int64_t rows = 0, position = 0;
  for (const int64_t part_end : {guided.first, guided.end, length}) {
    const int64_t end = std::min(part_end, batch.end());
    if (position >= end) continue;
    if (position == guided.end) {
      keep_first(state, count);
      previous = previous.narrow(0, 0, count);
    }
    const bool is_guided = guided.contains(position);
    const auto step = [&] {
      const at::Tensor now = state.position.clone();                  // decode_step() advances it
      const at::Tensor logits = model->decode_step(state, previous);  // [rows, V]
      const at::Tensor codes =
          batch.sample(sampling, now, is_guided ? logits : logits.narrow(0, 0, count));
      previous.view({-1, count}).copy_(codes);
    };
    repeat(stream, end - position, step, [&](int64_t steps) {
      batch.check_finite();
      position += steps;
      rows += steps * previous.size(0);
      // The last step completes the images: all later codes are forced.
      add_progress(count * (position < batch.end() ? steps : steps + length - position));
    });
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
                     options.seed, device_of(*model));
    statistics.rows += generate(model, sampling, batch, add_progress);
    const at::Tensor codes = batch.codes();
    statistics.passes += batch.end();
    statistics.codes += codes.numel();
    for (size_t row = 0; row < count; ++row)
      codes_done(all[begin + row].request, all[begin + row].number,
                 codes[static_cast<int64_t>(row)].view({layout.grid_height, layout.grid_width}));
  }
  return statistics;
}

}  // namespace dalle
