#include "data/code_cache.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cstring>
#include <mutex>
#include <optional>
#include <set>
#include <span>
#include <string_view>
#include <utility>
#include <vector>

#include <ATen/ops/empty.h>
#include <ATen/ops/full.h>
#include <ATen/ops/zeros.h>

#include "core/crc32c.h"
#include "core/error.h"
#include "core/files.h"
#include "core/log.h"
#include "data/batch_loader.h"
#include "tensor/tensor_checks.h"

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

CodeCache::CodeCache(fs::path path, const CodeCacheContent& expected)
    : file_(std::move(path), RandomAccessFile::Mode::kRead), content_(expected) {
  check(expected);
  const std::string name = file_.path().string();
  const std::string found = read_description(file_);
  if (found != describe(expected))
    throw Error("{}: found codes of {}, expected {}", name, found, describe(expected));
  if (file_.size() != file_bytes(expected))
    throw Error("{}: found {} bytes, expected {}", name, file_.size(), file_bytes(expected));
  if (const int64_t done = read_rows_done(file_); done != expected.rows())
    throw Error("{}: found {} rows of codes, expected {}: its computation was interrupted", name,
                done, expected.rows());
}

at::Tensor CodeCache::lookup(int64_t index, int64_t crop) const {
  DALLE_CHECK(0 <= index && index < content_.size && 0 <= crop && crop < content_.crops);
  const int64_t row = index * content_.crops + crop;
  std::string stored(static_cast<size_t>(row_bytes(content_)), '\0');
  file_.read(kPage + row * row_bytes(content_), stored.data(), row_bytes(content_));
  std::vector<uint16_t> row_codes(static_cast<size_t>(content_.codes_per_image));
  std::memcpy(row_codes.data(), stored.data(), std::span(row_codes).size_bytes());
  if (row_of(row_codes) != stored)
    throw Error(
        "{}: the codes of crop {} of sample {} do not match their checksum: the file is corrupt; "
        "delete it, and the next run will recompute it",
        file_.path().string(), crop, index);
  if (std::ranges::all_of(row_codes, [](uint16_t code) { return code == kInvalidCode; })) return {};
  at::Tensor codes = at::empty({content_.codes_per_image}, at::kLong);
  std::ranges::copy(row_codes, codes.mutable_data_ptr<int64_t>());
  return codes;
}

namespace {

/// Resumes the file of an interrupted computation or creates a new one.
class CodeCacheWriter {
 public:
  CodeCacheWriter(const fs::path& path, const CodeCacheContent& content) : content_(content) {
    if (!fs::exists(path) || !is_resumable(path)) write_file_atomically(path, first_page(content));
    file_.emplace(path, RandomAccessFile::Mode::kReadWrite);
    rows_done_ = rows_flushed_ = read_rows_done(*file_);
    if (rows_done_ < content.rows()) file_->allocate(file_bytes(content));
  }

  int64_t rows_done() const { return rows_done_; }
  int64_t rows_unflushed() const { return rows_done_ - rows_flushed_; }

  /// @param rows  concatenated results of row_of()
  void append(std::string_view rows) {
    const auto bytes = static_cast<int64_t>(rows.size());
    file_->write(kPage + rows_done_ * row_bytes(content_), rows.data(), bytes);
    rows_done_ += bytes / row_bytes(content_);
  }

  /// Flushes the rows before their count, so that the count is never too high after a crash.
  void flush() {
    file_->flush();
    file_->write(kRowsDoneOffset, &rows_done_, sizeof(rows_done_));
    file_->flush();
    rows_flushed_ = rows_done_;
  }

 private:
  /// Whether the file at `path` has the same content and is consistent.
  bool is_resumable(const fs::path& path) const {
    if (fs::is_directory(path))
      throw Error("{}: found a directory, expected a code cache", path.string());
    const RandomAccessFile file(path, RandomAccessFile::Mode::kRead);
    const std::string found = read_description(file);
    if (found != describe(content_)) {
      log_info("{}: {}; recomputing it", path.string(),
               version_of(found) < kVersion
                   ? "was written by an earlier version, without checksums"
                   : "contains the codes of a different dVAE or of different images");
      return false;
    }
    const int64_t rows = read_rows_done(file);
    const bool is_consistent = 0 <= rows && rows <= content_.rows() &&
                               file.size() <= file_bytes(content_) &&
                               file.size() >= kPage + rows * row_bytes(content_);
    if (!is_consistent)
      log_warning("{}: corrupt: has {} bytes, but claims {} of {} rows of codes; recomputing it",
                  path.string(), file.size(), rows, content_.rows());
    return is_consistent;
  }

  CodeCacheContent content_;
  std::optional<RandomAccessFile> file_;
  int64_t rows_done_ = 0;
  int64_t rows_flushed_ = 0;
};

/// The rows that a rank encodes: batch k of the rank is batch k * ranks + rank of all that remain.
struct RankRows {
  int64_t first = 0;  ///< of the rows that remain
  int64_t total = 0;  ///< the end of all rows
  int64_t batch_size = 1;
  int64_t rank = 0;
  int64_t ranks = 1;

  /// The row at a position among the rank's own.
  int64_t row(int64_t position) const {
    const int64_t batch = position / batch_size * ranks + rank;
    return first + batch * batch_size + position % batch_size;
  }

  /// How many rows of a round, which begins at row `begin`, are those of a rank.
  int64_t in_round(int64_t begin, int64_t of_rank) const {
    return std::clamp<int64_t>(total - begin - of_rank * batch_size, 0, batch_size);
  }

  int64_t size() const {
    const int64_t round = batch_size * ranks, whole = (total - first) / round;
    return whole * batch_size + in_round(first + whole * round, rank);
  }
};

/// Makes images on the loader's threads. Invalid samples get a black image and are remembered.
class ImageRows {
 public:
  ImageRows(const CachedImage& image, const CodeCacheContent& content, const RankRows& rows)
      : image_(image),
        rows_(rows),
        crops_(content.crops),
        shape_{3, content.image_size, content.image_size} {}

  Sample make(int64_t position) {
    const int64_t row = rows_.row(position);
    at::Tensor image = image_(row / crops_, row % crops_);
    if (!image.defined()) {
      image = at::zeros(shape_, at::kByte);
      const std::lock_guard lock(mutex_);
      invalid_.insert(position);
    }
    DALLE_CHECK(image.sizes() == at::IntArrayRef(shape_));
    return {
        .position = position, .image = std::move(image), .codes = {}, .caption = {}, .text = {}};
  }

  /// Whether the sample at a position is invalid; to be called once per position.
  bool take_invalid(int64_t position) {
    const std::lock_guard lock(mutex_);
    return invalid_.erase(position) > 0;
  }

 private:
  const CachedImage& image_;
  const RankRows& rows_;
  const int64_t crops_;
  const std::array<int64_t, 3> shape_;
  std::mutex mutex_;
  std::set<int64_t> invalid_;
};

/// @return  [B, N] int64; kInvalidCode for invalid samples
at::Tensor encode_batch(const Batch& batch, const EncodeImages& encode, ImageRows& images,
                        const CodeCacheContent& content) {
  const int64_t length = content.codes_per_image;
  at::Tensor codes = encode(batch.images)
                         .to(at::kCPU, at::kLong, /*non_blocking=*/false, /*copy=*/true)
                         .contiguous();
  if (codes.dim() < 2 || codes.size(0) != batch.size() || codes.numel() != batch.size() * length)
    throw Error("the encoder returned {} codes for {} images, expected {} per image", codes.numel(),
                batch.size(), length);
  check_code_range("the encoder's codes", codes, content.vocab_size);
  codes = codes.view({batch.size(), length});
  for (int64_t i = 0; i < batch.size(); ++i)
    if (images.take_invalid(batch.positions[static_cast<size_t>(i)])) codes[i].fill_(kInvalidCode);
  return codes;
}

/// @param codes  [rows, N] int64
/// @return       the rows as they are stored
std::string stored_rows(const at::Tensor& codes) {
  std::string stored;
  std::vector<uint16_t> row_codes(static_cast<size_t>(codes.size(1)));
  for (const at::Tensor& row : codes.contiguous().unbind()) {
    std::transform(row.const_data_ptr<int64_t>(), row.const_data_ptr<int64_t>() + row.numel(),
                   row_codes.begin(), [](int64_t code) { return static_cast<uint16_t>(code); });
    stored += row_of(row_codes);
  }
  return stored;
}

}  // namespace

bool compute_code_cache(const fs::path& path, const CodeCacheContent& content,
                        const CachedImage& image, const EncodeImages& encode,
                        const CodeCacheOptions& options) {
  check(content);
  DALLE_CHECK(options.batch_size > 0 && options.rows_per_flush > 0);
  const int64_t length = content.codes_per_image;
  std::optional<CodeCacheWriter> file;
  if (options.rank == 0) file.emplace(path, content);
  const at::Tensor own_rows_done = at::full({1}, file ? file->rows_done() : 0, at::kLong);
  int64_t rows_done = options.gather(own_rows_done)[0].item<int64_t>();
  const RankRows rows{.first = rows_done,
                      .total = content.rows(),
                      .batch_size = options.batch_size,
                      .rank = options.rank,
                      .ranks = options.ranks};
  ImageRows images(image, content, rows);
  BatchLoader loader([&images](int64_t position) { return images.make(position); },
                     {.batch_size = options.batch_size,
                      .workers = options.workers,
                      .prefetch = options.prefetch,
                      .end_position = rows.size()});
  bool is_stopped = false;
  while (!is_stopped && rows_done < rows.total) {
    const int64_t round_begin = rows_done;
    rows_done = std::min(rows_done + options.batch_size * options.ranks, rows.total);
    // The codes of this rank's batch, and whether it stops.
    const at::Tensor own = at::zeros({options.batch_size * length + 1}, at::kLong);
    if (const int64_t count = rows.in_round(round_begin, options.rank); count > 0)
      own.narrow(0, 0, count * length)
          .copy_(encode_batch(loader.next(), encode, images, content).flatten());
    own[-1].fill_(options.progress && !options.progress(rows_done, rows.total) ? 1 : 0);
    const at::Tensor all = options.gather(own);  // [ranks, batch_size N + 1]
    is_stopped = all.select(1, -1).any().item<bool>();
    for (int64_t rank = 0; file && rank < options.ranks; ++rank)
      if (const int64_t count = rows.in_round(round_begin, rank); count > 0)
        file->append(stored_rows(all[rank].narrow(0, 0, count * length).view({count, length})));
    if (file && file->rows_unflushed() >= options.rows_per_flush) file->flush();
  }
  if (file && file->rows_unflushed() > 0) file->flush();
  options.gather(own_rows_done);  // until the file is on disk
  return rows_done == rows.total;
}

}  // namespace dalle
