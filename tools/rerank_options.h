#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include <c10/core/Device.h>

#include "command_line.h"
#include "experiment/trained/reranker.h"
#include "experiment/trained/trained_dalle.h"
#include "sample/best_candidates.h"

namespace dalle {

/// The options of dalle-sample that select the best of several images.
struct RerankOptions {
  std::optional<int64_t> best_of;
  std::string reranker;  ///< empty: that of the model's run
  RankBy rank_by = RankBy::kClip;
  bool keep_all = false;
};

void add_rerank_options(CLI::App& app, RerankOptions& options);

/// @param count  of the images to keep
/// @return       null without --best-of
/// @throws dalle::Error naming the option, or as the reranker does
std::unique_ptr<Reranker> load_reranker(const RerankOptions& options, const TrainedDalle& dalle,
                                        int64_t count, c10::Device device);

/// "a red circle: kept 2 of 64 images, the best first: 37 (0.3124), 5 (0.3087)".
std::string ranking_line(const std::string& caption, const BestCandidates<RgbImage>& candidates);

}  // namespace dalle
