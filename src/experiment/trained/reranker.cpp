#include "experiment/trained/reranker.h"

#include <cmath>
#include <map>
#include <mutex>
#include <vector>

#include <torch/types.h>

#include "core/error.h"
#include "eval/token_scores.h"
#include "experiment/config/model_files.h"

namespace dalle {
namespace {

namespace fs = std::filesystem;

/// A tensor of each caption that has been asked for, made once. Several threads may ask. Forgets
/// all captions when there are many, because a server ranks the images of any number of them.
class CaptionTensors {
 public:
  template <class Make>
  at::Tensor of(const std::string& caption, const Make& make) {
    constexpr size_t kMostCaptions = 1024;
    const std::lock_guard lock(mutex_);
    if (tensors_.size() >= kMostCaptions && !tensors_.contains(caption)) tensors_.clear();
    auto [entry, is_new] = tensors_.try_emplace(caption);
    if (is_new) entry->second = make();
    return entry->second;
  }

 private:
  std::mutex mutex_;
  std::map<std::string, at::Tensor> tensors_;
};

class ClipReranker : public Reranker {
 public:
  explicit ClipReranker(TrainedClip clip) : clip_(std::move(clip)) {}

  std::string name() const override { return "clip " + clip_.hash; }

 protected:
  double raw_score(const std::string& caption, const at::Tensor&, const RgbImage& image) override {
    const at::Tensor embedding = embeddings_.of(caption, [&] {
      return embed_captions(clip_, {&caption, 1})[0];
    });
    // One image at a time: rounding may depend on how many there are.
    return at::dot(embedding, embed_images(clip_, {&image, 1})[0]).item<double>();
  }

 private:
  TrainedClip clip_;
  CaptionTensors embeddings_;
};

class LikelihoodReranker : public Reranker {
 public:
  explicit LikelihoodReranker(const TrainedDalle& dalle) : dalle_(dalle) {}

  std::string name() const override { return "likelihood"; }

 protected:
  double raw_score(const std::string& caption, const at::Tensor& codes, const RgbImage&) override {
    const torch::NoGradGuard no_grad;
    const at::Tensor tokens = tokens_.of(caption, [&] {
      return caption_tokens(dalle_, caption, LongCaptions::kAccept);  // who generated it has warned
    });
    const at::Tensor none = torch::full_like(tokens, kPadToken);
    DalleModel model = dalle_.model;
    const std::vector<double> bits = image_log_likelihoods(model, codes.flatten(), {tokens, none});
    return bits[0] - bits[1];
  }

 private:
  const TrainedDalle& dalle_;
  CaptionTensors tokens_;
};

fs::path existing_clip_folder(const TrainedDalle& dalle) {
  const fs::path folder = clip_folder(dalle.checkpoint);
  if (!fs::exists(folder))
    throw Error(
        "{}: no reranker for {}; add a clip section to the config and train it with dalle-train "
        "--stage clip, give --reranker, or use --rank-by likelihood",
        folder.string(), dalle.checkpoint.string());
  return folder;
}

}  // namespace

double finite_score(const std::string& caption, double score) {
  if (!std::isfinite(score))
    throw Error("caption {:?}: the score of an image is {}, expected a finite number", caption,
                score);
  return score;
}

double Reranker::score(const std::string& caption, const at::Tensor& codes, const RgbImage& image) {
  return finite_score(caption, raw_score(caption, codes, image));
}

std::unique_ptr<Reranker> make_clip_reranker(const TrainedDalle& dalle, const fs::path& path,
                                             c10::Device device) {
  TrainedClip clip = load_trained_clip(path.empty() ? existing_clip_folder(dalle) : path, device);
  require_readable(clip, dalle.config.data.image_size, dalle.checkpoint);
  return std::make_unique<ClipReranker>(std::move(clip));
}

std::unique_ptr<Reranker> make_likelihood_reranker(const TrainedDalle& dalle) {
  if (dalle.config.dalle.train.caption_dropout == 0)
    throw Error(
        "{}: dalle.train.caption_dropout is 0, expected more: ranking by likelihood compares an "
        "image's probability with that without a caption, which the model has not learned",
        dalle.checkpoint.string());
  return std::make_unique<LikelihoodReranker>(dalle);
}

std::unique_ptr<Reranker> make_reranker(const TrainedDalle& dalle, RankBy rank_by,
                                        const fs::path& path, c10::Device device) {
  if (rank_by == RankBy::kClip) return make_clip_reranker(dalle, path, device);
  if (!path.empty())
    throw Error("--reranker: found {}, expected none with --rank-by likelihood", path.string());
  return make_likelihood_reranker(dalle);
}

}  // namespace dalle
