#include "parallel/agree.h"

#include <algorithm>
#include <string>
#include <vector>

namespace dalle {

bool agree_any(ProcessGroup& group, bool own) {
  const std::vector<std::string> answers = group.all_gather_strings(own ? "yes" : "");
  return std::ranges::any_of(answers, [](const std::string& answer) { return !answer.empty(); });
}

}  // namespace dalle
