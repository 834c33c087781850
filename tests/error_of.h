#pragma once

#include <string>
#include <utility>

#include "core/error.h"

namespace dalle {

/// The message of the dalle::Error that `action` throws. Other exceptions are passed through.
template <class Action>
std::string error_of(Action&& action) {
  try {
    std::forward<Action>(action)();
  } catch (const Error& error) {
    return error.what();
  }
  return "no error";
}

}  // namespace dalle
