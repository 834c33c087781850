#pragma once

#include <array>
#include <cstdint>
#include <vector>

#include <ATen/core/Generator.h>
#include <ATen/core/Tensor.h>
#include <torch/nn/module.h>
#include <torch/nn/pimpl.h>

#include "nn/conv2d.h"
#include "tensor/precision.h"

namespace dalle {

/// At which end of the bottleneck the 1x1 convolution is; the two kinds mirror each other.
enum class ResidualBlockKind {
  kEncoder,  ///< 3x3, 3x3, 3x3, 1x1
  kDecoder,  ///< 1x1, 3x3, 3x3, 3x3
};

struct ResidualBlockOptions {
  ResidualBlockKind kind = ResidualBlockKind::kEncoder;
  int64_t in_channels = 0;
  int64_t out_channels = 0;  ///< a multiple of 4; the bottleneck has a quarter as many
  double post_gain = 1.0;    ///< constant factor on the output of the residual path
  Precision precision = Precision::kFloat32;
};

/// The dVAE's residual block: `id_path(x) + post_gain * res_path(x)`.
///
/// `res_path` is four convolutions `conv_1` ... `conv_4`, each preceded by a ReLU, through a
/// bottleneck of a quarter of the output channels. `id_path` is a 1x1 convolution if the number of
/// channels changes, else the identity, without parameters. There is no normalization; the small
/// post_gain takes its place.
///
/// Source: Ramesh et al. 2021, appendix A.1, and the released code
class ResidualBlockImpl : public torch::nn::Module {
 public:
  explicit ResidualBlockImpl(const ResidualBlockOptions& options);

  /// @param x  [B, in_channels, H, W]
  /// @return   [B, out_channels, H, W]
  at::Tensor forward(const at::Tensor& x);

  /// forward() of `x` upsampled twofold (nearest neighbor), without building that large tensor.
  ///
  /// Copying pixels commutes with ReLU and with 1x1 convolutions, so the first convolutions of both
  /// paths run before the upsampling, on a quarter of the pixels. Only for decoder blocks whose
  /// number of channels changes.
  ///
  /// @param x  [B, in_channels, H, W]
  /// @return   [B, out_channels, 2H, 2W]
  at::Tensor forward_upsampled(const at::Tensor& x);

  /// Initializes every weight from `generator`, in the order of the parameters.
  void initialize(at::Generator generator);

 private:
  ResidualBlockKind kind_;
  double post_gain_;
  Conv2d id_path_ = nullptr;  ///< empty if the path is the identity
  std::array<Conv2d, 4> res_path_;
};
TORCH_MODULE(ResidualBlock);

/// The blocks of each group, one after the other.
using ResidualGroups = std::vector<std::vector<ResidualBlock>>;

/// Registers groups of residual blocks in `parent`, as `group_1.block_1`, `group_1.block_2`, ...
/// @param block   the first of them, apart from its output channels; the others differ only in
///                their channels
/// @param widths  output channels of the blocks of each group
ResidualGroups register_groups(torch::nn::Module& parent, ResidualBlockOptions block,
                               const std::vector<int64_t>& widths, int64_t blocks_per_group);

/// Initializes every block from `generator`, in that order.
void initialize(ResidualGroups& groups, const at::Generator& generator);

/// Repeats every pixel twice in both directions: [B, C, H, W] -> [B, C, 2H, 2W].
at::Tensor upsample_twofold(const at::Tensor& x);

}  // namespace dalle
