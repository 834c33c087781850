#include "tensor/torch_error.h"

#include <algorithm>
#include <array>
#include <new>
#include <string_view>

#include <c10/util/Exception.h>

namespace dalle {

std::string error_text(const std::exception& error) {
  const auto* of_torch = dynamic_cast<const c10::Error*>(&error);
  return of_torch != nullptr ? of_torch->what_without_backtrace() : error.what();
}

bool is_out_of_memory(const std::exception& error) {
  if (dynamic_cast<const std::bad_alloc*>(&error) != nullptr) return true;
  const auto* of_torch = dynamic_cast<const c10::Error*>(&error);
  if (of_torch == nullptr) return false;
  if (dynamic_cast<const c10::OutOfMemoryError*>(&error) != nullptr) return true;
  const std::string_view text = of_torch->what_without_backtrace();
  return std::ranges::any_of(
      std::array<std::string_view, 3>{"can't allocate memory", "out of memory",
                                      "CUBLAS_STATUS_ALLOC_FAILED"},
      [&](std::string_view sign) { return text.find(sign) != text.npos; });
}

}  // namespace dalle
