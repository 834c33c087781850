#include "data/random_access_file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <utility>

#include "core/error.h"

namespace dalle {

RandomAccessFile::RandomAccessFile(std::filesystem::path path, Mode mode)
    : path_(std::move(path)), descriptor_(path_, mode == Mode::kRead ? O_RDONLY : O_RDWR) {
  if (!descriptor_.is_open()) fail("open", errno);
}

void RandomAccessFile::fail(const char* action, int error) const {
  throw Error("{}: cannot {}: {}", path_.string(), action, std::strerror(error));
}

int64_t RandomAccessFile::size() const {
  struct stat status {};
  if (::fstat(descriptor_.get(), &status) != 0) fail("read", errno);
  return status.st_size;
}

void RandomAccessFile::read(int64_t offset, void* bytes, int64_t size) const {
  auto* to = static_cast<char*>(bytes);
  while (size > 0) {
    const ssize_t count = ::pread(descriptor_.get(), to, static_cast<size_t>(size), offset);
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) fail("read", errno);
    if (count == 0)
      throw Error("{}: ends at byte {}, expected {} more bytes", path_.string(), offset, size);
    to += count;
    offset += count;
    size -= count;
  }
}

void RandomAccessFile::write(int64_t offset, const void* bytes, int64_t size) {
  const auto* from = static_cast<const char*>(bytes);
  while (size > 0) {
    const ssize_t count = ::pwrite(descriptor_.get(), from, static_cast<size_t>(size), offset);
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) fail("write", errno);
    from += count;
    offset += count;
    size -= count;
  }
}

void RandomAccessFile::allocate(int64_t size) {
  // Not posix_fallocate(): where the file system cannot reserve space, it writes to every page.
  while (::fallocate(descriptor_.get(), 0, 0, size) != 0) {
    if (errno == EINTR) continue;
    if (errno == EOPNOTSUPP || errno == ENOSYS) return;
    fail("write", errno);
  }
}

void RandomAccessFile::flush() {
  if (::fdatasync(descriptor_.get()) != 0) fail("flush to disk", errno);
}

}  // namespace dalle
