#include "train/out_of_memory.h"

#include <cstring>
#include <new>

#include <c10/util/Exception.h>

namespace dalle {

bool is_out_of_memory(const std::exception& error) {
  if (dynamic_cast<const std::bad_alloc*>(&error) != nullptr) return true;
  const auto* of_torch = dynamic_cast<const c10::Error*>(&error);
  if (of_torch == nullptr) return false;
  return dynamic_cast<const c10::OutOfMemoryError*>(&error) != nullptr ||
         std::strstr(of_torch->what_without_backtrace(), "can't allocate memory") != nullptr;
}

}  // namespace dalle
