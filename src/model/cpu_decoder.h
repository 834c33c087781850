#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include <ATen/core/Tensor.h>

#include "core/sequence_layout.h"
#include "model/dalle_model.h"
#include "nn/attended_runs.h"
#include "nn/decode_kernels.h"
#include "nn/packed_linear.h"

namespace dalle {

/// How much a CpuDecoder can work on at once. The memory of a caption or image is allocated when
/// its slot is first used.
struct DecoderCapacity {
  int64_t captions = 1;
  int64_t images = 1;
  int64_t rows = 1;  ///< per step; captions are read at least 32 states at a time
};

/// One row of a decoding step: the state of an image that predicts the code at `position`.
struct DecodeRow {
  int64_t caption = 0;   ///< slot, filled by read_caption()
  int64_t image = 0;     ///< slot
  int64_t position = 0;  ///< in [0, image_length)
  int64_t previous = 0;  ///< the code at the position before; ignored at position 0
};

/// Decodes image tokens on the CPU with the weights of a DalleModel, which is its oracle. It does
/// the same arithmetic without tensors, from packed weights and static KV caches.
///
/// A row's logits depend only on its caption, the codes of its image before its position and the
/// instruction set. They are the same, bit for bit, whatever other rows are in the step, and for
/// any number of threads. A step may contain rows of different captions, images and positions, and
/// several positions of one image, each of which attends to those before it.
///
/// Matrix products read weights in the model's precision; everything between them is float32. Under
/// bfloat16 this is more accurate than the model, which also rounds activations, keys and values.
/// A step in which no slot is new allocates nothing.
class CpuDecoder {
 public:
  /// Packs the weights of the blocks and the image head, and shares the embeddings and norms: the
  /// model's parameters must not change while the decoder is in use.
  /// @param model  on the CPU, with float32 parameters
  CpuDecoder(const DalleModel& model, const DecoderCapacity& capacity,
             const DecodeKernels& kernels = decode_kernels());
  CpuDecoder(const CpuDecoder&) = delete;
  CpuDecoder& operator=(const CpuDecoder&) = delete;

  /// Computes the keys and values of a caption, which all of its images share.
  /// @param tokens  [text_length - 1], padded with kPadToken
  void read_caption(int64_t caption, std::span<const int64_t> tokens);

  /// Computes the logits of each row, and stores the row's keys and values, replacing those of the
  /// image at this position. Those of all earlier positions must already be stored or be part of
  /// this step.
  void step(std::span<const DecodeRow> rows);

  /// The logits of a row of the latest step.
  /// @return  [image vocabulary]
  std::span<const float> logits(int64_t row) const;

  const SequenceLayout& layout() const { return layout_; }

  /// Bytes of weights that a step reads, regardless of its number of rows.
  int64_t weight_bytes() const;

  /// Bytes of the keys and values of an image and of a caption.
  static int64_t cache_bytes(const TransformerConfig& config, const SequenceLayout& layout);

 private:
  struct Norm {
    at::Tensor gain, bias;  // [width]
  };
  struct Block {
    Norm attention_norm, mlp_norm;
    PackedLinear query_key_value, output, expand, contract;
    const AttendedRuns* pattern;
  };
  /// Where the keys and values of a slot are in its buffer, for each layer and head: keys
  /// [head width, key_stride], then values [cells, value_stride].
  struct CacheShape {
    CacheShape(const TransformerConfig& config, int64_t cells);
    int64_t key_stride, value_stride, head_width, head_size, layer_size, size;
  };
  /// A text or image state. Text states have no image cache.
  struct State {
    float* text_cache = nullptr;
    float* image_cache = nullptr;
    int64_t position = 0;  // in the text or in the image
  };

  static HeadCache head_cache(float* cache, const CacheShape& shape, int64_t layer, int64_t head);
  float* cache_of(std::vector<std::vector<float>>& slots, int64_t slot, const CacheShape& shape);
  void embed_text(std::span<const int64_t> tokens, int64_t position, float* x) const;
  void embed_image(const DecodeRow& row, float* x) const;

  void run_blocks();
  void add_and_normalize(const float* branch, const Norm& norm);
  void store_keys_and_values(int64_t layer);
  void attend(int64_t layer);

  const DecodeKernels* kernels_;
  TransformerConfig config_;
  SequenceLayout layout_;
  int64_t head_width_;
  int64_t stride_;  // of activations of the model's width
  int64_t most_rows_;
  CacheShape text_shape_, image_shape_;
  std::vector<AttendedRuns> patterns_;
  std::vector<Block> blocks_;
  Norm norm_;
  std::optional<PackedLinear> image_head_;
  at::Tensor text_embedding_, pad_embedding_, start_of_text_, text_position_;
  at::Tensor image_embedding_, start_of_image_, row_position_, column_position_;

  std::vector<std::vector<float>> text_caches_, image_caches_;  // by slot
  std::vector<State> states_;                                   // of the rows of this step
  // Activations of a step, [rows, ...].
  std::vector<float> x_, normalized_, qkv_, attended_, branch_, mlp_, logits_;
  std::vector<float> scores_;  // for each thread
};

}  // namespace dalle
