#pragma once

#include <stdexcept>
#include <string>
#include <utility>

#include <fmt/format.h>

namespace dalle {

/// An error that the user can fix: an invalid file, key, caption or option.
///
/// The message names the file, key or sample, what was found and what was expected. `main` prints
/// it on one line and exits with status 1.
class Error : public std::runtime_error {
 public:
  template <class... Args>
  explicit Error(fmt::format_string<Args...> format, Args&&... args)
      : std::runtime_error(fmt::format(format, std::forward<Args>(args)...)) {}
};

[[noreturn]] void fail_check(const char* condition, const char* file, int line);

}  // namespace dalle

/// Throws std::logic_error if an invariant of this code does not hold. User input must never be
/// able to trigger it.
#define DALLE_CHECK(condition) \
  ((condition) ? (void)0 : ::dalle::fail_check(#condition, __FILE__, __LINE__))
