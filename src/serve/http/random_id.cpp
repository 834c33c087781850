#include "serve/http/random_id.h"

#include <unistd.h>

#include <vector>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "core/error.h"

namespace dalle {

std::string random_id(size_t bytes) {
  std::vector<unsigned char> random(bytes);
  DALLE_CHECK(::getentropy(random.data(), random.size()) == 0);
  return fmt::format("{:02x}", fmt::join(random, ""));
}

}  // namespace dalle
