#pragma once

#include <stdexcept>
#include <string>
#include <utility>

#include <fmt/format.h>

namespace dalle {

/// Bad input: a file, a key, a caption or an option that the user can put right.
///
/// The message names the file, key or sample, what was found and what was expected. `main` prints
/// it as one line and exits with status 1.
class Error : public std::runtime_error {
 public:
  template <class... Args>
  explicit Error(fmt::format_string<Args...> format, Args&&... args)
      : std::runtime_error(fmt::format(format, std::forward<Args>(args)...)) {}
};

[[noreturn]] void fail_check(const char* condition, const char* file, int line);

}  // namespace dalle

/// Stops at a broken invariant of our own code, which no input may reach.
#define DALLE_CHECK(condition) \
  ((condition) ? (void)0 : ::dalle::fail_check(#condition, __FILE__, __LINE__))
