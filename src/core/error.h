#pragma once

#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>

#include <fmt/format.h>

#include "dalle/error.h"

namespace dalle {

template <class... Args>
struct detail::ErrorFormat {
  using Type = fmt::format_string<Args...>;
};

/// `throw Error("{}: found {}, expected ...", path, found)`; the format is checked when compiled.
/// `main` prints the message and exits with status 1.
template <class... Args>
Error::Error(typename detail::ErrorFormat<Args...>::Type format, Args&&... args)
    : std::runtime_error(fmt::format(format, std::forward<Args>(args)...)) {}

/// Returns what `work` returns, and puts "PREFIX: " in front of the message of an Error.
template <class Work>
auto prefix_errors(std::string_view prefix, const Work& work) {
  try {
    return work();
  } catch (const Error& error) {
    throw Error("{}: {}", prefix, error.what());
  }
}

[[noreturn]] void fail_check(const char* condition, const char* file, int line);

}  // namespace dalle

/// Throws std::logic_error if an invariant of this code does not hold. User input must never be
/// able to trigger it.
#define DALLE_CHECK(condition) \
  ((condition) ? (void)0 : ::dalle::fail_check(#condition, __FILE__, __LINE__))
