#include "nn/attention_mask.h"

#include <limits>
#include <set>

#include <torch/types.h>

#include "core/error.h"

namespace dalle {

std::vector<int64_t> attended_distances(AttentionKind kind, const SequenceLayout& layout,
                                        int64_t conv_kernel) {
  if (conv_kernel < 1 || conv_kernel % 2 == 0)
    throw Error("attention mask: conv_kernel is {}, expected an odd number", conv_kernel);
  const int64_t width = layout.grid_width;
  const int64_t length = layout.image_length();
  const int64_t reach = conv_kernel / 2;
  std::set<int64_t> distances;
  switch (kind) {
    case AttentionKind::kDense:
      for (int64_t d = 0; d < length; ++d) distances.insert(d);
      break;
    case AttentionKind::kRow:  // back to the token directly above, across the start of the row
      for (int64_t d = 0; d <= width; ++d) distances.insert(d);
      break;
    case AttentionKind::kColumn:
      for (int64_t d = 0; d < length; d += width) distances.insert(d);
      break;
    case AttentionKind::kConv:
      for (int64_t row = 0; row <= reach; ++row)
        for (int64_t column = -reach; column <= reach; ++column)
          distances.insert(row * width + (width - column % width) % width);
      break;
  }
  distances.erase(distances.lower_bound(length), distances.end());
  return {distances.begin(), distances.end()};
}

at::Tensor attention_mask(AttentionKind kind, const SequenceLayout& layout, int64_t conv_kernel) {
  const int64_t length = layout.length();
  const int64_t text = layout.text_length;
  auto mask = torch::zeros({length, length}, torch::kBool);
  mask.slice(1, 0, text).fill_(true);  // all text; made causal by tril_() below
  for (const int64_t distance : attended_distances(kind, layout, conv_kernel))
    mask.slice(0, text).slice(1, text).diagonal(-distance).fill_(true);
  return mask.tril_();
}

at::Tensor to_additive(const at::Tensor& mask, at::ScalarType type) {
  return torch::zeros(mask.sizes(), mask.options().dtype(type))
      .masked_fill_(mask.logical_not(), -std::numeric_limits<double>::infinity());
}

}  // namespace dalle
