#pragma once

#include <cmath>
#include <string>

#include <fmt/format.h>
#include <gtest/gtest.h>
#include <torch/types.h>

#include "tensor/named_tensors.h"

namespace dalle {

/// |found - expected| / |expected| in Euclidean norms, for tensors of one shape on any devices.
inline double relative_error(const at::Tensor& found, const at::Tensor& expected) {
  const auto a = found.detach().to(at::kCPU, at::kDouble);
  const auto b = expected.detach().to(at::kCPU, at::kDouble);
  const double difference = (a - b).norm().item<double>(), norm = b.norm().item<double>();
  return difference == 0 ? 0 : difference / norm;
}

struct WorstParameter {
  std::string name;
  double error = 0;  ///< relative_error()
};

/// The parameter with the largest error; NaN counts as the largest.
/// @param found, expected  tensors of the same parameters, in the same order
inline WorstParameter worst_parameter(const NamedTensors& found, const NamedTensors& expected) {
  WorstParameter worst;
  for (size_t i = 0; i < expected.size(); ++i) {
    const double error = relative_error(found[i].second, expected[i].second);
    if (worst.name.empty() || error > worst.error || std::isnan(error))
      worst = {.name = expected[i].first, .error = error};
  }
  return worst;
}

/// Expects that an error is at most `limit`, which NaN is not. The report of --gtest_output=json
/// contains the error under its name.
/// @param detail  the end of the failure message, such as ", largest in x"
inline void expect_at_most(const std::string& name, double error, double limit,
                           const std::string& detail = "") {
  testing::Test::RecordProperty(name, fmt::format("{:.3e}", error));
  EXPECT_LE(error, limit) << name << detail;
}

}  // namespace dalle
