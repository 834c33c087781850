#include "dalle/data/fingerprint.h"

#include <fmt/format.h>

#include "dalle/core/files.h"

namespace dalle {

std::string fingerprint(const Dataset& dataset) {
  constexpr size_t kPiece = 1 << 20;  // bytes: the names of a large data set do not fit in memory
  std::string piece;
  for (int64_t i = 0; i < dataset.size(); ++i) {
    piece += dataset.key(i) + '\n';
    if (piece.size() >= kPiece) piece = sha256(piece);
  }
  return fmt::format("{} pictures, names {}", dataset.size(), sha256(piece).substr(0, 16));
}

}  // namespace dalle
