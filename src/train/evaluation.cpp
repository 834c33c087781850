#include "train/evaluation.h"

#include <cstddef>
#include <utility>

#include "core/error.h"
#include "data/image/image.h"
#include "metrics/running_means_json.h"

#include <nlohmann/json.hpp>

namespace dalle {
namespace {

using BinaryJson = nlohmann::ordered_json;  // as CBOR, which keeps every double's bits

std::string to_cbor(const BinaryJson& json) {
  std::string bytes;
  BinaryJson::to_cbor(json, bytes);
  return bytes;
}

}  // namespace

std::string to_bytes(const std::optional<EvaluationPart>& part) {
  if (!part) return to_cbor(nullptr);
  return to_cbor({{"batches", part->batches}, {"histogram", part->histogram}});
}

std::string to_bytes(const ImagePart& part) {
  BinaryJson groups = BinaryJson::array();
  for (const auto& [number, images] : part.groups) {
    BinaryJson list = BinaryJson::array();
    for (const RgbImage& image : images) {
      const std::string png = encode_image(image, ImageFormat::kPng);
      list.push_back(BinaryJson::binary(std::vector<uint8_t>(png.begin(), png.end())));
    }
    groups.push_back({number, std::move(list)});
  }
  return to_cbor({{"groups", std::move(groups)}, {"out_of_memory", part.out_of_memory}});
}

std::optional<EvaluationTotals> add_up(std::span<const std::string> parts) {
  std::map<int64_t, RunningMeans> batches;
  EvaluationTotals totals;
  for (const std::string& bytes : parts) {
    const BinaryJson part = BinaryJson::from_cbor(bytes);
    if (part.is_null()) return std::nullopt;
    batches.merge(part.at("batches").get<std::map<int64_t, RunningMeans>>());
    const auto histogram = part.at("histogram").get<std::vector<int64_t>>();
    if (totals.histogram.size() < histogram.size()) totals.histogram.resize(histogram.size());
    for (size_t i = 0; i < histogram.size(); ++i) totals.histogram[i] += histogram[i];
  }
  if (batches.empty()) return std::nullopt;
  for (const auto& [number, means] : batches) totals.means.add(means);
  return totals;
}

ImagePart join(std::span<const std::string> parts) {
  ImagePart all;
  for (const std::string& bytes : parts) {
    const BinaryJson part = BinaryJson::from_cbor(bytes);
    if (all.out_of_memory.empty()) all.out_of_memory = part.at("out_of_memory").get<std::string>();
    for (const BinaryJson& group : part.at("groups")) {
      std::vector<RgbImage>& images = all.groups[group.at(0).get<int64_t>()];
      for (const BinaryJson& image : group.at(1)) {
        const std::vector<uint8_t>& png = image.get_binary();
        images.push_back(decode_image({reinterpret_cast<const char*>(png.data()), png.size()}));
      }
    }
  }
  return all;
}

}  // namespace dalle
