#pragma once

#include <cstdint>
#include <filesystem>

#include "core/descriptor.h"

namespace dalle {

/// A file with reads and writes at any offset, from several threads concurrently.
class RandomAccessFile {
 public:
  enum class Mode { kRead, kReadWrite };

  /// @throws dalle::Error naming the path and the reason, like every other function
  RandomAccessFile(std::filesystem::path path, Mode mode);

  const std::filesystem::path& path() const { return path_; }
  int64_t size() const;

  /// @throws dalle::Error also if the file ends before `size` bytes
  void read(int64_t offset, void* bytes, int64_t size) const;
  void write(int64_t offset, const void* bytes, int64_t size);

  /// Extends the file to `size` bytes and reserves the disk space, so that a full disk is detected
  /// now and not hours later. Does nothing on a file system that cannot reserve space.
  void allocate(int64_t size);

  /// Flushes all writes to disk.
  void flush();

 private:
  [[noreturn]] void fail(const char* action, int error) const;

  std::filesystem::path path_;
  Descriptor descriptor_;
};

}  // namespace dalle
