#pragma once

#include <cstdint>
#include <optional>

#include <ATen/core/List.h>
#include <ATen/core/Tensor.h>
#include <ATen/ops/_index_put_impl.h>

namespace dalle {

/// tensor.index_copy_(dim, position, values) for positions that are known to be valid.
/// index_copy_() waits for a GPU to check them if deterministic algorithms are on.
/// @param position  [n] int64, distinct, in [0, tensor.size(dim))
/// @param values    as large as `tensor`, but n along `dim`
inline void put_at(const at::Tensor& tensor, int64_t dim, const at::Tensor& position,
                   const at::Tensor& values) {
  c10::List<std::optional<at::Tensor>> indices;
  for (int64_t i = 0; i < dim; ++i) indices.push_back(std::nullopt);
  indices.push_back(position);
  auto target = tensor;  // the operation takes a reference
  at::_index_put_impl_(target, indices, values, /*accumulate=*/false, /*unsafe=*/true);
}

}  // namespace dalle
