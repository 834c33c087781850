#include "model/cpu_decoder.h"

#include <algorithm>
#include <cmath>
#include <map>

#include <ATen/Parallel.h>
#include <torch/types.h>

#include "core/error.h"
#include "tensor/round_up.h"

namespace dalle {
namespace {

/// Text states that are computed together, so that few passes over the weights read a caption.
constexpr int64_t kCaptionRows = 32;

using Parameters = torch::OrderedDict<std::string, at::Tensor>;

at::Tensor parameter(const Parameters& parameters, const std::string& name) {
  const at::Tensor value = parameters[name].detach();
  DALLE_CHECK(value.is_cpu() && value.scalar_type() == at::kFloat && value.is_contiguous());
  return value;
}

const float* row_of(const at::Tensor& table, int64_t row) {
  return table.const_data_ptr<float>() + row * table.size(-1);
}

void add(const float* a, const float* b, int64_t width, float* sum) {
  for (int64_t i = 0; i < width; ++i) sum[i] = a[i] + b[i];
}

}  // namespace

CpuDecoder::CpuDecoder(const DalleModel& model, const DecoderCapacity& capacity,
                       const DecodeKernels& kernels)
    : kernels_(&kernels),
      config_(model->config()),
      layout_(model->layout()),
      head_width_(config_.width / config_.heads),
      stride_(round_up(config_.width, kPanelWidth)),
      most_rows_(std::max(capacity.rows, std::min(kCaptionRows, layout_.text_length))),
      text_shape_(config_, layout_.text_length),
      image_shape_(config_, layout_.image_length()) {
  DALLE_CHECK(capacity.captions > 0 && capacity.images > 0 && capacity.rows > 0);
  const Parameters parameters = model->named_parameters();
  const auto norm = [&](const std::string& name) {
    return Norm{parameter(parameters, name + ".gain"), parameter(parameters, name + ".bias")};
  };
  const auto linear = [&](const std::string& name) {
    return PackedLinear(parameter(parameters, name + ".weight"),
                        parameter(parameters, name + ".bias"), model->precision(), kernels);
  };
  std::map<AttentionKind, size_t> pattern_of;
  for (int64_t layer = 0; layer < config_.depth; ++layer)
    if (pattern_of.try_emplace(config_.attention_of_layer(layer), patterns_.size()).second)
      patterns_.emplace_back(config_.attention_of_layer(layer), layout_, config_.conv_kernel);
  for (int64_t layer = 0; layer < config_.depth; ++layer) {
    const std::string name = fmt::format("block_{}.", layer + 1);
    blocks_.push_back({.attention_norm = norm(name + "attention_norm"),
                       .mlp_norm = norm(name + "mlp_norm"),
                       .query_key_value = linear(name + "attention.query_key_value"),
                       .output = linear(name + "attention.output"),
                       .expand = linear(name + "expand"),
                       .contract = linear(name + "contract"),
                       .pattern = &patterns_[pattern_of.at(config_.attention_of_layer(layer))]});
  }
  norm_ = norm("norm");
  image_head_.emplace(parameter(parameters, "image_head.weight"), at::Tensor(), Precision::kFloat32,
                      kernels);  // float32 as in the model
  text_embedding_ = parameter(parameters, "text_embedding");
  pad_embedding_ = parameter(parameters, "pad_embedding");
  start_of_text_ = parameter(parameters, "start_of_text");
  text_position_ = parameter(parameters, "text_position");
  image_embedding_ = parameter(parameters, "image_embedding");
  start_of_image_ = parameter(parameters, "start_of_image");
  row_position_ = parameter(parameters, "row_position");
  column_position_ = parameter(parameters, "column_position");

  text_caches_.resize(static_cast<size_t>(capacity.captions));
  image_caches_.resize(static_cast<size_t>(capacity.images));
  states_.reserve(static_cast<size_t>(most_rows_));
  const auto allocate = [&](std::vector<float>& buffer, int64_t columns) {
    buffer.resize(static_cast<size_t>(most_rows_ * columns));
  };
  for (std::vector<float>* buffer : {&x_, &normalized_, &attended_, &branch_})
    allocate(*buffer, stride_);
  allocate(qkv_, blocks_[0].query_key_value.padded_out());
  allocate(mlp_, blocks_[0].expand.padded_out());
  allocate(logits_, image_head_->padded_out());
}

CpuDecoder::CacheShape::CacheShape(const TransformerConfig& config, int64_t cells)
    : key_stride(round_up(cells, kVectorSlack) + kVectorSlack),
      value_stride(round_up(config.width / config.heads, kVectorSlack)),
      head_width(config.width / config.heads),
      head_size(head_width * key_stride + cells * value_stride),
      layer_size(config.heads * head_size),
      size(config.depth * layer_size) {}

HeadCache CpuDecoder::head_cache(float* cache, const CacheShape& shape, int64_t layer,
                                 int64_t head) {
  float* const keys = cache + layer * shape.layer_size + head * shape.head_size;
  return {.keys = keys,
          .values = keys + shape.head_width * shape.key_stride,
          .key_stride = shape.key_stride,
          .value_stride = shape.value_stride};
}

float* CpuDecoder::cache_of(std::vector<std::vector<float>>& slots, int64_t slot,
                            const CacheShape& shape) {
  std::vector<float>& cache = slots.at(static_cast<size_t>(slot));
  if (cache.empty()) cache.resize(static_cast<size_t>(shape.size));
  return cache.data();
}

void CpuDecoder::embed_text(std::span<const int64_t> tokens, int64_t position, float* x) const {
  const float* const place = row_of(text_position_, position);
  if (position == 0) return add(row_of(start_of_text_, 0), place, config_.width, x);
  const int64_t token = tokens[static_cast<size_t>(position - 1)];
  if (token != kPadToken) return add(row_of(text_embedding_, token), place, config_.width, x);
  std::copy_n(row_of(pad_embedding_, position), config_.width, x);
}

void CpuDecoder::embed_image(const DecodeRow& row, float* x) const {
  add(row_of(row_position_, row.position / layout_.grid_width),
      row_of(column_position_, row.position % layout_.grid_width), config_.width, x);
  const float* const token =
      row.position == 0 ? row_of(start_of_image_, 0) : row_of(image_embedding_, row.previous);
  add(token, x, config_.width, x);
}

void CpuDecoder::read_caption(int64_t caption, std::span<const int64_t> tokens) {
  DALLE_CHECK(static_cast<int64_t>(tokens.size()) == layout_.max_caption_tokens());
  for (const int64_t token : tokens)
    DALLE_CHECK(token == kPadToken || (token >= 0 && token < text_embedding_.size(0)));
  float* const cache = cache_of(text_caches_, caption, text_shape_);
  for (int64_t first = 0; first < layout_.text_length; first += most_rows_) {
    states_.clear();
    for (int64_t p = first; p < std::min(first + most_rows_, layout_.text_length); ++p) {
      embed_text(tokens, p, x_.data() + (p - first) * stride_);
      states_.push_back({.text_cache = cache, .position = p});
    }
    run_blocks();
  }
}

void CpuDecoder::step(std::span<const DecodeRow> rows) {
  DALLE_CHECK(!rows.empty() && static_cast<int64_t>(rows.size()) <= most_rows_);
  states_.clear();
  for (const DecodeRow& row : rows) {
    DALLE_CHECK(row.position >= 0 && row.position < layout_.image_length());
    DALLE_CHECK(row.position == 0 ||
                (row.previous >= 0 && row.previous < image_embedding_.size(0)));
    const auto number = static_cast<int64_t>(states_.size());
    embed_image(row, x_.data() + number * stride_);
    float* const text = text_caches_.at(static_cast<size_t>(row.caption)).data();
    DALLE_CHECK(text != nullptr);
    states_.push_back({.text_cache = text,
                       .image_cache = cache_of(image_caches_, row.image, image_shape_),
                       .position = row.position});
  }
  run_blocks();
  image_head_->multiply(normalized_.data(), stride_, static_cast<int64_t>(rows.size()),
                        logits_.data());
}

std::span<const float> CpuDecoder::logits(int64_t row) const {
  return std::span(logits_).subspan(static_cast<size_t>(row * image_head_->padded_out()),
                                    static_cast<size_t>(image_head_->out()));
}

/// Computes the states after the last norm, in normalized_, from the embeddings in x_.
void CpuDecoder::run_blocks() {
  const auto rows = static_cast<int64_t>(states_.size());
  const auto threads = static_cast<size_t>(at::get_num_threads());
  const auto scores = static_cast<size_t>(layout_.length() + kVectorSlack);
  if (scores_.size() < threads * scores) scores_.resize(threads * scores);
  const float* branch = nullptr;
  for (int64_t layer = 0; layer < config_.depth; ++layer) {
    const Block& block = blocks_[static_cast<size_t>(layer)];
    add_and_normalize(branch, block.attention_norm);
    block.query_key_value.multiply(normalized_.data(), stride_, rows, qkv_.data());
    store_keys_and_values(layer);
    attend(layer);
    block.output.multiply(attended_.data(), stride_, rows, branch_.data());
    add_and_normalize(branch_.data(), block.mlp_norm);
    block.expand.multiply(normalized_.data(), stride_, rows, mlp_.data(), config_.activation);
    block.contract.multiply(mlp_.data(), block.expand.padded_out(), rows, branch_.data());
    branch = branch_.data();
  }
  add_and_normalize(branch, norm_);
}

/// x_ += branch; normalized_ = norm(x_).
void CpuDecoder::add_and_normalize(const float* branch, const Norm& norm) {
  constexpr int64_t kRowsPerThread = 64;
  const auto rows = static_cast<int64_t>(states_.size());
  at::parallel_for(0, rows, kRowsPerThread, [&](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; ++row) {
      float* const x = x_.data() + row * stride_;
      if (branch != nullptr) add(x, branch + row * stride_, config_.width, x);
      kernels_->layer_norm(x, row_of(norm.gain, 0), row_of(norm.bias, 0), config_.width,
                           normalized_.data() + row * stride_);
    }
  });
}

void CpuDecoder::store_keys_and_values(int64_t layer) {
  const Block& block = blocks_[static_cast<size_t>(layer)];
  for (size_t row = 0; row < states_.size(); ++row) {
    const State& state = states_[row];
    const bool is_image = state.image_cache != nullptr;
    float* const cache = is_image ? state.image_cache : state.text_cache;
    const CacheShape& shape = is_image ? image_shape_ : text_shape_;
    const int64_t cell = is_image ? block.pattern->cell(state.position) : state.position;
    const float* const key = qkv_.data() +
                             static_cast<int64_t>(row) * block.query_key_value.padded_out() +
                             config_.width;
    for (int64_t head = 0; head < config_.heads; ++head) {
      const HeadCache to = head_cache(cache, shape, layer, head);
      for (int64_t d = 0; d < head_width_; ++d)
        to.keys[d * to.key_stride + cell] = key[head * head_width_ + d];
      std::copy_n(key + config_.width + head * head_width_, head_width_,
                  to.values + cell * to.value_stride);
    }
  }
}

void CpuDecoder::attend(int64_t layer) {
  const Block& block = blocks_[static_cast<size_t>(layer)];
  const int64_t heads = config_.heads, rows = static_cast<int64_t>(states_.size());
  const float scale = 1.0F / std::sqrt(static_cast<float>(head_width_));
  const int64_t grain = 1 + kProductsPerThread / (head_width_ * layout_.length());
  at::parallel_for(0, rows * heads, grain, [&](int64_t begin, int64_t end) {
    float* const scores = scores_.data() + at::get_thread_num() * (layout_.length() + kVectorSlack);
    for (int64_t i = begin; i < end; ++i) {
      const int64_t row = i / heads, head = i % heads;
      const State& state = states_[static_cast<size_t>(row)];
      float* const query =
          qkv_.data() + row * block.query_key_value.padded_out() + head * head_width_;
      for (int64_t d = 0; d < head_width_; ++d) query[d] *= scale;
      HeadAttention attention{.query = query,
                              .head_width = head_width_,
                              .text = head_cache(state.text_cache, text_shape_, layer, head),
                              .text_cells = state.position + 1,
                              .image = {},
                              .image_runs = {},
                              .scores = scores,
                              .output = attended_.data() + row * stride_ + head * head_width_};
      if (state.image_cache != nullptr) {
        attention.text_cells = layout_.text_length;
        attention.image = head_cache(state.image_cache, image_shape_, layer, head);
        attention.image_runs = block.pattern->runs(state.position);
      }
      kernels_->attend(attention);
    }
  });
}

int64_t CpuDecoder::weight_bytes() const {
  int64_t bytes = image_head_->bytes();
  for (const Block& block : blocks_)
    bytes += block.query_key_value.bytes() + block.output.bytes() + block.expand.bytes() +
             block.contract.bytes();
  return bytes;
}

int64_t CpuDecoder::cache_bytes(const TransformerConfig& config, const SequenceLayout& layout) {
  return (CacheShape(config, layout.text_length).size +
          CacheShape(config, layout.image_length()).size) *
         static_cast<int64_t>(sizeof(float));
}

}  // namespace dalle
