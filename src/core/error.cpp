#include "dalle/core/error.h"

namespace dalle {

void fail_check(const char* condition, const char* file, int line) {
  throw std::logic_error(
      fmt::format("broken invariant, please report it: {} ({}:{})", condition, file, line));
}

}  // namespace dalle
