#include "experiment/report/training_curves.h"

#include <algorithm>
#include <map>
#include <string_view>
#include <utility>

#include <nlohmann/json.hpp>

namespace dalle {
namespace {

using nlohmann::ordered_json;

/// The chart that a metric belongs to, and what it is called there.
struct Place {
  std::string group;
  std::string series;
};

Place place_of(std::string_view metric) {
  constexpr std::pair<std::string_view, std::string_view> kSources[] = {
      {"loss", "training"}, {"validation", "validation"}};
  for (const auto& [prefix, source] : kSources) {
    if (metric == prefix) return {"loss", std::string(source)};
    if (metric.starts_with(prefix) && metric[prefix.size()] == '/')
      return {std::string(metric.substr(prefix.size() + 1)), std::string(source)};
  }
  if (metric == "psnr_soft") return {"psnr", "soft codes"};
  if (metric == "psnr_hard") return {"psnr", "hard codes"};
  constexpr std::string_view kAt = "_at_";
  if (const size_t at = metric.find(kAt); at != metric.npos)
    return {std::string(metric.substr(0, at)) + "_retrieval",
            "top " + std::string(metric.substr(at + kAt.size()))};
  return {std::string(metric), std::string(metric)};
}

/// What the chart of a group is called; other metrics are called by their own name.
std::string title_of(const std::string& group) {
  static const std::map<std::string, std::string> titles = {
      {"reconstruction", "reconstruction NLL, nats per channel value"},
      {"kl", "KL divergence, nats per position"},
      {"text", "text, nats per token"},
      {"image", "image, nats per token"},
      {"image_to_text", "image-to-text loss, nats"},
      {"text_to_image", "text-to-image loss, nats"},
      {"image_to_text_retrieval", "image-to-text recall"},
      {"text_to_image_retrieval", "text-to-image recall"},
      {"logit_scale", "logit scale"},
      {"psnr", "PSNR on validation images, dB"},
      {"psnr_gap", "PSNR, soft minus hard codes, dB"},
      {"posterior_entropy", "entropy of the posterior, nats"},
      {"codes_used", "share of the codes in use"},
      {"perplexity", "perplexity of the codes"},
      {"perplexity_share", "perplexity divided by the number of codes"},
      {"commitment", "commitment loss"},
      {"codebook", "codebook loss"},
      {"grad_norm", "gradient norm"},
      {"lr", "learning rate"},
      {"temperature", "temperature"},
      {"kl_weight", "weight of the KL divergence"},
      {"skipped", "skipped steps"}};
  const auto found = titles.find(group);
  return found == titles.end() ? group : found->second;
}

template <class List, class Name>
auto& find_or_add(List& list, Name name, const std::string& wanted) {
  for (auto& element : list)
    if (element.*name == wanted) return element;
  auto& added = list.emplace_back();
  added.*name = wanted;
  return added;
}

void add_line(std::vector<StageCurves>& stages, const ordered_json& line) {
  if (!line.is_object() || !line.contains("stage") || !line["stage"].is_string() ||
      !line.contains("step") || !line["step"].is_number())
    return;
  auto& stage = find_or_add(stages, &StageCurves::stage, line["stage"].get<std::string>());
  for (const auto& [metric, value] : line.items()) {
    if (metric == "step" || !value.is_number()) continue;
    const Place place = place_of(metric);
    auto& group = find_or_add(stage.groups, &CurveGroup::name, place.group);
    find_or_add(group.series, &ChartSeries::name, place.series)
        .points.push_back({line["step"].get<double>(), value.get<double>()});
  }
}

/// Replaces runs of points by their means, so that a chart has no more than it can show. The last
/// point stays.
void thin(std::vector<ChartPoint>& points) {
  constexpr size_t kMaxMeans = 299;
  if (points.size() <= kMaxMeans + 1) return;
  const size_t last = points.size() - 1;
  const size_t run = (last + kMaxMeans - 1) / kMaxMeans;
  std::vector<ChartPoint> means;
  for (size_t begin = 0; begin < last; begin += run) {
    const size_t end = std::min(begin + run, last);
    ChartPoint mean;
    for (size_t i = begin; i < end; ++i) {
      mean.x += points[i].x / static_cast<double>(end - begin);
      mean.y += points[i].y / static_cast<double>(end - begin);
    }
    means.push_back(mean);
  }
  means.push_back(points[last]);
  points = std::move(means);
}

}  // namespace

std::vector<StageCurves> GrowingCurves::read() {
  const auto add = [&](const ordered_json& line) { add_line(stages_, line); };
  if (!for_each_new_metric_line(metrics_, progress_, add)) {
    stages_.clear();
    progress_ = {};
    for_each_new_metric_line(metrics_, progress_, add);
  }
  std::vector<StageCurves> shown = stages_;
  for (StageCurves& stage : shown)
    for (CurveGroup& group : stage.groups) {
      group.name = title_of(group.name);
      for (ChartSeries& series : group.series) thin(series.points);
    }
  return shown;
}

std::vector<StageCurves> read_training_curves(const std::filesystem::path& metrics) {
  return GrowingCurves(metrics).read();
}

}  // namespace dalle
