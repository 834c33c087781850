#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace dalle {

/// Reads a whole file.
/// @throws dalle::Error naming the path and the reason: missing, a directory, unreadable
std::string read_file(const std::filesystem::path& path);

/// Writes a file so that a reader sees the old content or the new one and never a part: to a file
/// beside it, flushed to the disk, then renamed over it.
/// @throws dalle::Error naming the path and the reason (disk full, read-only); `path` is then as
/// before
void write_file_atomically(const std::filesystem::path& path, std::string_view content);

/// Finds out early whether write_file_atomically() could write `path`; the file there stays as it
/// is.
/// @throws dalle::Error naming the path and the reason
void check_can_write(const std::filesystem::path& path);

/// Flushes a file or a directory's entries to the disk.
void flush_to_disk(const std::filesystem::path& path);

/// Creates the directory and its parents.
/// @throws dalle::Error naming the path and the reason
void make_directories(const std::filesystem::path& path);

/// SHA-256 in lower-case hexadecimal digits.
std::string sha256(std::string_view bytes);
std::string sha256_of_file(const std::filesystem::path& path);

/// What tells a file's content from any other.
struct FileDigest {
  int64_t size = 0;    ///< bytes
  std::string sha256;  ///< 64 lower-case hexadecimal digits

  bool operator==(const FileDigest&) const = default;
};

/// @throws dalle::Error naming the path and the reason: missing, a directory, unreadable
FileDigest digest_of_file(const std::filesystem::path& path);

/// Writes a file piece by piece and hashes the pieces as they pass, so that content of many
/// gigabytes is never in memory twice. What a reader sees before finish() is a part: write to a
/// place aside and rename.
class FileWriter {
 public:
  /// Creates the file, or empties the one that is there.
  /// @throws dalle::Error naming the path and the reason
  explicit FileWriter(const std::filesystem::path& path);
  ~FileWriter();
  FileWriter(const FileWriter&) = delete;
  FileWriter& operator=(const FileWriter&) = delete;

  /// @throws dalle::Error naming the path and the reason (disk full)
  void write(std::string_view bytes);

  /// Flushes the file to the disk and closes it.
  /// @throws dalle::Error naming the path and the reason (disk full)
  FileDigest finish();

 private:
  struct Implementation;
  std::unique_ptr<Implementation> implementation_;
};

/// Holds an exclusive lock on a file until destroyed; the kernel drops it when the process dies.
class FileLock {
 public:
  /// @throws dalle::Error if another process holds it, naming that process's id and machine, if
  /// `path` cannot be written, or if its file system has no locks
  explicit FileLock(const std::filesystem::path& path);
  ~FileLock();
  FileLock(const FileLock&) = delete;
  FileLock& operator=(const FileLock&) = delete;

 private:
  int descriptor_;
};

}  // namespace dalle
