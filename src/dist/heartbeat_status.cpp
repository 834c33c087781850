#include "dist/heartbeat_status.h"

#include <charconv>

#include <fmt/ranges.h>

#include "dist/rank_info.h"

namespace dalle {

bool is_limited(Phase phase) {
  return phase == Phase::kLoading || phase == Phase::kComputing;
}

std::string format_status(int64_t heartbeat, const RankStatus& status) {
  return fmt::format("{};{};{};{}", heartbeat, static_cast<char>(status.activity),
                     std::chrono::duration_cast<std::chrono::milliseconds>(status.age).count(),
                     status.place);
}

RankStatus parse_status(const std::string& text) {
  RankStatus status;
  status.place = text.empty() ? "startup" : text.substr(text.rfind(';') + 1);
  const size_t begin = text.find(';');
  if (begin == std::string::npos || begin + 3 > text.size()) return status;
  int64_t milliseconds = 0;
  std::from_chars(text.data() + begin + 3, text.data() + text.size(), milliseconds);
  status.activity = static_cast<Activity>(text[begin + 1]);
  status.age = std::chrono::milliseconds(milliseconds);
  return status;
}

std::string name_places(const std::map<std::string, std::vector<int64_t>>& ranks_by_place) {
  std::vector<std::string> parts;
  for (const auto& [place, ranks] : ranks_by_place)
    parts.push_back(fmt::format("{} at {}", name_ranks(ranks), place));
  return fmt::format("{}", fmt::join(parts, "; "));
}

}  // namespace dalle
