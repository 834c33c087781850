#include "tensor/torch_file.h"

#include <archive.h>
#include <archive_entry.h>
#include <locale.h>

#include <cerrno>
#include <cstring>
#include <fstream>
#include <memory>
#include <new>
#include <string_view>
#include <utility>
#include <vector>

#include "core/error.h"
#include "core/files.h"

namespace dalle {
namespace {

namespace fs = std::filesystem;

constexpr std::string_view kZipSignature = "PK\x03\x04";
/// 0x1950a86a20f9469cfc6c, the first value of a file before PyTorch 1.6.
constexpr std::string_view kLegacyMagic = "\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19";
constexpr int64_t kLegacyVersion = 1001;

std::string first_bytes(const fs::path& path) {
  if (fs::exists(path) && !fs::is_regular_file(path))
    throw Error("{}: expected a regular file", path.string());
  std::ifstream file(path, std::ios::binary);
  std::string bytes(9, '\0');
  file.read(bytes.data(), static_cast<std::streamsize>(bytes.size()));
  if (!file && !file.eof()) throw Error("{}: cannot read: {}", path.string(), std::strerror(errno));
  bytes.resize(static_cast<size_t>(file.gcount()));
  return bytes;
}

/// The locale of this thread while it exists: libarchive converts names from UTF-8 to it.
class Utf8Locale {
 public:
  Utf8Locale()
      : locale_(::newlocale(LC_CTYPE_MASK, "C.UTF-8", nullptr)),
        previous_(locale_ == nullptr ? nullptr : ::uselocale(locale_)) {}
  ~Utf8Locale() {
    if (locale_ == nullptr) return;
    ::uselocale(previous_);
    ::freelocale(locale_);
  }
  Utf8Locale(const Utf8Locale&) = delete;
  Utf8Locale& operator=(const Utf8Locale&) = delete;

 private:
  locale_t locale_, previous_;
};

/// The entries of a zip archive, by the names that they have in its only folder.
class ZipEntries {
 public:
  explicit ZipEntries(const fs::path& path)
      : source_(path.string()), budget_(fs::file_size(path)), reader_(archive_read_new()) {
    if (reader_ == nullptr) throw std::bad_alloc();
    const Utf8Locale locale;
    check(archive_read_support_format_zip_seekable(reader_.get()));
    check(archive_read_open_filename(reader_.get(), path.c_str(), 1 << 20));
    archive_entry* entry = nullptr;
    int status = ARCHIVE_OK;
    while ((status = archive_read_next_header(reader_.get(), &entry)) == ARCHIVE_OK) add(entry);
    if (status != ARCHIVE_EOF) check(status);
  }

  bool contains(const std::string& name) const { return entries_.contains(name); }

  /// Moves an entry's bytes out.
  std::string take(const std::string& name) {
    const auto found = entries_.find(name);
    if (found == entries_.end())
      throw Error("{}: not written by torch.save(): no entry {:?}", source_, name);
    return std::move(found->second);
  }

 private:
  struct Close {
    void operator()(archive* reader) const { archive_read_free(reader); }
  };

  /// libarchive warns of checksums that do not match and of sizes that contradict each other.
  void check(int status) const {
    if (status == ARCHIVE_OK) return;
    const char* reason = archive_error_string(reader_.get());
    throw Error("{}: corrupt zip archive: {}", source_, reason == nullptr ? "unknown" : reason);
  }

  void add(archive_entry* entry) {
    const char* given = archive_entry_pathname(entry);
    const std::string path = given == nullptr ? "" : given;
    const std::string who = fmt::format("{}: entry {:?}", source_, path);
    if (entries_.size() == kMaxTorchFileEntries)
      throw Error("{}: more than {} entries", source_, kMaxTorchFileEntries);
    const size_t slash = path.find('/');
    const std::string folder = path.substr(0, slash);
    if (folder_.empty()) folder_ = folder;
    const bool climbs = fmt::format("/{}/", path).find("/../") != path.npos;
    if (slash == path.npos || folder.empty() || folder != folder_ || climbs)
      throw Error("{}: expected all entries in one folder", who);
    if (archive_entry_filetype(entry) != AE_IFREG || archive_entry_is_encrypted(entry) != 0)
      throw Error("{}: expected a plain file", who);
    const char* format = archive_format_name(reader_.get());  // "ZIP 1.0 (uncompressed)"
    if (format == nullptr || !std::string_view(format).ends_with("(uncompressed)"))
      throw Error("{}: is compressed, which torch.save() never does", who);
    const int64_t size = archive_entry_size(entry);
    if (size < 0 || static_cast<uint64_t>(size) > budget_)
      throw Error("{}: claims {} bytes, more than the file has left", who, size);
    budget_ -= static_cast<uint64_t>(size);
    std::string bytes(static_cast<size_t>(size), '\0');
    const auto read = archive_read_data(reader_.get(), bytes.data(), bytes.size());
    if (read < 0) check(static_cast<int>(read));
    if (read != size) throw Error("{}: truncated: found {} bytes of {}", who, read, size);
    char more = 0;  // libarchive compares the checksum when it reaches the end
    const auto rest = archive_read_data(reader_.get(), &more, 1);
    if (rest < 0) check(static_cast<int>(rest));
    if (rest > 0) throw Error("{}: longer than its stated size of {} bytes", who, size);
    if (!entries_.emplace(path.substr(slash + 1), std::move(bytes)).second)
      throw Error("{}: appears twice", who);
  }

  std::string source_;
  uint64_t budget_;  ///< bytes of the file that no entry has claimed
  std::unique_ptr<archive, Close> reader_;
  std::string folder_;
  std::map<std::string, std::string> entries_;
};

TorchFile read_zip(const fs::path& path) {
  const std::string source = path.string();
  ZipEntries entries(path);
  if (entries.contains("constants.pkl"))
    throw Error("{}: a TorchScript program, expected a state dict or a module", source);
  if (entries.contains("byteorder") && entries.take("byteorder") != "little")
    throw Error("{}: expected little-endian numbers", source);
  const std::string bytes = entries.take("data.pkl");
  const Pickle pickle = read_torch_pickle(bytes, source);
  if (pickle.size != bytes.size())
    throw Error("{}: {} bytes after its pickle", source, bytes.size() - pickle.size);
  TorchFile file{.state = read_torch_state(pickle, source), .data = {}};
  for (const auto& [key, storage] : file.state.storages) {
    std::string data = entries.take("data/" + key);
    if (static_cast<int64_t>(data.size()) != storage.byte_size())
      throw Error("{}: storage {:?}: found {} bytes, expected {}", source, key, data.size(),
                  storage.byte_size());
    file.data.emplace(key, std::move(data));
  }
  return file;
}

/// The parts of a file in the container before PyTorch 1.6: pickles, one after the other, and then
/// the storages, each after its number of elements.
class LegacyParts {
 public:
  LegacyParts(std::string_view bytes, std::string_view source) : rest_(bytes), source_(source) {}

  Pickle next_pickle() {
    Pickle pickle = read_torch_pickle(rest_, source_);
    rest_.remove_prefix(pickle.size);
    return pickle;
  }

  std::string_view take(int64_t bytes, std::string_view key) {
    if (static_cast<size_t>(bytes) > rest_.size())
      throw Error("{}: truncated in storage {:?}: found {} bytes, expected {}", source_, key,
                  rest_.size(), bytes);
    const std::string_view taken = rest_.substr(0, static_cast<size_t>(bytes));
    rest_.remove_prefix(taken.size());
    return taken;
  }

  size_t left() const { return rest_.size(); }

 private:
  std::string_view rest_;
  std::string_view source_;
};

/// Whether the description of the machine that wrote the file says that it is little-endian.
bool is_little_endian(const Pickle& machine) {
  const std::vector<PickleValue::Index>& items = machine.at(machine.root).items;
  for (size_t i = 0; i + 1 < items.size(); i += 2)
    if (machine.at(items[i]).text == "little_endian") return machine.at(items[i + 1]).integer == 1;
  return false;
}

TorchFile read_legacy(const fs::path& path) {
  const std::string source = path.string(), bytes = read_file(path);
  LegacyParts parts(bytes, source);
  const Pickle magic = parts.next_pickle();
  if (magic.at(magic.root).text != kLegacyMagic)
    throw Error("{}: a pickle that torch.save() did not write", source);
  const Pickle version = parts.next_pickle();
  if (version.at(version.root).integer != kLegacyVersion || !is_little_endian(parts.next_pickle()))
    throw Error("{}: expected version {} of torch.save()'s legacy format, little-endian", source,
                kLegacyVersion);
  TorchFile file{.state = read_torch_state(parts.next_pickle(), source), .data = {}};
  const Pickle keys = parts.next_pickle();
  for (const PickleValue::Index i : keys.at(keys.root).items) {
    const std::string key(keys.at(i).text);
    const auto storage = file.state.storages.find(key);
    if (storage == file.state.storages.end() || file.data.contains(key))
      throw Error("{}: storage {:?}: expected each storage of its tensors once", source, key);
    int64_t size = 0;
    std::memcpy(&size, parts.take(sizeof(size), key).data(), sizeof(size));
    if (size != storage->second.size)
      throw Error("{}: storage {:?}: found {} elements, expected {}", source, key, size,
                  storage->second.size);
    file.data.emplace(key, parts.take(storage->second.byte_size(), key));
  }
  if (file.data.size() != file.state.storages.size() || parts.left() != 0)
    throw Error(
        "{}: found {} storages and {} trailing bytes, expected {} storages and nothing after them",
        source, file.data.size(), parts.left(), file.state.storages.size());
  return file;
}

}  // namespace

bool is_torch_file(const fs::path& path) {
  const std::string start = first_bytes(path);
  const std::string_view bytes = start;
  if (bytes.starts_with(kZipSignature)) return true;
  // The length of a safetensors header, which precedes its brace, may look like a protocol.
  const bool is_safetensors =
      bytes.size() == 9 && bytes.substr(4) == std::string_view("\0\0\0\0{", 5);
  return bytes.size() > 1 && bytes[0] == '\x80' && bytes[1] >= 2 && bytes[1] <= 5 &&
         !is_safetensors;
}

TorchFile read_torch_file(const fs::path& path) {
  const bool is_zip = first_bytes(path).starts_with(kZipSignature);
  if (const auto size = fs::file_size(path); size > kMaxTorchFileBytes)
    throw Error("{}: found {} bytes, expected at most {}", path.string(), size, kMaxTorchFileBytes);
  return is_zip ? read_zip(path) : read_legacy(path);
}

}  // namespace dalle
