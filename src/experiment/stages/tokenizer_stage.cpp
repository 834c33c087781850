#include "experiment/stages/tokenizer_stage.h"

#include <algorithm>
#include <filesystem>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include <fmt/format.h>

#include "core/error.h"
#include "core/files.h"
#include "core/log.h"
#include "core/progress.h"
#include "data/invalid_sample.h"
#include "data/text/tokenizer.h"

namespace dalle {
namespace {

/// Iterates over at most `limit` captions of the training images, evenly spread.
class TrainingCaptions {
 public:
  TrainingCaptions(const Dataset& dataset, int64_t limit)
      : dataset_(dataset),
        limit_(limit),
        images_(std::min(dataset.size(), limit)),
        progress_(std::in_place, "tokenizer: reading captions of images", images_) {}

  std::optional<std::string> next() {
    while (pending_.empty() && visited_ < images_) {
      const int64_t index = visited_ * dataset_.size() / images_;
      // Training counts and lists such a sample.
      const auto defect = defect_of([&] { pending_ = dataset_.captions(index); });
      if (defect && ++unreadable_ == 1)
        first_reason_ = fmt::format("{}: {}", dataset_.key(index), *defect);
      ++visited_;
      // What earlier images did not need is left for this one.
      const int64_t share = limit_ * visited_ / images_ - taken_;
      if (std::ssize(pending_) > share) pending_.resize(static_cast<size_t>(share));
      taken_ += std::ssize(pending_);
      if (progress_) progress_->update(visited_);
    }
    if (pending_.empty()) return end(), std::nullopt;
    std::string caption = std::move(pending_.back());
    pending_.pop_back();
    if (++read_ == limit_) end();
    return caption;
  }

  /// What could not be read, for a message; empty if all captions could.
  std::string unreadable() const {
    if (unreadable_ == 0) return "";
    return fmt::format("the captions of {} images cannot be read, the first: {}", unreadable_,
                       first_reason_);
  }

 private:
  /// All are read; sentencepiece starts, and does not report its progress.
  void end() {
    if (!progress_) return;
    progress_.reset();
    log_info("tokenizer: training on {} captions, about one minute per million", read_);
  }

  const Dataset& dataset_;
  int64_t limit_;
  int64_t images_;  ///< to visit, an equal share of the limit each
  int64_t visited_ = 0;
  int64_t taken_ = 0;
  int64_t read_ = 0;
  std::optional<Progress> progress_;
  std::vector<std::string> pending_;
  int64_t unreadable_ = 0;
  std::string first_reason_;
};

Tokenizer trained_tokenizer(const TokenizerConfig& config, const Dataset& dataset) {
  log_info("tokenizer: training up to {} tokens on the captions of {} images", config.vocab_size,
           dataset.size());
  TrainingCaptions captions(dataset, config.max_training_captions);
  try {
    Tokenizer tokenizer(train_tokenizer([&] { return captions.next(); }, config));
    if (const std::string unreadable = captions.unreadable(); !unreadable.empty())
      log_warning("tokenizer: {}", unreadable);
    log_info("tokenizer: {} tokens{}", tokenizer.vocab_size(),
             tokenizer.vocab_size() < config.vocab_size ? ", as many as the captions yield" : "");
    return tokenizer;
  } catch (const Error& error) {
    const std::string unreadable = captions.unreadable();
    throw Error("{}{}", error.what(), unreadable.empty() ? "" : "; " + unreadable);
  }
}

}  // namespace

void run_tokenizer_stage(const TokenizerConfig& config, const Dataset& dataset, const RunPaths& run,
                         const std::optional<std::string>& given) {
  if (std::filesystem::exists(run.tokenizer())) {
    if (given && read_file(run.tokenizer()) != *given)
      throw Error("{}: differs from the tokenizer of from.checkpoint; start over with --restart",
                  run.tokenizer().string());
    log_info("tokenizer: already finished");
    return;
  }
  const auto made = [&] {
    return config.model.empty() ? trained_tokenizer(config, dataset) : load_tokenizer(config.model);
  };
  write_file_atomically(run.tokenizer(), given ? *given : made().model());
  if (given) log_info("tokenizer: copied from the source model");
}

}  // namespace dalle
