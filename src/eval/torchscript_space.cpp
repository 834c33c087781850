#include <string>
#include <vector>

#include <torch/script.h>

#include "core/error.h"
#include "core/files.h"
#include "eval/feature_space.h"
#include "tensor/seeded_uniform.h"
#include "tensor/tensor_checks.h"
#include "tensor/torch_error.h"

namespace dalle {
namespace {

namespace fs = std::filesystem;

/// The line of an error of TorchScript that says what is wrong; traceback comes before it.
std::string last_line(const std::exception& error) {
  std::string text = error_text(error);
  text.erase(text.find_last_not_of(" \n") + 1);
  return text.substr(text.rfind('\n') + 1);
}

torch::jit::Module load_module(const fs::path& file, c10::Device device) {
  try {
    torch::jit::Module module = torch::jit::load(file.string(), device);
    module.eval();
    return module;
  } catch (const c10::Error& error) {
    const std::string reason = error_text(error);
    throw Error("{}: not a TorchScript file, expected what torch.jit.save() writes: {}",
                file.string(), reason.substr(0, reason.find_first_of(".\n")));
  }
}

at::Tensor checked_features(const fs::path& file, torch::jit::Module& module,
                            const at::Tensor& images) {
  c10::IValue found;
  try {
    found = module.forward({images});
  } catch (const std::exception& error) {
    throw Error("{}: forward({}) failed, expected Float [{}, D]: {}", file.string(),
                describe_tensor(images), images.size(0), last_line(error));
  }
  const std::string what = found.isTensor() ? describe_tensor(found.toTensor()) : found.tagKind();
  if (!found.isTensor() || found.toTensor().dim() != 2 ||
      found.toTensor().size(0) != images.size(0) || found.toTensor().size(1) == 0 ||
      !found.toTensor().is_floating_point())
    throw Error("{}: forward({}) returned {}, expected Float [{}, D]", file.string(),
                describe_tensor(images), what, images.size(0));
  at::Tensor features = found.toTensor().to(at::kCPU, at::kFloat);
  if (!features.isfinite().all().item<bool>())
    throw Error("{}: forward({}) returned values that are not finite, expected features",
                file.string(), describe_tensor(images));
  return features;
}

}  // namespace

FeatureSpace torchscript_space(const fs::path& file, c10::Device device, int64_t image_size) {
  const std::string digest = sha256_of_file(file);
  const torch::NoGradGuard no_grad;
  torch::jit::Module module = load_module(file, device);
  const std::vector<uint64_t> seeds = {1, 2};
  const at::Tensor noise =
      seeded_uniform(seeds, 3 * image_size * image_size).view({2, 3, image_size, image_size});
  const int64_t dimensions = checked_features(file, module, noise.to(device)).size(1);
  return {.name = fmt::format("{}-{}", file.stem().string(), digest.substr(0, 12)),
          .features =
              [=](const at::Tensor& images) mutable {
                const torch::NoGradGuard without_gradient;
                at::Tensor features = checked_features(file, module, images.to(device));
                if (features.size(1) != dimensions)
                  throw Error("{}: forward({}) returned {}, but previously {} features per image",
                              file.string(), describe_tensor(images), describe_tensor(features),
                              dimensions);
                return features;
              },
          .hash = digest};
}

}  // namespace dalle
