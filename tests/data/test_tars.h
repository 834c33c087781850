#pragma once

#include <filesystem>
#include <string>
#include <utility>
#include <vector>

#include <fmt/format.h>

#include "core/files.h"

namespace dalle {

/// A ustar header block. Source: POSIX.1-1988, ustar interchange format
inline std::string tar_header(const std::string& name, uint64_t size, char type = '0') {
  std::string block(512, '\0');
  const auto put = [&](size_t place, const std::string& text) {
    block.replace(place, text.size(), text);
  };
  put(0, name.substr(0, 100));
  put(100, "0000644");
  put(108, "0000000");
  put(116, "0000000");
  put(124, fmt::format("{:011o}", size));
  put(136, "00000000000");
  put(148, "        ");
  put(156, std::string(1, type));
  put(257, std::string("ustar\0"
                       "00",
                       8));
  int sum = 0;
  for (const char byte : block) sum += static_cast<unsigned char>(byte);
  put(148, fmt::format("{:06o}", sum) + '\0' + ' ');
  return block;
}

inline std::string tar_member(const std::string& name, const std::string& content,
                              char type = '0') {
  return tar_header(name, content.size(), type) + content +
         std::string((512 - content.size() % 512) % 512, '\0');
}

inline const std::string kTarEnd(1024, '\0');

using NamedContents = std::vector<std::pair<std::string, std::string>>;

inline std::string tar_of(const NamedContents& members) {
  std::string bytes;
  for (const auto& [name, content] : members) bytes += tar_member(name, content);
  return bytes + kTarEnd;
}

inline void write_tar(const std::filesystem::path& path, const NamedContents& members) {
  write_file_atomically(path, tar_of(members));
}

}  // namespace dalle
