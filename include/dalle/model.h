#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include <ATen/core/Tensor.h>

#include "dalle/export.h"

namespace dalle {

/// Which images to generate for a caption, and how their codes are sampled. Settings without a
/// value come from `sample` in the model's config.
struct SampleOptions {
  int64_t seed = 1;                        ///< at least 0
  int64_t first = 0;                       ///< index of the first image, at least 0
  int64_t count = 1;                       ///< at least 1
  std::optional<double> temperature = {};  ///< in [0, 100]; 0 takes the most likely code
  std::optional<int64_t> top_k = {};       ///< sample from the k most likely codes; 0: from all
  std::optional<double> top_p = {};        ///< in (0, 1]; nucleus sampling; 1: off
  /// In [0, 100]: scale of classifier-free guidance, for models that were trained with
  /// dalle.train.caption_dropout; 1: off. The logits become null + guidance (conditional - null),
  /// where null are those without a caption.
  std::optional<double> guidance = {};
  /// In [0, 1]: fractions of the codes after which guidance begins and after which it ends.
  std::optional<double> guidance_from = {};
  std::optional<double> guidance_to = {};
  /// If more than 0: generate this many images, at least `count`, and return the `count` most
  /// similar to the caption, the best first; neither their indices nor their scores are returned.
  /// The similarity is that of the contrastive model of the same run: the newest checkpoint in the
  /// folder `clip` next to the one that holds checkpoint().
  int64_t best_of = 0;
  /// [grid_size, grid_size] int64: codes that are given, such as those that encode() returns, and
  /// -1 where one is sampled. Codes are sampled from the upper left to the lower right, without
  /// regard to given ones that come later. Undefined: all are sampled.
  at::Tensor known_codes = {};
  /// In [0, 1]: fraction of the known codes that is resampled anyway; which ones depends on the
  /// seed, the image and the position.
  double variation = 0;
};

/// The log-probabilities (natural logarithm) that a model assigns to samples, on the CPU.
struct LogLikelihood {
  at::Tensor text;   ///< [N] float64, of the caption's tokens
  at::Tensor image;  ///< [N] float64, of the codes given the caption
};

/// A trained DALL-E: transformer, discrete VAE and tokenizer, read from one checkpoint.
///
/// Sizes: images have image_size() x image_size() pixels and grid_size() x grid_size() codes. All
/// results are on the CPU; arguments may be on any device. The result for an image is the same, bit
/// for bit, whatever else is in the call, except that on a GPU the codes that generate() and
/// generate_codes() sample may differ if `count` differs.
///
/// A model may be used from any thread, but only from one at a time. A moved-from model may
/// only be destroyed or assigned to. No function changes a model or records gradients.
///
/// All functions throw c10::Error or std::bad_alloc if memory runs out.
class DALLE_API Model {
 public:
  /// Loads the EMA weights of a checkpoint of the dalle stage.
  ///
  /// For the whole process, limits LibTorch's threads to the CPUs that the process may use (unless
  /// OMP_NUM_THREADS is set) and disables TF32, so that generate() computes what dalle-sample does.
  ///
  /// @param path    a checkpoint folder, the file `latest` or `best` that names one, or a run
  ///                folder, whose newest valid checkpoint is read
  /// @param device  "auto" (a GPU if there is one), "cpu", "cuda" or "cuda:N"
  /// @throws dalle::Error naming the missing or corrupt file, or the device that cannot be used
  static Model load(const std::filesystem::path& path, const std::string& device = "auto");

  Model(Model&& other) noexcept;
  Model& operator=(Model&& other) noexcept;
  ~Model();

  std::filesystem::path checkpoint() const;  ///< the folder that was read
  int64_t step() const;                      ///< of the checkpoint
  int64_t image_size() const;                ///< in pixels
  int64_t grid_size() const;                 ///< rows (and columns) of an image's codes
  int64_t image_vocab_size() const;          ///< number of distinct codes
  int64_t text_vocab_size() const;           ///< number of distinct text tokens
  int64_t max_caption_tokens() const;        ///< any further tokens of a caption are ignored

  /// The BPE tokens of a caption.
  /// @return  in [0, text_vocab_size()), not truncated; empty if the caption is blank
  /// @throws dalle::Error if the caption is not UTF-8
  std::vector<int64_t> tokenize(const std::string& caption) const;

  /// Generates images from a caption. Image i of a seed is the one that dalle-sample writes. On
  /// CPUs of the same kind it is the same, bit for bit, whatever `first` and `count` are. Without
  /// `best_of`, the result's images are those from `first` on; with it, the best of those.
  ///
  /// @return  [count, 3, image_size, image_size] uint8: decode() of generate_codes()
  /// @throws dalle::Error if an option is out of range, the caption is blank or not UTF-8, the
  ///         model's logits are not finite, or best_of is given and the run has no contrastive
  ///         model
  at::Tensor generate(const std::string& caption, const SampleOptions& options = {}) const;

  /// Samples the codes of the images that generate() would return. On a CPU, each call makes a
  /// packed copy of the transformer's weights, so one call for several images is cheaper than
  /// several calls.
  ///
  /// @return  [count, grid_size, grid_size] int64 in [0, image_vocab_size()), rows from the top
  /// @throws dalle::Error as generate() does
  at::Tensor generate_codes(const std::string& caption, const SampleOptions& options = {}) const;

  /// The most likely codes of images, on which the transformer is trained unless its config has
  /// `dalle.image_tokens: sample`.
  ///
  /// @param images  [N, 3, H, W] uint8, or floating point in [0, 1]; any H and W that are multiples
  ///                of image_size() / grid_size()
  /// @return        [N, h, w] int64 in [0, image_vocab_size()), with
  ///                h = H grid_size() / image_size() and w = W grid_size() / image_size()
  /// @throws dalle::Error if the tensor has the wrong type or shape, or a value outside [0, 1]
  at::Tensor encode(const at::Tensor& images) const;

  /// The images that codes represent.
  ///
  /// @param codes  [N, h, w] int64 in [0, image_vocab_size())
  /// @return       [N, 3, H, W] uint8
  /// @throws dalle::Error if the tensor has the wrong type or shape, or a code is out of range
  at::Tensor decode(const at::Tensor& codes) const;

  /// The exact log-likelihoods of captions and of the codes of their images under the transformer,
  /// at temperature 1. Only the first max_caption_tokens() tokens of a caption count.
  ///
  /// @param captions  N of them
  /// @param codes     [N, grid_size, grid_size] int64 in [0, image_vocab_size()), as encode() gives
  /// @throws dalle::Error if there is not one caption per grid, the codes have the wrong type or
  ///         shape or are out of range, or a caption is blank or not UTF-8
  LogLikelihood log_likelihood(const std::vector<std::string>& captions,
                               const at::Tensor& codes) const;

 private:
  struct State;
  explicit Model(std::unique_ptr<State> state);

  std::unique_ptr<State> state_;
};

}  // namespace dalle
