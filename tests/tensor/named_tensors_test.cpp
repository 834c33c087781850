#include "tensor/named_tensors.h"

#include <sys/resource.h>

#include <cmath>
#include <csignal>
#include <filesystem>
#include <fstream>
#include <limits>
#include <string_view>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <torch/nn/module.h>
#include <torch/types.h>

#include "child_process.h"
#include "error_of.h"
#include "temporary_directory.h"
#include "tensor/safetensors.h"

namespace dalle {
namespace {

using testing::HasSubstr;

constexpr at::ScalarType kAllTypes[] = {at::kBool,  at::kByte, at::kChar,  at::kUInt16,
                                        at::kShort, at::kHalf, at::kInt,   at::kBFloat16,
                                        at::kFloat, at::kLong, at::kDouble};

/// Does not flush to disk like write_file_atomically(), because tests write thousands of files.
void put(const std::filesystem::path& path, std::string_view bytes) {
  std::ofstream(path, std::ios::binary) << bytes;
}

/// Expects equal names, types, shapes and bits, including those of NaNs.
void expect_same_bits(const NamedTensors& a, const NamedTensors& b) {
  ASSERT_EQ(a.size(), b.size());
  for (size_t i = 0; i < a.size(); ++i) {
    EXPECT_EQ(a[i].first, b[i].first);
    EXPECT_EQ(a[i].second.scalar_type(), b[i].second.scalar_type()) << a[i].first;
    EXPECT_EQ(a[i].second.sizes(), b[i].second.sizes()) << a[i].first;
    EXPECT_EQ(safetensors_bytes({{"x", a[i].second}}), safetensors_bytes({{"x", b[i].second}}))
        << a[i].first;
  }
}

/// A module with a submodule, parameters of two shapes and a buffer of a different type.
struct Inner : torch::nn::Module {
  at::Tensor scale = register_parameter("scale", torch::full({2}, 3.0));
};
struct Outer : torch::nn::Module {
  at::Tensor weight = register_parameter("weight", torch::arange(6.0).view({2, 3}));
  at::Tensor count = register_buffer("count", torch::tensor(int64_t{7}));
  std::shared_ptr<Inner> inner = register_module("inner", std::make_shared<Inner>());
};

TEST(NamedTensors, RoundTripsEveryTypeAndShapeInOrder) {
  const TemporaryDirectory folder;
  NamedTensors tensors;
  for (const at::ScalarType type : kAllTypes) {
    const std::string name = c10::toString(type);
    tensors.emplace_back("odd." + name, torch::arange(15).remainder(2).view({3, 5}).to(type));
    tensors.emplace_back("scalar." + name, torch::ones({}, torch::kInt).to(type));
    tensors.emplace_back("empty." + name, torch::empty({4, 0, 2}, type));
  }
  constexpr double kInfinity = std::numeric_limits<double>::infinity();
  tensors.emplace_back(
      "special",
      torch::tensor({0.0, -0.0, kInfinity, -kInfinity, std::nan("7"), 5e-324}, torch::kDouble));
  const std::map<std::string, std::string> metadata = {{"format", "pt"}, {"caption", "a \"é\"\n"}};
  write_safetensors(folder / "x", tensors, metadata);
  const SafetensorsFile file = read_safetensors(folder / "x");
  expect_same_bits(file.tensors, tensors);
  EXPECT_EQ(file.metadata, metadata);
}

TEST(NamedTensors, WritesViewsContiguously) {
  const TemporaryDirectory folder;
  const at::Tensor matrix = torch::arange(24.0).view({4, 6});
  write_safetensors(folder / "x", {{"t", matrix.t()}, {"s", matrix.slice(1, 1, 6, 2)}});
  const SafetensorsFile file = read_safetensors(folder / "x");
  EXPECT_TRUE(torch::equal(file.tensors[0].second, matrix.t()));
  EXPECT_TRUE(torch::equal(file.tensors[1].second, matrix.slice(1, 1, 6, 2)));
}

TEST(NamedTensors, ReturnsTheDigestOfTheFile) {
  const TemporaryDirectory folder;
  const NamedTensors tensors = weights_of(Outer());
  const FileDigest digest = write_safetensors(folder / "x", tensors, {{"k", "v"}});
  const std::string bytes = safetensors_bytes(tensors, {{"k", "v"}});
  EXPECT_EQ(read_file(folder / "x"), bytes);
  EXPECT_EQ(digest.sha256, sha256(bytes));
  EXPECT_EQ(digest.size, static_cast<int64_t>(bytes.size()));
}

TEST(NamedTensors, RejectsTruncatedFiles) {
  const TemporaryDirectory folder;
  const std::string bytes = safetensors_bytes(weights_of(Outer()), {{"k", "v"}});
  put(folder / "x", bytes);
  for (size_t size = bytes.size(); size-- > 0;) {
    std::filesystem::resize_file(folder / "x", size);
    EXPECT_THAT(error_of([&] { read_safetensors(folder / "x"); }), HasSubstr("/x: ")) << size;
  }
}

TEST(NamedTensors, RejectsBooleansOtherThanZeroAndOne) {
  const TemporaryDirectory folder;
  std::string bytes = safetensors_bytes({{"mask", torch::ones({3}, torch::kBool)}});
  bytes.back() = 2;
  put(folder / "x", bytes);
  EXPECT_THAT(error_of([&] { read_safetensors(folder / "x"); }),
              HasSubstr("tensor \"mask\": has type BOOL, but contains bytes other than 0 and 1"));
}

TEST(NamedTensors, NamesATypeThatTheFormatDoesNotSupport) {
  EXPECT_THAT(error_of([] {
                safetensors_bytes({{"z", torch::zeros({2}, torch::kComplexFloat)}});
              }),
              HasSubstr("tensor \"z\": the safetensors format does not support type ComplexFloat"));
}

TEST(NamedTensors, ReportsAFullDisk) {
  const TemporaryDirectory folder;
  const NamedTensors tensors = {{"a", torch::zeros({1000})}};
  const int status = exit_status_in_child([&] {
    std::signal(SIGXFSZ, SIG_IGN);
    const rlimit limit{1000, 1000};
    ::setrlimit(RLIMIT_FSIZE, &limit);
    const std::string message = error_of([&] { write_safetensors(folder / "x", tensors); });
    ::_exit(!message.ends_with("/x: cannot write: File too large"));
  });
  EXPECT_EQ(status, 0);
}

TEST(NamedTensors, WeightsHaveDottedNamesAndNoGradient) {
  const Outer module;
  const NamedTensors weights = weights_of(module);
  std::vector<std::string> names;
  for (const auto& [name, tensor] : weights) {
    names.push_back(name);
    EXPECT_FALSE(tensor.requires_grad());
  }
  EXPECT_THAT(names, testing::ElementsAre("weight", "inner.scale", "count"));
  EXPECT_EQ(weights[0].second.const_data_ptr(), module.weight.const_data_ptr());  // no copy
}

TEST(NamedTensors, WeightsLoadIntoAnotherModuleInPlace) {
  const TemporaryDirectory folder;
  Outer from, to;
  {
    const torch::NoGradGuard no_grad;
    to.weight.zero_();
    to.inner->scale.zero_();
    to.count.zero_();
    // Parameters that are views of a flat buffer must remain views.
    to.weight.set_data(torch::zeros({8}).slice(0, 0, 6).view({2, 3}));
  }
  const void* place = to.weight.const_data_ptr();
  write_safetensors(folder / "x", weights_of(from));
  load_weights(to, read_safetensors(folder / "x").tensors, "x");
  expect_same_bits(weights_of(to), weights_of(from));
  EXPECT_EQ(to.weight.const_data_ptr(), place);
  EXPECT_TRUE(to.weight.requires_grad());
}

TEST(NamedTensors, LoadingConvertsFloatingPointTypes) {
  Outer module;
  NamedTensors weights = weights_of(module);
  weights[0].second = torch::full({2, 3}, 0.5, torch::kHalf);
  load_weights(module, weights, "x");
  EXPECT_TRUE(torch::equal(module.weight, torch::full({2, 3}, 0.5f)));
}

TEST(NamedTensors, NamesEveryMismatchAndLeavesTheModuleUnchanged) {
  Outer module;
  const NamedTensors before = {{"weight", module.weight.clone().detach()},
                               {"inner.scale", module.inner->scale.clone().detach()},
                               {"count", module.count.clone()}};
  const auto error = [&](const NamedTensors& tensors) {
    const std::string message = error_of([&] { load_weights(module, tensors, "w.safetensors"); });
    expect_same_bits(weights_of(module), before);
    return message;
  };
  EXPECT_EQ(
      error({{"weight", torch::zeros({3, 2})},
             {"extra", torch::zeros({1})},
             {"b", torch::zeros({1})}}),
      "w.safetensors: does not match the model: weight has shape [3, 2], expected [2, 3]; missing "
      "count, inner.scale; unexpected extra, b");
  NamedTensors tensors = {{"weight", torch::zeros({2, 3})},
                          {"inner.scale", torch::zeros({2})},
                          {"count", torch::tensor(1.5)}};
  EXPECT_EQ(error(tensors),
            "w.safetensors: does not match the model: count has type Float, expected Long");
  tensors[2].second = torch::tensor(int64_t{1});
  tensors.push_back(tensors[0]);
  EXPECT_EQ(error(tensors), "w.safetensors: does not match the model: duplicate weight");
  EXPECT_EQ(error({}),
            "w.safetensors: does not match the model: missing count, inner.scale, weight");
}

}  // namespace
}  // namespace dalle
