#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <string>

#include <ATen/core/Tensor.h>

namespace dalle {

/// Codes are stored in 16 bits, of which one value marks a bad example.
inline constexpr int64_t kMaxCachedVocabulary = 0xFFFF;

/// What a code cache holds and what it was computed from; one made from anything else is of no use.
struct CodeCacheContent {
  int64_t size = 0;             ///< examples of the data set
  int64_t crops = 1;            ///< crops of each
  int64_t image_size = 0;       ///< S, side of the pictures that were encoded
  int64_t codes_per_image = 0;  ///< N, cells of the code grid
  int64_t vocab_size = 0;       ///< K, at most kMaxCachedVocabulary
  std::string source;           ///< hash over the dVAE's weights, the data and how it is cropped

  int64_t rows() const { return size * crops; }
  bool operator==(const CodeCacheContent&) const = default;
};

/// The image tokens of every crop of every example, computed once by compute_code_cache().
///
/// One file: a page of 4096 bytes (a line of JSON with the content; in the last 8 bytes the number
/// of rows that are done), then [size, crops] rows, little-endian: N codes of 16 bits and their
/// CRC-32C. Rows are read, and checked, when they are asked for; the kernel's page cache keeps them
/// in memory as far as there is any.
class CodeCache {
 public:
  /// @throws dalle::Error naming the path and what differs if the file is missing, no code cache,
  ///         of other content than `expected`, unfinished, or of another length than it says
  CodeCache(std::filesystem::path path, const CodeCacheContent& expected);
  ~CodeCache();
  CodeCache(CodeCache&&) noexcept;
  CodeCache& operator=(CodeCache&&) noexcept;

  /// Thread-safe.
  /// @return [N] int64 in [0, K); undefined if the example is bad
  /// @throws dalle::Error if the file cannot be read or the row does not match its checksum
  at::Tensor lookup(int64_t index, int64_t crop) const;

 private:
  struct Implementation;
  std::unique_ptr<Implementation> implementation_;
};

struct CodeCacheOptions {
  int64_t batch_size = 32;      ///< pictures encoded at once
  int64_t workers = 2;          ///< threads that make pictures
  int64_t prefetch = 4;         ///< batches of pictures made ahead
  int64_t rows_a_flush = 4096;  ///< how many rows a killed computation may lose
  /// Called after each batch; false ends the computation, which keeps what is done.
  std::function<bool(int64_t done, int64_t total)> progress = {};
};

/// Example `index` cut as its crop number `crop`, [3, S, S] uint8, or undefined if it is bad:
/// SampleStream::image(). Called from several threads at once.
using CachedImage = std::function<at::Tensor(int64_t index, int64_t crop)>;

/// Images [B, 3, S, S] uint8 to codes in [0, K), [B, N] or [B, h, w] with h * w = N, of an integer
/// type and on any device. Called from the calling thread.
using EncodeImages = std::function<at::Tensor(const at::Tensor& images)>;

/// Computes the codes of all crops of all examples into `path`, beginning where an interrupted
/// computation of the same content stopped: the number of finished rows in the file is raised only
/// after the rows are on the disk. A finished file is left alone; a code cache of other content,
/// one that is truncated, or one that an earlier version wrote without checksums, is computed
/// again.
///
/// @return whether all is done; false if options.progress said stop
/// @throws dalle::Error if `path` is another kind of file or cannot be written (disk full), or if
///         `encode` returns codes of another number or outside of the vocabulary
bool compute_code_cache(const std::filesystem::path& path, const CodeCacheContent& content,
                        const CachedImage& image, const EncodeImages& encode,
                        const CodeCacheOptions& options);

}  // namespace dalle
