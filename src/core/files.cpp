#include "core/files.h"

#include <fcntl.h>
#include <openssl/evp.h>
#include <sys/file.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <fstream>
#include <memory>
#include <vector>

#include "core/descriptor.h"
#include "core/error.h"

namespace dalle {
namespace {

namespace fs = std::filesystem;

std::string reason() {
  return std::strerror(errno);
}

bool write_all(int descriptor, std::string_view bytes) {
  while (!bytes.empty()) {
    const ssize_t written = ::write(descriptor, bytes.data(), bytes.size());
    if (written < 0 && errno == EINTR) continue;
    if (written < 0) return false;
    bytes.remove_prefix(static_cast<size_t>(written));
  }
  return true;
}

/// "1234 on node7": a PID alone does not identify a process where machines share file systems.
std::string process_name() {
  std::array<char, 256> host{};
  ::gethostname(host.data(), host.size() - 1);
  return fmt::format("{} on {}", ::getpid(), host.data());
}

/// Reports why flock() failed, according to errno.
[[noreturn]] void throw_not_locked(const fs::path& path) {
  switch (errno) {
    case EWOULDBLOCK: {
      const std::string holder = read_file(path);
      throw Error("{}: in use by another process{}", path.string(),
                  holder.empty() ? "" : " (PID " + holder + ")");
    }
    case ENOSYS:
    case ENOTSUP:
    case ENOLCK:
      throw Error(
          "{}: cannot lock: {}; this file system does not support file locks: enable them "
          "(Lustre: mount with -o flock; NFS: start its lock service), or use a folder on another "
          "file system",
          path.string(), reason());
    default:
      throw Error("{}: cannot lock: {}", path.string(), reason());
  }
}

}  // namespace

class Sha256 {
 public:
  Sha256() : context_(EVP_MD_CTX_new(), EVP_MD_CTX_free) {
    DALLE_CHECK(context_ && EVP_DigestInit_ex(context_.get(), EVP_sha256(), nullptr) == 1);
  }
  void update(const void* bytes, size_t size) {
    DALLE_CHECK(EVP_DigestUpdate(context_.get(), bytes, size) == 1);
  }
  std::string hex() {
    unsigned char digest[EVP_MAX_MD_SIZE];
    unsigned size = 0;
    DALLE_CHECK(EVP_DigestFinal_ex(context_.get(), digest, &size) == 1);
    std::string text;
    for (unsigned i = 0; i < size; ++i) text += fmt::format("{:02x}", digest[i]);
    return text;
  }

 private:
  std::unique_ptr<EVP_MD_CTX, decltype(&EVP_MD_CTX_free)> context_;
};

std::string read_file(const fs::path& path, uint64_t begin) {
  std::error_code unknown;  // if the path is inaccessible, opening it fails below
  if (fs::is_directory(path, unknown))
    throw Error("{}: expected a file, found a directory", path.string());
  const Descriptor file(path, O_RDONLY);
  if (!file.is_open()) throw Error("{}: cannot read: {}", path.string(), reason());
  if (begin > 0 && ::lseek(file.get(), static_cast<off_t>(begin), SEEK_SET) < 0)
    throw Error("{}: cannot read: {}", path.string(), reason());
  const uintmax_t expected = fs::file_size(path, unknown);
  std::string content(unknown ? 1 << 16 : expected - std::min(expected, begin) + 1, '\0');
  size_t size = 0;
  // Not an ifstream, which cannot tell a read error from the end of the file.
  for (ssize_t count = 1; count != 0;) {
    count = ::read(file.get(), content.data() + size, content.size() - size);
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) throw Error("{}: cannot read: {}", path.string(), reason());
    size += static_cast<size_t>(count);
    if (size == content.size()) content.resize(2 * size);
  }
  content.resize(size);
  return content;
}

void write_file_atomically(const fs::path& path, std::string_view content) {
  fs::path partial = path;
  partial += ".part";
  const auto fail = [&](const std::string& why) {
    std::error_code ignored;  // the first failure is the one to report
    fs::remove(partial, ignored);
    throw Error("{}: cannot write: {}", path.string(), why);
  };
  Descriptor file(partial, O_WRONLY | O_CREAT | O_TRUNC);
  if (!file.is_open()) fail(reason());
  if (!write_all(file.get(), content) || ::fsync(file.get()) != 0 || !file.close()) fail(reason());
  if (::rename(partial.c_str(), path.c_str()) != 0) fail(reason());
  flush_to_disk(path.has_parent_path() ? path.parent_path() : fs::path("."));
}

void check_can_write(const fs::path& path) {
  std::error_code unknown;  // if the path is inaccessible, opening the file fails below
  if (fs::is_directory(path, unknown))
    throw Error("{}: cannot write: found a directory, expected a file name", path.string());
  fs::path partial = path;
  partial += ".part";
  const Descriptor file(partial, O_WRONLY | O_CREAT);
  if (!file.is_open()) throw Error("{}: cannot write: {}", path.string(), reason());
  ::unlink(partial.c_str());
}

void flush_to_disk(const fs::path& path) {
  const Descriptor file(path, O_RDONLY);
  if (!file.is_open() || ::fsync(file.get()) != 0)
    throw Error("{}: cannot flush to disk: {}", path.string(), reason());
}

void make_directories(const fs::path& path) {
  std::error_code error;
  fs::create_directories(path, error);
  if (error) throw Error("{}: cannot create the directory: {}", path.string(), error.message());
}

fs::path without_trailing_slash(const fs::path& path) {
  return path.has_filename() ? path : path.parent_path();
}

std::string sha256(std::string_view bytes) {
  Sha256 digest;
  digest.update(bytes.data(), bytes.size());
  return digest.hex();
}

std::string sha256_of_file(const fs::path& path) {
  return digest_of_file(path).sha256;
}

FileDigest digest_of_file(const fs::path& path) {
  if (fs::is_directory(path)) throw Error("{}: expected a file, found a directory", path.string());
  std::ifstream file(path, std::ios::binary);
  if (!file) throw Error("{}: cannot read: {}", path.string(), reason());
  Sha256 digest;
  int64_t size = 0;
  std::vector<char> buffer(1 << 20);
  while (file) {
    file.read(buffer.data(), static_cast<std::streamsize>(buffer.size()));
    digest.update(buffer.data(), static_cast<size_t>(file.gcount()));
    size += file.gcount();
  }
  if (file.bad()) throw Error("{}: cannot read: {}", path.string(), reason());
  return {.size = size, .sha256 = digest.hex()};
}

FileWriter::FileWriter(const fs::path& path)
    : path_(path), file_(path, O_WRONLY | O_CREAT | O_TRUNC), digest_(std::make_unique<Sha256>()) {
  if (!file_.is_open()) throw Error("{}: cannot write: {}", path.string(), reason());
}

FileWriter::~FileWriter() = default;

void FileWriter::write(std::string_view bytes) {
  DALLE_CHECK(file_.is_open());
  if (!write_all(file_.get(), bytes)) throw Error("{}: cannot write: {}", path_.string(), reason());
  digest_->update(bytes.data(), bytes.size());
  size_ += static_cast<int64_t>(bytes.size());
}

FileDigest FileWriter::finish() {
  DALLE_CHECK(file_.is_open());
  if (::fsync(file_.get()) != 0 || !file_.close())
    throw Error("{}: cannot write: {}", path_.string(), reason());
  return {.size = size_, .sha256 = digest_->hex()};
}

FileLock::FileLock(const fs::path& path) : file_(path, O_RDWR | O_CREAT) {
  if (!file_.is_open()) throw Error("{}: cannot write: {}", path.string(), reason());
  if (::flock(file_.get(), LOCK_EX | LOCK_NB) != 0) throw_not_locked(path);
  if (::ftruncate(file_.get(), 0) != 0 || !write_all(file_.get(), process_name()))
    throw Error("{}: cannot write: {}", path.string(), reason());
}

}  // namespace dalle
