#pragma once

#include <filesystem>
#include <functional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include <ATen/core/Tensor.h>
#include <c10/core/Device.h>

#include "model/discrete_vae.h"

namespace dalle {

/// Maps images to vectors, so that distances measure how similar images are. Distances in one space
/// cannot be compared with those in another.
struct FeatureSpace {
  std::string name;
  /// [B, 3, H, W] float32 in [0, 1], on any device -> [B, D] float32 on the CPU
  std::function<at::Tensor(const at::Tensor& images)> features;
  /// B captions -> [B, D] float32 on the CPU; empty if the space has only images.
  std::function<at::Tensor(std::span<const std::string> captions)> of_captions = {};
  std::string hash = {};  ///< of the file or the checkpoint's manifest; empty for built-in spaces
};

/// "pixels": the image averaged to 16 x 16 pixels, scaled so that the Euclidean distance of two
/// images is the root mean square difference of their values. D = 768.
FeatureSpace pixel_space();

/// "random": a convolutional network with random weights, which are the same bits in every build
/// and on every machine. Four convolutions of 3 x 3 with stride 2, zeros around the image, no bias,
/// and ReLU have 32, 64, 128 and 128 channels. Their output is averaged to 4 x 4 positions, which a
/// matrix maps to D = 64 features. Values are mapped to [-1, 1] first. The weights of layer l (the
/// matrix is layer 4) are a (2 u - 1), in their order in memory, with u from
/// seeded_uniform({derive_seed(0, SeedPurpose::kRandomFeatures, l)}, count), a^2 = 6 / inputs for
/// convolutions and 3 / inputs for the matrix.
/// Source: Naeem et al. 2020, section 4, on features of random networks for images unlike ImageNet
FeatureSpace random_space(c10::Device device);

inline constexpr std::string_view kDvaeSpace = "dvae";

/// kDvaeSpace: DiscreteVaeImpl::features(). D is the width of the encoder's last group.
FeatureSpace dvae_space(DiscreteVae vae);

/// A user's network, as torch.jit.save() writes it. Its forward() is called in evaluation mode with
/// Float [B, 3, S, S] in [0, 1], B at most 32, on `device`, and must return Float [B, D] with the
/// same D for every batch. The name is that of the file without its extension, a hyphen, and the
/// first 12 digits of its SHA-256.
///
/// Loading such a file runs code of its author.
///
/// @param image_size  S, for a first test
/// @throws dalle::Error naming the file if it cannot be read or is not TorchScript; if forward()
///         fails, or returns something else or values that are not finite, also from features()
FeatureSpace torchscript_space(const std::filesystem::path& file, c10::Device device,
                               int64_t image_size);

/// A space, and what is done to images before.
struct FeatureKind {
  FeatureSpace space;
  double blur = 0;  ///< standard deviation for gaussian_blur(), in pixels; 0: none
};

/// The features of images, of each kind.
/// @param images  [B, 3, H, W] uint8, on the device that blurs them
/// @return        each [B, D] float32 on the CPU
std::vector<at::Tensor> features_of(std::span<const FeatureKind> kinds, const at::Tensor& images);

}  // namespace dalle
