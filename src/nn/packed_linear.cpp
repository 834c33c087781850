#include "nn/packed_linear.h"

#include <algorithm>

#include <ATen/Parallel.h>
#include <torch/types.h>

#include "core/error.h"
#include "tensor/round_up.h"

namespace dalle {
namespace {

/// weight [out, in] -> [panels, in, kPanelWidth], padded with zeros.
template <class Value>
std::vector<Value> packed(const at::Tensor& weight, int64_t panels) {
  const int64_t out = weight.size(0), in = weight.size(1);
  std::vector<Value> result(static_cast<size_t>(panels * in * kPanelWidth));
  const auto* const source = static_cast<const Value*>(weight.const_data_ptr());
  at::parallel_for(0, panels, 1, [&](int64_t begin, int64_t end) {
    for (int64_t o = begin * kPanelWidth; o < std::min(end * kPanelWidth, out); ++o) {
      Value* const target = result.data() + o / kPanelWidth * in * kPanelWidth + o % kPanelWidth;
      for (int64_t i = 0; i < in; ++i) target[i * kPanelWidth] = source[o * in + i];
    }
  });
  return result;
}

}  // namespace

PackedLinear::PackedLinear(const at::Tensor& weight, const at::Tensor& bias, Precision precision,
                           const DecodeKernels& kernels)
    : kernels_(&kernels), in_(weight.size(1)), out_(weight.size(0)) {
  DALLE_CHECK(weight.is_cpu() && weight.scalar_type() == at::kFloat);
  const int64_t panels = round_up(out_, kPanelWidth) / kPanelWidth;
  if (precision == Precision::kBfloat16)
    bfloat16_weight_ = packed<uint16_t>(weight.detach().to(at::kBFloat16).contiguous(), panels);
  else
    float_weight_ = packed<float>(weight.detach().contiguous(), panels);
  bias_.resize(static_cast<size_t>(panels * kPanelWidth));
  if (!bias.defined()) return;
  DALLE_CHECK(bias.numel() == out_ && bias.is_cpu() && bias.scalar_type() == at::kFloat);
  std::copy_n(bias.contiguous().const_data_ptr<float>(), out_, bias_.begin());
}

void PackedLinear::multiply_panels(const RowBlock& block, int64_t first, int64_t panels) const {
  const int64_t weight = first * in_ * kPanelWidth, bias = first * kPanelWidth;
  if (!bfloat16_weight_.empty())
    kernels_->multiply_bfloat16(block, bfloat16_weight_.data() + weight, bias_.data() + bias,
                                panels);
  else
    kernels_->multiply_float32(block, float_weight_.data() + weight, bias_.data() + bias, panels);
}

void PackedLinear::multiply(const float* x, int64_t x_stride, int64_t rows, float* y,
                            std::optional<Activation> activation) const {
  DALLE_CHECK(rows > 0);
  const int64_t y_stride = padded_out();
  const auto activate_in_place = !activation                        ? nullptr
                                 : *activation == Activation::kGelu ? kernels_->gelu
                                                                    : kernels_->quick_gelu;
  const int64_t grain = 1 + kProductsPerThread / (rows * in_ * kPanelWidth);
  at::parallel_for(0, y_stride / kPanelWidth, grain, [&](int64_t begin, int64_t end) {
    const RowBlock block{.x = x,
                         .x_stride = x_stride,
                         .rows = rows,
                         .in = in_,
                         .y = y + begin * kPanelWidth,
                         .y_stride = y_stride};
    multiply_panels(block, begin, end - begin);
    if (activate_in_place == nullptr) return;
    for (int64_t row = 0; row < rows; ++row)
      activate_in_place(block.y + row * y_stride, (end - begin) * kPanelWidth);
  });
}

int64_t PackedLinear::bytes() const {
  return static_cast<int64_t>(float_weight_.size() * sizeof(float) +
                              bfloat16_weight_.size() * sizeof(uint16_t));
}

}  // namespace dalle
