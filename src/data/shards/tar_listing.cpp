#include "data/shards/tar_listing.h"

#include <archive.h>
#include <archive_entry.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <fstream>
#include <memory>

#include "core/error.h"
#include "data/image/file_kind.h"

namespace dalle {
namespace {

namespace fs = std::filesystem;

constexpr int64_t kBlockBytes = 512;

struct CloseArchive {
  void operator()(archive* reader) const { archive_read_free(reader); }
};
using Archive = std::unique_ptr<archive, CloseArchive>;

std::string reason(archive* reader) {
  const char* message = archive_error_string(reader);
  return message == nullptr ? "unknown error" : message;
}

Archive new_reader() {
  Archive reader(archive_read_new());
  if (reader == nullptr) throw std::bad_alloc();
  archive_read_support_format_tar(reader.get());
  // `cat a.tar b.tar` contains an end-of-archive marker in the middle, like tar --ignore-zeros.
  archive_read_set_format_option(reader.get(), "tar", "read_concatenated_archives", "1");
  return reader;
}

/// @throws dalle::Error naming the path if the file cannot be read
std::string read_head(const fs::path& path) {
  std::ifstream file(path, std::ios::binary);
  std::string bytes(kFileKindBytes, '\0');
  file.read(bytes.data(), static_cast<std::streamsize>(bytes.size()));
  if (!file && !file.eof()) throw Error("{}: cannot read: {}", path.string(), std::strerror(errno));
  bytes.resize(static_cast<size_t>(file.gcount()));
  return bytes;
}

/// Describes why no more headers can be read.
/// @throws dalle::Error for I/O errors, which may be temporary
std::string describe_error(const TarListing& listing, archive* reader, const fs::path& path) {
  if (const int error = archive_errno(reader); error == EIO || error == ESTALE)
    throw Error("{}: cannot read: {}", path.string(), reason(reader));
  if (!listing.members.empty()) return reason(reader);
  const std::string head = read_head(path);
  const std::string_view kind = file_kind(head);
  return fmt::format("{}, expected a tar archive", kind.empty() ? reason(reader) : kind);
}

/// A complete archive ends with blocks of zeros. Without them, members may be missing: libarchive
/// does not detect truncation between two members.
bool has_end_mark(const fs::path& path, uint64_t bytes) {
  if (bytes < kBlockBytes) return false;
  std::ifstream file(path, std::ios::binary);
  file.seekg(static_cast<std::streamoff>(bytes - kBlockBytes));
  std::string block(kBlockBytes, 'x');
  file.read(block.data(), kBlockBytes);
  return file && std::ranges::all_of(block, [](char byte) { return byte == '\0'; });
}

}  // namespace

TarListing list_tar(const fs::path& path) {
  if (!fs::exists(path)) throw Error("{}: no such file", path.string());
  if (!fs::is_regular_file(path))
    throw Error("{}: not a regular file, expected a tar archive", path.string());
  const uint64_t bytes = fs::file_size(path);
  const Archive reader = new_reader();
  TarListing listing;
  archive_entry* entry = nullptr;
  const auto next = [&] { return archive_read_next_header(reader.get(), &entry); };
  constexpr size_t kBufferBytes = 64 * 1024;
  int status = archive_read_open_filename(reader.get(), path.c_str(), kBufferBytes);
  if (status == ARCHIVE_OK) status = next();
  for (; status == ARCHIVE_OK || status == ARCHIVE_WARN; status = next()) {  // a usable member
    if (archive_entry_filetype(entry) != AE_IFREG || archive_entry_hardlink(entry) != nullptr)
      continue;
    const char* name = archive_entry_pathname(entry);
    TarMember member{.name = name == nullptr ? "" : name,
                     // libarchive has read exactly the bytes before the member's content
                     .offset = static_cast<uint64_t>(archive_filter_bytes(reader.get(), 0)),
                     .size = static_cast<uint64_t>(archive_entry_size(entry)),
                     .is_sparse = archive_entry_sparse_count(entry) > 0};
    if (member.offset > bytes || bytes - member.offset < member.size) {
      listing.error = fmt::format("truncated in member '{}'", member.name);
      return listing;
    }
    listing.members.push_back(std::move(member));
  }
  if (status != ARCHIVE_EOF)
    listing.error = describe_error(listing, reader.get(), path);
  else if (!has_end_mark(path, bytes))
    listing.error = "truncated: the end-of-archive marker is missing";
  return listing;
}

}  // namespace dalle
