#include "data/code_cache.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cstring>
#include <mutex>
#include <set>
#include <span>
#include <string_view>
#include <utility>
#include <vector>

#include <ATen/ops/empty.h>
#include <ATen/ops/zeros.h>

#include "core/crc32c.h"
#include "core/error.h"
#include "core/files.h"
#include "core/log.h"
#include "data/batch_loader.h"
#include "data/random_access_file.h"

#include <nlohmann/json.hpp>

namespace dalle {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

static_assert(std::endian::native == std::endian::little, "the file format is little-endian");

constexpr int64_t kPage = 4096;
constexpr int64_t kRowsDoneOffset = kPage - 8;  // 8 aligned bytes, written atomically
constexpr std::string_view kFormat = "dalle code cache";
constexpr int64_t kVersion = 2;
constexpr uint16_t kInvalidCode = kMaxCachedVocabulary;

int64_t row_bytes(const CodeCacheContent& content) {
  return content.codes_per_image * static_cast<int64_t>(sizeof(uint16_t)) +
         static_cast<int64_t>(sizeof(uint32_t));
}

/// Formats a row of the file: the codes, then their checksum.
std::string row_of(std::span<const uint16_t> codes) {
  std::string row(reinterpret_cast<const char*>(codes.data()), codes.size_bytes());
  const uint32_t checksum = crc32c(row);
  row.append(reinterpret_cast<const char*>(&checksum), sizeof(checksum));
  return row;
}

/// The version in a description that read_description() returned.
int64_t version_of(const std::string& description) {
  return json::parse(description).value("version", int64_t{0});
}

int64_t file_bytes(const CodeCacheContent& content) {
  return kPage + content.rows() * row_bytes(content);
}

std::string describe(const CodeCacheContent& content) {
  const json line = {{"format", kFormat},
                     {"version", kVersion},
                     {"size", content.size},
                     {"crops", content.crops},
                     {"image_size", content.image_size},
                     {"codes_per_image", content.codes_per_image},
                     {"vocab_size", content.vocab_size},
                     {"source", content.source}};
  return line.dump();
}

/// The first page of a cache without rows.
std::string first_page(const CodeCacheContent& content) {
  std::string page = describe(content) + "\n";
  DALLE_CHECK(static_cast<int64_t>(page.size()) <= kRowsDoneOffset);
  page.resize(kRowsDoneOffset, ' ');
  page.resize(kPage, '\0');
  return page;
}

/// Returns the line of JSON at the beginning of the file.
/// @throws dalle::Error if the file is not a code cache
std::string read_description(const RandomAccessFile& file) {
  std::string page(static_cast<size_t>(std::min(kPage, file.size())), '\0');
  file.read(0, page.data(), static_cast<int64_t>(page.size()));
  const std::string line = page.substr(0, page.find('\n'));
  const json entry = json::parse(line, nullptr, /*allow_exceptions=*/false);
  const bool is_code_cache =
      entry.is_object() && entry.contains("format") && entry["format"] == kFormat;
  if (!is_code_cache || static_cast<int64_t>(page.size()) < kPage)
    throw Error("{}: not a code cache", file.path().string());
  return line;
}

int64_t read_rows_done(const RandomAccessFile& file) {
  int64_t rows = 0;
  file.read(kRowsDoneOffset, &rows, sizeof(rows));
  return rows;
}

void check(const CodeCacheContent& content) {
  DALLE_CHECK(content.size > 0 && content.crops > 0);
  DALLE_CHECK(content.image_size > 0 && content.codes_per_image > 0);
  DALLE_CHECK(0 < content.vocab_size && content.vocab_size <= kMaxCachedVocabulary);
}

}  // namespace

struct CodeCache::Implementation {
  RandomAccessFile file;
  CodeCacheContent content;
};

CodeCache::CodeCache(fs::path path, const CodeCacheContent& expected)
    : implementation_(new Implementation{.file = {std::move(path), RandomAccessFile::Mode::kRead},
                                         .content = expected}) {
  check(expected);
  const RandomAccessFile& file = implementation_->file;
  const std::string name = file.path().string();
  const std::string found = read_description(file);
  if (found != describe(expected))
    throw Error("{}: found codes of {}, expected {}", name, found, describe(expected));
  if (file.size() != file_bytes(expected))
    throw Error("{}: found {} bytes, expected {}", name, file.size(), file_bytes(expected));
  if (const int64_t done = read_rows_done(file); done != expected.rows())
    throw Error("{}: found {} rows of codes, expected {}: its computation was interrupted", name,
                done, expected.rows());
}

CodeCache::~CodeCache() = default;
CodeCache::CodeCache(CodeCache&&) noexcept = default;
CodeCache& CodeCache::operator=(CodeCache&&) noexcept = default;

at::Tensor CodeCache::lookup(int64_t index, int64_t crop) const {
  const CodeCacheContent& content = implementation_->content;
  DALLE_CHECK(0 <= index && index < content.size && 0 <= crop && crop < content.crops);
  const int64_t row = index * content.crops + crop;
  std::string stored(static_cast<size_t>(row_bytes(content)), '\0');
  implementation_->file.read(kPage + row * row_bytes(content), stored.data(), row_bytes(content));
  std::vector<uint16_t> row_codes(static_cast<size_t>(content.codes_per_image));
  std::memcpy(row_codes.data(), stored.data(), std::span(row_codes).size_bytes());
  if (row_of(row_codes) != stored)
    throw Error(
        "{}: the codes of crop {} of sample {} do not match their checksum: the file is corrupt; "
        "delete it, and the next run will recompute it",
        implementation_->file.path().string(), crop, index);
  if (std::ranges::all_of(row_codes, [](uint16_t code) { return code == kInvalidCode; })) return {};
  at::Tensor codes = at::empty({content.codes_per_image}, at::kLong);
  std::ranges::copy(row_codes, codes.mutable_data_ptr<int64_t>());
  return codes;
}

namespace {

/// Whether the file at `path` has the same content and is consistent.
bool is_resumable(const fs::path& path, const CodeCacheContent& content) {
  if (fs::is_directory(path))
    throw Error("{}: found a directory, expected a code cache", path.string());
  const RandomAccessFile file(path, RandomAccessFile::Mode::kRead);
  const std::string found = read_description(file);
  if (found != describe(content)) {
    log_info("{}: {}; recomputing it", path.string(),
             version_of(found) < kVersion
                 ? "was written by an earlier version, without checksums"
                 : "contains the codes of a different dVAE or of different images");
    return false;
  }
  const int64_t rows = read_rows_done(file);
  const bool is_consistent = 0 <= rows && rows <= content.rows() &&
                             file.size() <= file_bytes(content) &&
                             file.size() >= kPage + rows * row_bytes(content);
  if (!is_consistent)
    log_warning("{}: corrupt: has {} bytes, but claims {} of {} rows of codes; recomputing it",
                path.string(), file.size(), rows, content.rows());
  return is_consistent;
}

/// Resumes the file of an interrupted computation or creates a new one.
/// @return  the number of completed rows
int64_t prepare_file(const fs::path& path, const CodeCacheContent& content) {
  if (!fs::exists(path) || !is_resumable(path, content))
    write_file_atomically(path, first_page(content));
  RandomAccessFile file(path, RandomAccessFile::Mode::kReadWrite);
  const int64_t rows_done = read_rows_done(file);
  if (rows_done < content.rows()) file.allocate(file_bytes(content));
  return rows_done;
}

/// Makes images on the loader's threads. Invalid samples get a black image and are remembered.
class ImageRows {
 public:
  ImageRows(const CachedImage& image, const CodeCacheContent& content)
      : image_(image), crops_(content.crops), shape_{3, content.image_size, content.image_size} {}

  Sample make(int64_t row) {
    at::Tensor image = image_(row / crops_, row % crops_);
    if (!image.defined()) {
      image = at::zeros(shape_, at::kByte);
      const std::lock_guard lock(mutex_);
      invalid_.insert(row);
    }
    DALLE_CHECK(image.sizes() == at::IntArrayRef(shape_));
    return {.position = row, .image = std::move(image), .codes = {}, .caption = {}, .text = {}};
  }

  /// Whether the sample of `row` is invalid; to be called once per row.
  bool take_invalid(int64_t row) {
    const std::lock_guard lock(mutex_);
    return invalid_.erase(row) > 0;
  }

 private:
  const CachedImage& image_;
  const int64_t crops_;
  const std::array<int64_t, 3> shape_;
  std::mutex mutex_;
  std::set<int64_t> invalid_;
};

/// @return the rows of a batch as they are stored
std::string encode_batch(const Batch& batch, const EncodeImages& encode, ImageRows& images,
                         const CodeCacheContent& content) {
  const int64_t length = content.codes_per_image;
  const at::Tensor codes = encode(batch.images).to(at::kCPU, at::kLong).contiguous();
  if (codes.dim() < 2 || codes.size(0) != batch.size() || codes.numel() != batch.size() * length)
    throw Error("the encoder returned {} codes for {} images, expected {} per image", codes.numel(),
                batch.size(), length);
  std::string stored;
  std::vector<uint16_t> row_codes(static_cast<size_t>(length));
  const int64_t* code = codes.const_data_ptr<int64_t>();
  for (const int64_t row : batch.positions) {
    const bool is_invalid = images.take_invalid(row);
    for (uint16_t& row_code : row_codes) {
      if (*code < 0 || *code >= content.vocab_size)
        throw Error("the encoder returned code {}, expected codes in [0, {})", *code,
                    content.vocab_size);
      row_code = is_invalid ? kInvalidCode : static_cast<uint16_t>(*code);
      ++code;
    }
    stored += row_of(row_codes);
  }
  return stored;
}

struct RowRange {
  int64_t begin = 0;
  int64_t end = 0;
};

/// Computes rows of the file in order and flushes them.
/// @param progress  called with the number of rows done; false ends the computation
/// @return          the end of the rows that are done
int64_t compute_rows(RandomAccessFile& file, RowRange rows, const CodeCacheContent& content,
                     ImageRows& images, const EncodeImages& encode, const CodeCacheOptions& options,
                     const std::function<bool(int64_t)>& progress) {
  if (rows.begin == rows.end) return rows.end;
  BatchLoader loader([&images](int64_t row) { return images.make(row); },
                     {.batch_size = options.batch_size,
                      .first_position = rows.begin,
                      .workers = options.workers,
                      .prefetch = options.prefetch,
                      .end_position = rows.end});
  int64_t done = rows.begin;
  do {
    const Batch batch = loader.next();
    const std::string stored = encode_batch(batch, encode, images, content);
    file.write(kPage + done * row_bytes(content), stored.data(),
               static_cast<int64_t>(stored.size()));
    done += batch.size();
  } while (progress(done - rows.begin) && done < rows.end);
  file.flush();
  return done;
}

}  // namespace

bool compute_code_cache(const fs::path& path, const CodeCacheContent& content,
                        const CachedImage& image, const EncodeImages& encode,
                        const CodeCacheOptions& options) {
  check(content);
  DALLE_CHECK(options.rows_per_round > 0);
  const int64_t total = content.rows();
  const std::vector<int64_t> prepared =
      options.gather(options.rank == 0 ? prepare_file(path, content) : 0);
  const auto ranks = static_cast<int64_t>(prepared.size());
  int64_t rows_done = prepared.front();
  RandomAccessFile file(path, RandomAccessFile::Mode::kReadWrite);
  ImageRows images(image, content);
  bool is_stopped = false;
  while (!is_stopped && rows_done < total) {
    const auto rows_of = [&, first = rows_done](int64_t rank) {
      const int64_t begin = std::min(first + rank * options.rows_per_round, total);
      return RowRange{.begin = begin, .end = std::min(begin + options.rows_per_round, total)};
    };
    const int64_t own_end = compute_rows(
        file, rows_of(options.rank), content, images, encode, options, [&](int64_t own_done) {
          is_stopped = options.progress &&
                       !options.progress(std::min(rows_done + own_done * ranks, total), total);
          return !is_stopped;
        });
    const std::vector<int64_t> ends = options.gather(own_end);
    for (int64_t rank = 0; rank < ranks && rows_done == rows_of(rank).begin; ++rank)
      rows_done = ends[static_cast<size_t>(rank)];
    if (options.rank == 0) {
      file.write(kRowsDoneOffset, &rows_done, sizeof(rows_done));
      file.flush();
    }
    is_stopped = std::ranges::count(options.gather(is_stopped ? 1 : 0), 1) > 0;
  }
  return rows_done == total;
}

}  // namespace dalle
