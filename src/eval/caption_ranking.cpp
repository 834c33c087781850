#include "eval/caption_ranking.h"

#include <algorithm>
#include <functional>
#include <utility>
#include <vector>

#include <fmt/ranges.h>

#include "core/ascii.h"

namespace dalle {

CaptionRank rank_caption(double truth, std::span<const double> others) {
  const auto better = std::ranges::count_if(others, [&](double other) { return other > truth; });
  const auto equal = std::ranges::count(others, truth);
  CaptionRank rank;
  for (auto place = better + 1; place <= better + equal + 1; ++place)
    rank.reciprocal += 1 / static_cast<double>(place * (equal + 1));
  rank.first = better == 0 ? 1 / static_cast<double>(equal + 1) : 0;
  return rank;
}

std::string shuffled_words(std::string_view caption, SeedStream& random) {
  const std::vector<std::string> words = split_words(caption);
  if (std::ranges::adjacent_find(words, std::not_equal_to<>()) == words.end()) return "";
  std::vector<std::string> shuffled = words;
  while (shuffled == words)
    for (size_t i = shuffled.size(); i > 1; --i)
      std::swap(shuffled[i - 1], shuffled[random.below(i)]);
  return fmt::format("{}", fmt::join(shuffled, " "));
}

}  // namespace dalle
