#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "core/descriptor.h"

namespace dalle {

/// @param begin  the first byte to read; at or after the end of the file, there is nothing
/// @throws dalle::Error naming the path and the reason: missing, a directory, unreadable
std::string read_file(const std::filesystem::path& path, uint64_t begin = 0);

/// Replaces a file in such a way that readers see either the old or the new content, even after a
/// crash: writes a temporary file next to it, flushes that to disk and renames it to `path`.
/// @throws dalle::Error naming the path and the reason (disk full, read-only), with the old
///         content still in place
void write_file_atomically(const std::filesystem::path& path, std::string_view content);

/// Checks whether write_file_atomically() could write `path`, without changing the file.
/// @throws dalle::Error naming the path and the reason
void check_can_write(const std::filesystem::path& path);

/// Flushes a file, or the entries of a directory, to disk.
void flush_to_disk(const std::filesystem::path& path);

/// Creates the directory and its parents.
/// @throws dalle::Error naming the path and the reason
void make_directories(const std::filesystem::path& path);

/// Returns the path without a slash at its end: "a/b" for "a/b/". The path "/" stays the same.
std::filesystem::path without_trailing_slash(const std::filesystem::path& path);

/// Returns the SHA-256 in lowercase hexadecimal digits.
std::string sha256(std::string_view bytes);
std::string sha256_of_file(const std::filesystem::path& path);

/// Identifies the content of a file.
struct FileDigest {
  int64_t size = 0;    ///< bytes
  std::string sha256;  ///< 64 lowercase hexadecimal digits

  bool operator==(const FileDigest&) const = default;
};

/// @throws dalle::Error naming the path and the reason: missing, a directory, unreadable
FileDigest digest_of_file(const std::filesystem::path& path);

/// Writes and hashes a file piece by piece, so that gigabytes of content need not be in memory at
/// once. The file is incomplete until finish(): write to a temporary name and rename.
class FileWriter {
 public:
  /// Creates the file or truncates the existing one.
  /// @throws dalle::Error naming the path and the reason
  explicit FileWriter(const std::filesystem::path& path);
  ~FileWriter();

  /// @throws dalle::Error naming the path and the reason (disk full)
  void write(std::string_view bytes);

  /// Flushes the file to disk and closes it.
  /// @throws dalle::Error naming the path and the reason (disk full)
  FileDigest finish();

 private:
  std::filesystem::path path_;
  Descriptor file_;
  std::unique_ptr<class Sha256> digest_;
  int64_t size_ = 0;
};

/// An exclusive lock on a file, held until destruction. The kernel releases it if the process dies.
class FileLock {
 public:
  /// @throws dalle::Error if another process holds the lock (naming its PID and host), if `path`
  ///         cannot be written, or if the file system does not support locks
  explicit FileLock(const std::filesystem::path& path);

 private:
  Descriptor file_;
};

}  // namespace dalle
