#include "core/error.h"

namespace dalle {

void fail_check(const char* condition, const char* file, int line) {
  throw std::logic_error(fmt::format("internal error, please report it: {} does not hold ({}:{})",
                                     condition, file, line));
}

}  // namespace dalle
