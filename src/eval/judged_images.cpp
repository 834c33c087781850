#include "eval/judged_images.h"

#include <algorithm>

namespace dalle {
namespace {

StatedValues exact_of(const ShapesMatch& match) {
  return {.right = match.exact, .stated = 1};
}

StatedValues count_of(const ShapesMatch& match) {
  return {.right = match.count, .stated = 1};
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
  append("exact", exact_of);
  append("count", count_of);
  append("shape", [](const ShapesMatch& match) { return match.shape; });
  append("color", [](const ShapesMatch& match) { return match.color; });
  append("size", [](const ShapesMatch& match) { return match.size; });
  append("texture", [](const ShapesMatch& match) { return match.texture; });
  append("background", [](const ShapesMatch& match) { return match.background; });
  append("relation", [](const ShapesMatch& match) { return match.relation; });
  return result;
}

ShapesErrors JudgedImages::errors() const {
  ShapesErrors sum;
  for (const Verdict& verdict : verdicts_) sum += verdict.match.errors;
  return sum;
}

std::optional<Interval> JudgedImages::exact_over(const JudgedImages& ceiling) const {
  const Sums most = ceiling.sums_of(exact_of);
  if (!has_any(most.right)) return std::nullopt;
  return ratio_interval(sums_of(exact_of).right, most.right);
}

}  // namespace dalle
