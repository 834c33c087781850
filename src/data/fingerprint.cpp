#include "dalle/data/fingerprint.h"

#include <algorithm>
#include <system_error>
#include <variant>

#include <fmt/format.h>

#include "dalle/core/error.h"
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

std::string content_fingerprint(const Dataset& dataset) {
  constexpr int64_t kMostExamples = 16;
  const int64_t count = std::min(kMostExamples, dataset.size());
  std::string digests;
  for (int64_t i = 0; i < count; ++i) {
    std::string content;
    try {
      const Example example = dataset.get(i * dataset.size() / count);
      if (const auto* bytes = std::get_if<std::string>(&example.image)) content = *bytes;
      for (const std::string& caption : example.captions) content += '\n' + caption;
    } catch (const Error&) {  // an invalid sample is one wherever it lies
    } catch (const std::system_error&) {
    }
    digests += sha256(content);
  }
  return sha256(digests).substr(0, 16);
}

}  // namespace dalle
