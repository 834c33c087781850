#pragma once

#include <array>
#include <string_view>
#include <utility>

namespace dalle {

/// Which earlier image tokens an image token attends to. Every kind is causal and attends to all
/// text.
enum class AttentionKind { kDense, kRow, kColumn, kConv };

constexpr auto enum_names(AttentionKind) {
  return std::array{std::pair{AttentionKind::kDense, std::string_view("dense")},
                    std::pair{AttentionKind::kRow, std::string_view("row")},
                    std::pair{AttentionKind::kColumn, std::string_view("column")},
                    std::pair{AttentionKind::kConv, std::string_view("conv")}};
}

}  // namespace dalle
