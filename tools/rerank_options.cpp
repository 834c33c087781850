#include "rerank_options.h"

#include <algorithm>

#include <fmt/ranges.h>

#include "core/error.h"
#include "core/log.h"

namespace dalle {

void add_rerank_options(CLI::App& app, RerankOptions& options) {
  CLI::Option* const best_of =
      app.add_option(
             "--best-of", options.best_of,
             "generate this many images per caption and keep the --count best, ranked by "
             "how well they fit the caption; scores and ranks are in the metadata, and the log "
             "names the best ones")
          ->transform(whole_number(1, 100'000));
  CLI::Option* const rank_by = add_enum_option<RankBy>(
      app, "--rank-by", options.rank_by,
      "clip: similarity of image and caption, by the contrastive model of the model's run; "
      "likelihood: how much more probable the model finds the image with the caption than "
      "without, for models trained with dalle.train.caption_dropout");
  CLI::Option* const reranker =
      app.add_option(
             "--reranker", options.reranker,
             "the contrastive model of another run: run folder, checkpoint, or the file latest or "
             "best of the clip stage; or a CLIP model that dalle-import converted")
          ->check([](const std::string& path) {
            return path.empty() ? "found an empty path, expected a run or checkpoint" : "";
          });
  CLI::Option* const keep_all = app.add_flag("--keep-all", options.keep_all,
                                             "also write the images that --best-of does not keep");
  for (CLI::Option* option : {rank_by, reranker, keep_all}) option->needs(best_of);
}

std::unique_ptr<Reranker> load_reranker(const RerankOptions& options, const TrainedDalle& dalle,
                                        int64_t count, c10::Device device) {
  if (!options.best_of) return nullptr;
  if (*options.best_of < count)
    throw Error("--best-of: found {}, expected at least {}, the images to keep (--count)",
                *options.best_of, count);
  return make_reranker(dalle, options.rank_by, options.reranker, device);
}

std::string ranking_line(const std::string& caption, const BestCandidates<RgbImage>& candidates) {
  constexpr size_t kMostShown = 16;
  const std::vector<Candidate<RgbImage>>& best = candidates.best();
  std::vector<std::string> shown;
  for (size_t i = 0; i < std::min(best.size(), kMostShown); ++i)
    shown.push_back(fmt::format("{} ({:.4f})", best[i].number, best[i].score));
  if (best.size() > kMostShown) shown.emplace_back("...");
  return fmt::format("{}: kept {} of {} images, the best first: {}", caption, best.size(),
                     candidates.added(), fmt::join(shown, ", "));
}

}  // namespace dalle
