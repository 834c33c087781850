#include "eval/feature_space.h"

#include <cmath>

#include <ATen/CPUGeneratorImpl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <torch/script.h>

#include "core/files.h"
#include "error_of.h"
#include "eval/gaussian_blur.h"
#include "temporary_directory.h"

namespace dalle {
namespace {

using testing::HasSubstr;

/// [1, 3, 40, 40] float32, as tests/fixtures/image_distances.py has it.
at::Tensor waves() {
  const at::Tensor x = torch::arange(40, at::kDouble).view({1, 1, 1, 40});
  const at::Tensor y = torch::arange(40, at::kDouble).view({1, 1, 40, 1});
  const at::Tensor c = torch::arange(3, at::kDouble).view({1, 3, 1, 1});
  return (0.5 + 0.3 * (0.3 * y + 0.5 * x + c).sin() + 0.2 * (0.05 * y + 0.03 * x).sin())
      .to(at::kFloat);
}

// The network that feature_space.h describes, in float64 with PyTorch 2.11.0 and SplitMix64 in
// Python integers.
TEST(RandomSpaceTest, AgreesWithItsDescription) {
  const at::Tensor found = random_space(at::kCPU).features(waves());
  ASSERT_EQ(found.sizes(), (std::vector<int64_t>{1, 64}));
  EXPECT_NEAR(found[0][0].item<double>(), -0.6796185659028967, 1e-5);
  EXPECT_NEAR(found[0][1].item<double>(), -0.33423937359373257, 1e-5);
  EXPECT_NEAR(found[0][63].item<double>(), 0.28718044528860354, 1e-5);
  EXPECT_NEAR(found.norm().item<double>(), 3.088749248469726, 1e-5);
}

TEST(PixelSpaceTest, DistanceIsTheRootMeanSquareDifference) {
  const at::Tensor images = torch::stack({waves()[0], waves()[0] + 0.125});
  const at::Tensor found = pixel_space().features(images);
  ASSERT_EQ(found.sizes(), (std::vector<int64_t>{2, 768}));
  EXPECT_NEAR((found[0] - found[1]).norm().item<double>(), 0.125, 1e-6);
}

TEST(DvaeSpaceTest, IsTheMeanOfWhatTheLastConvolutionGets) {
  DiscreteVae vae(DiscreteVaeConfig{
      .groups = 2, .blocks_per_group = 1, .hidden = 8, .vocab_size = 16, .codebook_width = 8});
  vae->initialize(at::make_generator<at::CPUGeneratorImpl>(1));
  const torch::NoGradGuard no_grad;
  const at::Tensor found = dvae_space(vae).features(waves());
  const at::Tensor weight =
      vae->named_parameters()["encoder.blocks.output.conv.w"];  // [K, C, 1, 1]
  ASSERT_EQ(found.sizes(), (std::vector<int64_t>{1, weight.size(1)}));
  // A 1x1 convolution without bias commutes with the mean over the grid.
  EXPECT_TRUE(
      found.mm(weight.flatten(1).t()).allclose(vae->logits(waves()).mean({2, 3}), 1e-4, 1e-5));
}

TEST(FeaturesOfTest, HasTheFeaturesOfEachKindInOrder) {
  const at::Tensor images = (waves() * 255).round().to(at::kByte);
  const std::vector<FeatureKind> kinds = {{pixel_space()}, {pixel_space(), /*blur=*/2}};
  const std::vector<at::Tensor> features = features_of(kinds, images);
  ASSERT_EQ(features.size(), 2U);
  const at::Tensor sharp = images.to(at::kFloat) / 255;
  EXPECT_TRUE(features[0].allclose(pixel_space().features(sharp)));
  EXPECT_TRUE(features[1].allclose(pixel_space().features(gaussian_blur(sharp, 2))));
}

class TorchscriptSpaceTest : public testing::Test {
 protected:
  /// Saves a network whose forward() has this body.
  std::filesystem::path network(const std::string& body) const {
    torch::jit::Module module("Network");
    module.define("def forward(self, x):\n  " + body + "\n");
    module.save((folder_ / "net.pt").string());
    return folder_ / "net.pt";
  }

  std::string error_with(const std::string& body) const {
    return error_of([&] { torchscript_space(network(body), at::kCPU, 32); });
  }

  const TemporaryDirectory folder_;
};

TEST_F(TorchscriptSpaceTest, CallsTheNetworkAndIsNamedByItsHash) {
  const auto file = network("return x.mean(dim=[2, 3])");
  const FeatureSpace space = torchscript_space(file, at::kCPU, 32);
  EXPECT_EQ(space.hash, sha256_of_file(file));
  EXPECT_EQ(space.name, "net-" + space.hash.substr(0, 12));
  EXPECT_TRUE(space.features(waves()).allclose(waves().mean({2, 3})));
}

TEST_F(TorchscriptSpaceTest, SaysWhatIsWrongWithANetwork) {
  const std::string name = (folder_ / "net.pt").string();
  EXPECT_THAT(error_with("return x"),
              HasSubstr(name + ": forward(Float [2, 3, 32, 32]) returned Float [2, 3, 32, 32], "
                               "expected Float [2, D]"));
  EXPECT_THAT(error_with("return x.mean(dim=[2, 3]).sum(0, keepdim=True)"),
              HasSubstr("returned Float [1, 3], expected Float [2, D]"));
  EXPECT_THAT(error_with("return x.flatten(1).argmax(1, keepdim=True)"),
              HasSubstr("returned Long [2, 1], expected Float [2, D]"));
  EXPECT_THAT(error_with("return x, x"), HasSubstr("returned Tuple, expected Float [2, D]"));
  EXPECT_THAT(error_with("return x.mean(dim=[2, 3]) / 0"), HasSubstr("that are not finite"));
  const std::string failed = error_with("return x.flatten(1).mm(x)");
  EXPECT_THAT(failed, HasSubstr(name + ": forward(Float [2, 3, 32, 32]) failed, expected Float "
                                       "[2, D]: "));
  EXPECT_THAT(failed, HasSubstr("must be a matrix"));
  EXPECT_EQ(failed.find('\n'), std::string::npos) << failed;
}

TEST_F(TorchscriptSpaceTest, NoticesWhenFeaturesChange) {
  const FeatureSpace space = torchscript_space(
      network("return x.mean(dim=[1, 2, 3]).unsqueeze(1).expand(-1, x.size(0))"), at::kCPU, 32);
  EXPECT_THAT(error_of([&] { space.features(waves()); }),
              HasSubstr("returned Float [1, 1], but previously 2 features per image"));
}

TEST_F(TorchscriptSpaceTest, RejectsOtherFiles) {
  const auto file = folder_ / "net.pt";
  EXPECT_THAT(error_of([&] { torchscript_space(file, at::kCPU, 32); }), HasSubstr(file.string()));
  write_file_atomically(file, "weights");
  const std::string error = error_of([&] { torchscript_space(file, at::kCPU, 32); });
  EXPECT_THAT(error, HasSubstr(file.string() + ": not a TorchScript file, expected what "
                                               "torch.jit.save() writes"));
  EXPECT_EQ(error.find('\n'), std::string::npos) << error;
}

}  // namespace
}  // namespace dalle
