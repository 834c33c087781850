#include "data/fingerprint.h"

#include <algorithm>
#include <variant>

#include <fmt/format.h>

#include "core/files.h"
#include "data/invalid_sample.h"

namespace dalle {

std::string fingerprint(const Dataset& dataset) {
  // Hashed in pieces, because the names of a large data set may not fit in memory.
  constexpr size_t kPieceBytes = 1 << 20;
  std::string piece;
  for (int64_t i = 0; i < dataset.size(); ++i) {
    piece += dataset.key(i) + '\n';
    if (piece.size() >= kPieceBytes) piece = sha256(piece);
  }
  return fmt::format("{} images, names {}", dataset.size(), sha256(piece).substr(0, 16));
}

std::string content_fingerprint(const Dataset& dataset) {
  constexpr int64_t kMaxSamples = 16;
  const int64_t count = std::min(kMaxSamples, dataset.size());
  std::string digests;
  for (int64_t i = 0; i < count; ++i) {
    std::string content;  // of an invalid sample: empty
    defect_of([&] {
      const RawSample sample = dataset.get(i * dataset.size() / count);
      if (const auto* bytes = std::get_if<std::string>(&sample.image)) content = *bytes;
      for (const std::string& caption : sample.captions) content += '\n' + caption;
    });
    digests += sha256(content);
  }
  return sha256(digests).substr(0, 16);
}

}  // namespace dalle
