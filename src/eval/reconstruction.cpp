#include "eval/reconstruction.h"

#include <cmath>

#include <torch/types.h>

#include "core/error.h"
#include "tensor/describe_tensor.h"

namespace dalle {
namespace {

constexpr int64_t kWindow = 11;
constexpr double kWindowStd = 1.5;
constexpr double kLuminanceConstant = 0.01 * 0.01;  // (K1 * range)^2
constexpr double kContrastConstant = 0.03 * 0.03;   // (K2 * range)^2

void check_pair(const char* what, const at::Tensor& images, const at::Tensor& reconstructions) {
  if (images.dim() != 4 || images.sizes() != reconstructions.sizes() ||
      !images.is_floating_point() || !reconstructions.is_floating_point() || images.numel() == 0)
    throw Error("{}: images are {} and reconstructions are {}, expected equal Float [B, C, H, W]",
                what, describe_tensor(images), describe_tensor(reconstructions));
}

at::Tensor gaussian_window(const at::TensorOptions& options) {
  const auto offsets = torch::arange(kWindow, options) - (kWindow - 1) / 2;
  const auto weights = (-offsets.square() / (2 * kWindowStd * kWindowStd)).exp();
  return weights / weights.sum();
}

}  // namespace

at::Tensor code_counts(const at::Tensor& codes, int64_t vocab_size) {
  if (codes.scalar_type() != at::kLong || codes.numel() == 0)
    throw Error("code_counts: found {}, expected at least one code in Long [..., h, w]",
                describe_tensor(codes));
  const auto [smallest, largest] = codes.aminmax();
  if (smallest.item<int64_t>() < 0 || largest.item<int64_t>() >= vocab_size)
    throw Error("code_counts: found codes from {} to {}, expected them in [0, {})",
                smallest.item<int64_t>(), largest.item<int64_t>(), vocab_size);
  return codes.flatten().bincount(/*weights=*/{}, vocab_size);
}

CodebookHealth codebook_health(const at::Tensor& counts) {
  const auto used = counts.masked_select(counts > 0).to(at::kDouble);
  const auto shares = used / used.sum();
  return {.used_share = static_cast<double>(used.numel()) / static_cast<double>(counts.numel()),
          .perplexity = std::exp(-(shares * shares.log()).sum().item<double>())};
}

at::Tensor position_code_counts(const at::Tensor& codes, int64_t vocab_size) {
  code_counts(codes, vocab_size);             // checks them
  const auto at_position = codes.flatten(1);  // [B, h w]
  const int64_t positions = at_position.size(1);
  const auto offsets = torch::arange(positions, codes.options()) * vocab_size;
  return (at_position + offsets)
      .flatten()
      .bincount(/*weights=*/{}, positions * vocab_size)
      .view({positions, vocab_size});
}

at::Tensor position_entropy(const at::Tensor& counts) {
  const auto shares = counts.to(at::kDouble) / counts.sum(1, /*keepdim=*/true);
  return -at::xlogy(shares, shares).sum(1);
}

at::Tensor shift_right(const at::Tensor& images) {
  return at::cat({images.narrow(3, 0, 1), images.narrow(3, 0, images.size(3) - 1)}, 3);
}

at::Tensor psnr(const at::Tensor& images, const at::Tensor& reconstructions) {
  check_pair("psnr", images, reconstructions);
  const auto error = images.to(at::kDouble) - reconstructions.to(at::kDouble);
  return error.square().mean({1, 2, 3}).log10().mul(-10.0);
}

at::Tensor structural_similarity(const at::Tensor& images, const at::Tensor& reconstructions) {
  check_pair("structural_similarity", images, reconstructions);
  if (images.size(2) < kWindow || images.size(3) < kWindow)
    throw Error("structural_similarity: images are {}, expected sides of at least {}",
                describe_tensor(images), kWindow);
  // Channels become separate images; the Gaussian window is separable into a column and a row.
  const int64_t batch = images.size(0);
  const auto x = images.to(at::kDouble).flatten(0, 1).unsqueeze(1);           // [B C, 1, H, W]
  const auto y = reconstructions.to(at::kDouble).flatten(0, 1).unsqueeze(1);  // [B C, 1, H, W]
  const auto window = gaussian_window(x.options());
  const auto local_mean = [&](const at::Tensor& t) {
    return at::conv2d(at::conv2d(t, window.view({1, 1, kWindow, 1})),
                      window.view({1, 1, 1, kWindow}));  // [B C, 1, H - 10, W - 10]
  };
  const auto mean_x = local_mean(x);
  const auto mean_y = local_mean(y);
  const auto variance_x = local_mean(x * x) - mean_x * mean_x;
  const auto variance_y = local_mean(y * y) - mean_y * mean_y;
  const auto covariance = local_mean(x * y) - mean_x * mean_y;
  const auto luminance = (2 * mean_x * mean_y + kLuminanceConstant) /
                         (mean_x.square() + mean_y.square() + kLuminanceConstant);
  const auto structure =
      (2 * covariance + kContrastConstant) / (variance_x + variance_y + kContrastConstant);
  return (luminance * structure).view({batch, -1}).mean(1);
}

}  // namespace dalle
