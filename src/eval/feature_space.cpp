#include "eval/feature_space.h"

#include <array>
#include <cmath>
#include <cstdint>
#include <utility>
#include <vector>

#include <torch/types.h>

#include "core/seeds.h"
#include "data/image/image.h"
#include "eval/gaussian_blur.h"
#include "tensor/device_of.h"
#include "tensor/seeded_uniform.h"

namespace dalle {
namespace {

/// @param shape     the first dimension is that of the outputs
/// @param variance  times the number of inputs
at::Tensor random_weight(uint64_t layer, at::IntArrayRef shape, double variance) {
  const int64_t count = c10::multiply_integers(shape);
  const int64_t inputs = count / shape[0];
  const uint64_t seed = derive_seed(0, SeedPurpose::kRandomFeatures, layer);
  const at::Tensor uniform = seeded_uniform({&seed, 1}, count).view(shape);  // variance 1 / 12
  return (2 * uniform - 1) *
         static_cast<float>(std::sqrt(3 * variance / static_cast<double>(inputs)));
}

}  // namespace

FeatureSpace pixel_space() {
  constexpr int64_t kSide = 16;
  return {.name = "pixels", .features = [](const at::Tensor& images) {
            return at::adaptive_avg_pool2d(images, {kSide, kSide})
                .flatten(1)
                .div(std::sqrt(3.0 * kSide * kSide))
                .cpu();
          }};
}

FeatureSpace random_space(c10::Device device) {
  constexpr std::array<int64_t, 5> kChannels = {3, 32, 64, 128, 128};
  constexpr int64_t kGrid = 4, kFeatures = 64;
  std::vector<at::Tensor> convolutions;
  for (size_t i = 0; i + 1 < kChannels.size(); ++i)  // ReLU halves the variance
    convolutions.push_back(
        random_weight(i, {kChannels[i + 1], kChannels[i], 3, 3}, /*variance=*/2).to(device));
  const at::Tensor matrix =
      random_weight(convolutions.size(), {kFeatures, kChannels.back() * kGrid * kGrid},
                    /*variance=*/1)
          .to(device);
  return {.name = "random", .features = [=](const at::Tensor& images) {
            const torch::NoGradGuard no_grad;
            at::Tensor x = 2 * images.to(device) - 1;  // [B, 3, H, W]
            for (const at::Tensor& weight : convolutions)
              x = at::conv2d(x, weight, /*bias=*/{}, /*stride=*/2, /*padding=*/1).relu();
            x = at::adaptive_avg_pool2d(x, {kGrid, kGrid}).flatten(1);  // [B, 2048]
            return x.mm(matrix.t()).cpu();                              // [B, 64]
          }};
}

FeatureSpace dvae_space(DiscreteVae vae) {
  return {.name = std::string(kDvaeSpace),
          .features = [vae = std::move(vae)](const at::Tensor& images) mutable {
            return vae->features(images.to(device_of(*vae))).cpu();
          }};
}

std::vector<at::Tensor> features_of(std::span<const FeatureKind> kinds, const at::Tensor& images) {
  const at::Tensor sharp = unit_images(images, images.device());
  std::vector<at::Tensor> features;
  for (const auto& [space, blur] : kinds)
    features.push_back(space.features(blur > 0 ? gaussian_blur(sharp, blur) : sharp));
  return features;
}

}  // namespace dalle
