#pragma once

#include <fcntl.h>
#include <unistd.h>

#include <filesystem>
#include <utility>

namespace dalle {

/// A file descriptor, closed on destruction.
class Descriptor {
 public:
  /// Opens `path`. On failure is_open() is false and errno says why.
  /// @param flags  those of open(2), to which O_CLOEXEC is added
  Descriptor(const std::filesystem::path& path, int flags)
      : value_(::open(path.c_str(), flags | O_CLOEXEC, 0644)) {}
  ~Descriptor() { close(); }
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;

  bool is_open() const { return value_ >= 0; }
  int get() const { return value_; }

  /// Returns false if close(2) fails, which may mean that written data is lost.
  bool close() { return value_ < 0 || ::close(std::exchange(value_, -1)) == 0; }

 private:
  int value_;
};

}  // namespace dalle
