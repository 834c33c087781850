#include "nn/attention_tiles.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include <torch/csrc/autograd/custom_function.h>
#include <torch/types.h>

#include "core/error.h"
#include "nn/attended_runs.h"
#include "nn/attention_mask.h"
#include "tensor/held_value.h"

namespace dalle {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

constexpr int64_t kQueries = 64;  // of a tile: fewer waste fewer pairs, but small products are slow

/// The part of dimension 1, which is that of all places, that belongs to a tile's keys.
at::Tensor keys_of(const AttentionTile& tile, const at::Tensor& x) {
  const auto last = x.slice(1, tile.last_begin, tile.end);
  return tile.text_keys == 0 ? last : at::cat({x.slice(1, 0, tile.text_keys), last}, 1);
}

void add_to_keys(const AttentionTile& tile, at::Tensor& sum, const at::Tensor& keys) {
  if (tile.text_keys > 0) sum.slice(1, 0, tile.text_keys) += keys.slice(1, 0, tile.text_keys);
  sum.slice(1, tile.last_begin, tile.end) += keys.slice(1, tile.text_keys);
}

double scale_of(const at::Tensor& query) {
  return 1 / std::sqrt(static_cast<double>(query.size(2)));
}

/// [B heads, queries, keys]; each row sums to 1.
at::Tensor weights_of(const AttentionTile& tile, const at::Tensor& query, const at::Tensor& keys) {
  return at::baddbmm(tile.mask.to(query.scalar_type()), query, keys.transpose(1, 2), 1,
                     scale_of(query))
      .softmax(2);
}

using SharedTiles = std::shared_ptr<const AttentionTiles>;

class TiledAttention : public torch::autograd::Function<TiledAttention> {
 public:
  static at::Tensor forward(AutogradContext* context,
                            const std::shared_ptr<const AttentionTiles>& tiles,
                            const at::Tensor& query, const at::Tensor& key,
                            const at::Tensor& value) {
    const auto q = tiles->to_order(query), k = tiles->to_order(key), v = tiles->to_order(value);
    context->save_for_backward({q, k, v});
    context->saved_data["tiles"] = keep_value<SharedTiles>(tiles);
    auto out = torch::empty_like(q);
    for (const auto& tile : tiles->tiles()) {
      const auto weights = weights_of(tile, q.slice(1, tile.begin, tile.end), keys_of(tile, k));
      out.slice(1, tile.begin, tile.end).copy_(weights.bmm(keys_of(tile, v)));
    }
    return tiles->from_order(out, query.size(0)).to(query.scalar_type());
  }

  static variable_list backward(AutogradContext* context, const variable_list& gradients) {
    const auto& tiles = kept_value<SharedTiles>(context->saved_data["tiles"]);
    const auto saved = context->get_saved_variables();
    const auto &q = saved[0], &k = saved[1], &v = saved[2];
    const auto d_out = tiles->to_order(gradients[0]);
    auto d_q = torch::empty_like(q), d_k = torch::zeros_like(k), d_v = torch::zeros_like(v);
    for (const auto& tile : tiles->tiles()) {
      const auto query = q.slice(1, tile.begin, tile.end), d = d_out.slice(1, tile.begin, tile.end);
      const auto keys = keys_of(tile, k);
      const auto weights = weights_of(tile, query, keys);
      add_to_keys(tile, d_v, weights.transpose(1, 2).bmm(d));
      const auto d_scores = at::_softmax_backward_data(d.bmm(keys_of(tile, v).transpose(1, 2)),
                                                       weights, 2, q.scalar_type())
                                .mul_(scale_of(q));
      d_q.slice(1, tile.begin, tile.end).copy_(d_scores.bmm(keys));
      add_to_keys(tile, d_k, d_scores.transpose(1, 2).bmm(query));
    }
    const auto result = [&](const at::Tensor& gradient) {
      return tiles->from_order(gradient, gradients[0].size(0)).to(gradients[0].scalar_type());
    };
    return {at::Tensor(), result(d_q), result(d_k), result(d_v)};
  }
};

}  // namespace

AttentionTiles::AttentionTiles(AttentionKind kind, const SequenceLayout& layout,
                               int64_t conv_kernel)
    : length_(layout.length()) {
  const AttendedRuns runs(kind, layout, conv_kernel);
  const int64_t text = layout.text_length;
  std::vector<int64_t> places;
  for (int64_t position = 0; position < length_; ++position)
    places.push_back(position < text ? position : text + runs.cell(position - text));
  places_ = torch::tensor(places, torch::kInt64);
  positions_ = places_.argsort();
  const auto mask = attention_mask(kind, layout, conv_kernel)
                        .index_select(0, positions_)
                        .index_select(1, positions_);
  DALLE_CHECK(!mask.triu(1).any().item<bool>());  // or keys after a tile's end would be lost
  for (int64_t begin = 0; begin < length_; begin = tiles_.back().end) {
    const bool is_text = begin < text;
    AttentionTile tile{.begin = begin,
                       .end = std::min(begin + kQueries, is_text ? text : length_),
                       .text_keys = is_text ? 0 : text,
                       .mask = {}};
    const auto rows = mask.slice(0, begin, tile.end).slice(1, 0, tile.end);
    const auto attended = rows.any(0).slice(0, tile.text_keys).nonzero();
    tile.last_begin = tile.text_keys + attended[0].item<int64_t>();
    tile.mask = to_additive(keys_of(tile, rows), torch::kFloat);
    tiles_.push_back(std::move(tile));
  }
  if (places_.equal(torch::arange(length_))) places_.reset(), positions_.reset();
}

at::Tensor AttentionTiles::to_order(const at::Tensor& x) const {
  const auto converted = x.to(at::promote_types(x.scalar_type(), at::kFloat));
  return (positions_.defined() ? converted.index_select(2, positions_) : converted.contiguous())
      .flatten(0, 1);
}

at::Tensor AttentionTiles::from_order(const at::Tensor& x, int64_t batch) const {
  return (places_.defined() ? x.index_select(1, places_) : x).unflatten(0, {batch, -1});
}

double AttentionTiles::share_of_pairs() const {
  int64_t pairs = 0;
  for (const auto& tile : tiles_) pairs += tile.queries() * tile.keys();
  return static_cast<double>(pairs) / static_cast<double>(length_ * length_);
}

at::Tensor tiled_attention(const std::shared_ptr<const AttentionTiles>& tiles,
                           const at::Tensor& query, const at::Tensor& key,
                           const at::Tensor& value) {
  return TiledAttention::apply(tiles, query, key, value);
}

}  // namespace dalle
