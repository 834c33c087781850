#pragma once

#include <cstddef>
#include <string>

namespace dalle {

/// Random bytes of the operating system in hexadecimal digits. With 16 bytes, nobody can guess it.
std::string random_id(size_t bytes = 16);

}  // namespace dalle
