#include "experiment/report/run_samples.h"

#include <algorithm>
#include <charconv>
#include <filesystem>
#include <optional>
#include <system_error>
#include <utility>

namespace dalle {
namespace {

/// Nothing for names that training does not give to sample images.
std::optional<SampleFile> sample_file(const std::string& name) {
  constexpr std::string_view kExtension = ".png";
  const size_t dash = name.rfind('-');
  if (dash == name.npos || !name.ends_with(kExtension)) return std::nullopt;
  const char* const begin = name.data() + dash + 1;
  const char* const end = name.data() + name.size() - kExtension.size();
  SampleFile sample{.kind = name.substr(0, dash), .step = 0, .file = name};
  const auto [stop, error] = std::from_chars(begin, end, sample.step);
  if (stop != end || error != std::errc()) return std::nullopt;
  return sample;
}

}  // namespace

std::vector<SampleFile> samples_of(const RunPaths& run, std::string_view stage) {
  std::vector<SampleFile> samples;
  std::error_code missing;
  for (const auto& entry : std::filesystem::directory_iterator(run.samples() / stage, missing))
    if (auto sample = sample_file(entry.path().filename().string()))
      samples.push_back(std::move(*sample));
  std::ranges::sort(samples, {}, [](const SampleFile& sample) {
    return std::pair(std::string_view(sample.kind), sample.step);
  });
  return samples;
}

}  // namespace dalle
