#include "dist/agreement.h"

#include <algorithm>
#include <sstream>
#include <vector>

#include "core/error.h"

namespace dalle {

void check_agreement(ProcessGroup& group, const std::string& what, const std::string& text) {
  const std::vector<std::string> texts = group.all_gather_strings(text);
  for (size_t rank = 1; rank < texts.size(); ++rank) {
    if (texts[rank] == texts[0]) continue;
    std::istringstream first(texts[0]), other(texts[rank]);
    std::string expected, found;
    do {
      if (!std::getline(first, expected)) expected = "nothing";
      if (!std::getline(other, found)) found = "nothing";
    } while (expected == found);
    const auto begin = [](const std::string& line) { return line.find_first_not_of(' '); };
    throw Error("rank {}: {} differs from that of rank 0: found {:?}, expected {:?}", rank, what,
                found.substr(begin(found)), expected.substr(begin(expected)));
  }
}

int64_t count_agreeing(ProcessGroup& group, const std::string& text) {
  return std::ranges::count(group.all_gather_strings(text), text);
}

}  // namespace dalle
