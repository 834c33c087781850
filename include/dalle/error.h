#pragma once

#include <stdexcept>

#include "dalle/export.h"

namespace dalle {

namespace detail {
/// The type of a format string for these arguments. It is defined only inside the library, so this
/// header needs no formatting library; programs catch errors but do not construct them.
template <class... Args>
struct ErrorFormat;
}  // namespace detail

/// An error that the user can fix: an invalid file, key, caption or option.
///
/// what() is one line, or one line per problem in a config. It names the file, key or sample, what
/// was found and what was expected.
class DALLE_API Error : public std::runtime_error {
 public:
  template <class... Args>
  explicit Error(typename detail::ErrorFormat<Args...>::Type format, Args&&... args);
};

}  // namespace dalle
