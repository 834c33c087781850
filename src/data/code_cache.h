#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <string>

#include <ATen/core/Tensor.h>

#include "data/random_access_file.h"

namespace dalle {

/// Codes are stored in 16 bits, and one value marks invalid samples.
inline constexpr int64_t kMaxCachedVocabulary = 0xFFFF;

/// Describes the content and the origin of a code cache, which is only valid for the same ones.
struct CodeCacheContent {
  int64_t size = 0;             ///< number of samples in the data set
  int64_t crops = 1;            ///< number of crops per sample
  int64_t image_size = 0;       ///< S, side of the encoded images
  int64_t codes_per_image = 0;  ///< N, cells of the code grid
  int64_t vocab_size = 0;       ///< K, at most kMaxCachedVocabulary
  std::string source;           ///< hash of the dVAE's weights, the data and the cropping options

  int64_t rows() const { return size * crops; }
  bool operator==(const CodeCacheContent&) const = default;
};

/// The image tokens of every crop of every sample, computed once by compute_code_cache().
///
/// The file begins with a page of 4096 bytes: a line of JSON that describes the content and, in the
/// last 8 bytes, the number of completed rows. [size, crops] rows follow, each of N codes of 16
/// bits and their CRC-32C, little-endian. lookup() reads and verifies one row; the kernel's page
/// cache keeps rows in memory.
class CodeCache {
 public:
  /// @throws dalle::Error naming the path and the difference if the file is missing, incomplete,
  ///         not a code cache, or has other content than `expected` or the wrong size
  CodeCache(std::filesystem::path path, const CodeCacheContent& expected);

  /// Thread-safe.
  /// @return [N] int64 in [0, K); undefined if the sample is invalid
  /// @throws dalle::Error if the file cannot be read or the row does not match its checksum
  at::Tensor lookup(int64_t index, int64_t crop) const;

 private:
  RandomAccessFile file_;
  CodeCacheContent content_;
};

struct CodeCacheOptions {
  int64_t batch_size = 32;        ///< images per call of the encoder
  int64_t workers = 2;            ///< threads that make images
  int64_t prefetch = 4;           ///< batches of images prepared in advance
  int64_t rows_per_flush = 4096;  ///< the most rows that a killed computation may lose
  /// Called on each rank when all ranks have a batch; returning false on any rank stops the
  /// computation, which can be resumed.
  std::function<bool(int64_t done, int64_t total)> progress = {};
  int64_t rank = 0;
  int64_t ranks = 1;
  /// A collective of the ranks: [n] int64 of each rank to [ranks, n] on every rank.
  std::function<at::Tensor(const at::Tensor& own)> gather = [](const at::Tensor& own) {
    return own.unsqueeze(0);
  };
};

/// Returns crop `crop` of sample `index`, [3, S, S] uint8, or an undefined tensor if the sample is
/// invalid, like SampleSource::image(). Called from several threads concurrently.
using CachedImage = std::function<at::Tensor(int64_t index, int64_t crop)>;

/// Encodes images [B, 3, S, S] uint8 to codes in [0, K), [B, N] or [B, h, w] with h * w = N, of an
/// integer type and on any device. Called from the thread of the caller.
using EncodeImages = std::function<at::Tensor(const at::Tensor& images)>;

/// Computes the codes of all crops of all samples into `path`, or resumes an interrupted
/// computation of the same content: the number of completed rows in the file is updated only after
/// the rows are on disk. A complete file is left unchanged. A cache that has other content, is
/// truncated or was written by an earlier version without checksums is recomputed.
///
/// The ranks encode every ranks-th batch each, and rank 0 writes the file.
///
/// @return whether the file is complete; false if options.progress returned false on some rank
/// @throws dalle::Error if `path` is another kind of file or cannot be written (disk full), or if
///         `encode` returns the wrong number of codes or codes outside of the vocabulary
bool compute_code_cache(const std::filesystem::path& path, const CodeCacheContent& content,
                        const CachedImage& image, const EncodeImages& encode,
                        const CodeCacheOptions& options);

}  // namespace dalle
