#pragma once

#include "core/fields.h"

namespace dalle {

/// Which earlier image tokens an image token attends to. Every kind is causal and attends to all
/// text.
enum class AttentionKind { kDense, kRow, kColumn, kConv };

constexpr auto enum_names(AttentionKind) {
  return names_in_order<AttentionKind>("dense", "row", "column", "conv");
}

}  // namespace dalle
