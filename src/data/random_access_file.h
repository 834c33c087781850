#pragma once

#include <cstdint>
#include <filesystem>

namespace dalle {

/// A file that is read and written at any place, from several threads at once.
class RandomAccessFile {
 public:
  enum class Mode { kRead, kReadWrite };

  /// @throws dalle::Error naming the path and the reason, here and in every other function
  RandomAccessFile(std::filesystem::path path, Mode mode);
  ~RandomAccessFile();
  RandomAccessFile(const RandomAccessFile&) = delete;
  RandomAccessFile& operator=(const RandomAccessFile&) = delete;

  const std::filesystem::path& path() const { return path_; }
  int64_t size() const;

  /// @throws dalle::Error also if the file ends before `size` bytes are read
  void read(int64_t offset, void* bytes, int64_t size) const;
  void write(int64_t offset, const void* bytes, int64_t size);

  /// Makes the file `size` bytes long and takes the room on the disk, so that a full disk is
  /// noticed now and not hours later.
  void allocate(int64_t size);

  /// Returns once all that was written is on the disk.
  void flush();

 private:
  [[noreturn]] void fail(const char* action, int error) const;

  std::filesystem::path path_;
  int descriptor_;
};

}  // namespace dalle
