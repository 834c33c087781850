#include "eval/judged_images.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <functional>
#include <numeric>

namespace dalle {
namespace {

StatedValues is_exact(const ShapesMatch& match) {
  return {.right = match.exact, .stated = 1};
}

StatedValues has_right_count(const ShapesMatch& match) {
  return {.right = match.count, .stated = 1};
}

constexpr size_t kAttributeKinds = 1 + kStatedValues.size();

/// Whether an image has all values of a kind right, for the count and each kind: 1 or 0.
std::array<double, kAttributeKinds> kinds_right(const ShapesMatch& match) {
  std::array<double, kAttributeKinds> right = {match.count ? 1.0 : 0.0};
  for (size_t kind = 1; kind < kAttributeKinds; ++kind) {
    const StatedValues& values = match.*kStatedValues[kind - 1].second;
    right[kind] = values.right == values.stated ? 1 : 0;
  }
  return right;
}

bool has_any(const std::vector<double>& sums) {
  return std::ranges::any_of(sums, [](double sum) { return sum > 0; });
}

}  // namespace

void JudgedImages::add(const std::string& caption, const ShapesMatch& match) {
  const size_t cluster = clusters_.try_emplace(caption, clusters_.size()).first->second;
  verdicts_.push_back({.cluster = cluster, .match = match});
}

template <class ValuesOf>
JudgedImages::Sums JudgedImages::sums_of(ValuesOf&& values_of) const {
  Sums sums{.right = std::vector<double>(clusters_.size()),
            .stated = std::vector<double>(clusters_.size())};
  for (const Verdict& verdict : verdicts_) {
    const StatedValues values = values_of(verdict.match);
    sums.right[verdict.cluster] += static_cast<double>(values.right);
    sums.stated[verdict.cluster] += static_cast<double>(values.stated);
  }
  return sums;
}

std::vector<std::pair<std::string_view, Interval>> JudgedImages::proportions() const {
  std::vector<std::pair<std::string_view, Interval>> result;
  const auto append = [&](std::string_view name, auto&& values_of) {
    const Sums sums = sums_of(values_of);
    if (has_any(sums.stated))
      result.emplace_back(name, clustered_proportion(sums.right, sums.stated));
  };
  append("exact", is_exact);
  append("count", has_right_count);
  for (const auto& [name, values] : kStatedValues) append(name, std::mem_fn(values));
  append("atoms", std::mem_fn(&ShapesMatch::atoms));
  return result;
}

ShapesErrors JudgedImages::errors() const {
  ShapesErrors sum;
  for (const Verdict& verdict : verdicts_) sum += verdict.match.errors;
  return sum;
}

std::map<int64_t, JudgedImages> JudgedImages::by_atoms() const {
  std::vector<std::string> captions(clusters_.size());
  for (const auto& [caption, cluster] : clusters_) captions[cluster] = caption;
  std::map<int64_t, JudgedImages> groups;
  for (const auto& [cluster, match] : verdicts_)
    groups[match.atoms().stated].add(captions[cluster], match);
  return groups;
}

std::optional<Interval> JudgedImages::joint_over_product() const {
  const auto images = static_cast<double>(verdicts_.size());
  std::array<double, kAttributeKinds> marginals{};
  double joint = 0;
  for (const auto& [cluster, match] : verdicts_) {
    const auto right = kinds_right(match);
    for (size_t kind = 0; kind < kAttributeKinds; ++kind) marginals[kind] += right[kind];
    joint += match.exact ? 1 : 0;
  }
  if (joint == 0) return std::nullopt;
  joint /= images;
  for (double& marginal : marginals) marginal /= images;
  double ratio = joint;
  for (const double marginal : marginals) ratio /= marginal;
  // The delta method for the logarithm, a sum of logarithms of means, over clusters.
  std::vector<double> deviations(clusters_.size());
  for (const auto& [cluster, match] : verdicts_) {
    const auto right = kinds_right(match);
    double deviation = (match.exact ? 1 / joint : 0) - 1;
    for (size_t kind = 0; kind < kAttributeKinds; ++kind)
      deviation -= right[kind] / marginals[kind] - 1;
    deviations[cluster] += deviation / images;
  }
  const auto clusters = static_cast<double>(deviations.size());
  const double squares =
      std::inner_product(deviations.begin(), deviations.end(), deviations.begin(), 0.0);
  return log_interval(ratio, std::sqrt(clusters / (clusters - 1) * squares));
}

std::optional<Interval> JudgedImages::exact_over(const JudgedImages& ceiling) const {
  const Sums most = ceiling.sums_of(is_exact);
  if (!has_any(most.right)) return std::nullopt;
  return ratio_interval(sums_of(is_exact).right, most.right);
}

}  // namespace dalle
