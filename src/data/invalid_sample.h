#pragma once

#include <optional>
#include <string>
#include <system_error>

#include "core/error.h"

namespace dalle {

/// Why a sample is invalid: what `read` throws, a dalle::Error or, while reading its file, a
/// std::system_error. Nothing if it succeeds.
template <class Read>
std::optional<std::string> defect_of(const Read& read) {
  try {
    read();
    return std::nullopt;
  } catch (const Error& error) {
    return error.what();
  } catch (const std::system_error& error) {
    return error.what();
  }
}

}  // namespace dalle
