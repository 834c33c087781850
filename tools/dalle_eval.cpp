// dalle-eval: measures a trained model on the validation data of its config.

#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "command_line.h"
#include "core/error.h"
#include "core/files.h"
#include "core/log.h"
#include "core/stop_signal.h"
#include "dist/local_launcher.h"
#include "dist/process_group.h"
#include "dist/rank_info.h"
#include "dist/stop_condition.h"
#include "experiment/evaluation/model_evaluation.h"
#include "experiment/rank_setup.h"
#include "experiment/report/evaluation_numbers.h"
#include "experiment/report/run_report.h"
#include "experiment/stop_relay.h"
#include "generation_options.h"
#include "start_ranks.h"
#include "train/run_folder.h"

#include <nlohmann/json.hpp>

namespace {

using namespace dalle;
namespace fs = std::filesystem;

constexpr const char* kMemoryAdvice =
    "use a smaller model, close other programs, or set OMP_NUM_THREADS to use fewer threads";

struct Arguments {
  std::string model;
  std::vector<std::string> suites = {"all"};
  std::string extractor;
  std::string reranker;
  SamplingOverrides sampling;
  std::string out;
  std::string device = "auto";
  int64_t limit = 0;
  int64_t ranks = 1;
  bool restart = false;
};

void add_options(CLI::App& app, Arguments& arguments) {
  std::vector<std::string> suites = list_enum_names<EvaluationSuite>();
  suites.insert(suites.begin(), "all");
  app.add_option("--model", arguments.model,
                 fmt::format("run folder or checkpoint; {}", kDefaultModel));
  app.add_option("--suite", arguments.suites,
                 "what to measure: reconstruction, codes, likelihood, ranking, shapes, "
                 "completion, levels, frechet, memorization, best_of, or all, which selects those "
                 "that the model and its data allow")
      ->check(CLI::IsMember(suites))
      ->capture_default_str();
  app.add_option("--limit", arguments.limit,
                 "validation images to use; 0: all, except that frechet and memorization then "
                 "use the first 1,000; best_of generates 64 for each of at most 100 captions")
      ->transform(whole_number(0))
      ->capture_default_str();
  app.add_option("--extractor", arguments.extractor,
                 "for the suites frechet and memorization: the folder of a contrastive model, such "
                 "as one that dalle-import converted from CLIP, or a TorchScript file of a network "
                 "that maps images, float [B, 3, H, W] in [0, 1], to features, float [B, D]. For "
                 "the suite best_of: the folder of a contrastive model that judges the selected "
                 "images instead of the reranker. Loading a TorchScript file executes its code, so "
                 "use only files that you trust");
  app.add_option("--reranker", arguments.reranker,
                 "for the suite best_of: a contrastive model other than the run's, such as one "
                 "that dalle-import converted from CLIP");
  add_sampling_options(app, arguments.sampling);
  app.add_option(
      "--out", arguments.out,
      "results file; default: evaluation.json in the run folder. The report is next to it: "
      "report.html, or NAME.html for NAME.json");
  app.add_option("--ranks", arguments.ranks,
                 "number of processes on this machine that divide the work, which does not change "
                 "the results: one per GPU. On a CPU, one process uses all cores. For several "
                 "machines use torchrun, srun or mpirun")
      ->transform(whole_number(1, 1024));
  app.add_flag("--restart", arguments.restart, "recompute what the file already contains");
  add_device_option(app, arguments.device);
}

std::vector<EvaluationSuite> chosen_suites(const std::vector<std::string>& names) {
  std::vector<EvaluationSuite> suites;
  for (const std::string& name : names) {
    const std::optional<EvaluationSuite> suite = find_enum<EvaluationSuite>(name);
    if (!suite) return {};  // "all"
    suites.push_back(*suite);
  }
  return suites;
}

/// @throws dalle::Error if the results file or the report cannot be written
void check_results(const fs::path& file) {
  const fs::path report = report_of_results(file);
  if (report == file)
    throw Error("--out {}: this name is reserved for the report; use a name such as {}",
                file.string(), fs::path(report).replace_extension(".json").string());
  check_can_write(file);
  check_can_write(report);
}

/// Starts the ranks for --ranks, after checks of what otherwise each of them would report.
int launch_ranks(const Arguments& arguments, const RankInfo& launched, char** argv) {
  if (!may_start_ranks(arguments.ranks, launched)) return kExitUsage;
  config_of_evaluated_model(find_model(arguments.model));
  check_devices_of_ranks(arguments.ranks, arguments.device);
  return launch_local_ranks(arguments.ranks, argv);
}

/// One rank's evaluation. Rank 0 reports.
/// @return  the exit status
int evaluate_on_rank(const Arguments& arguments, const fs::path& path, ProcessGroup& group,
                     c10::Device device) {
  const RunPaths run(run_of_model(path));
  EvaluatedModel model = load_evaluated_model(path, device);
  set_sampling(model, override_sampling(model.config.sample, arguments.sampling));
  const ModelEvaluationOptions options{
      .suites = chosen_suites(arguments.suites),
      .limit = arguments.limit,
      .out = arguments.out.empty() ? run.evaluation() : fs::path(arguments.out),
      .extractor = arguments.extractor,
      .reranker = arguments.reranker,
      .restart = arguments.restart};
  if (group.is_rank_zero()) check_results(options.out);
  log_info("evaluating {} (step {}){}", model.checkpoint.string(), model.step,
           group.world_size() == 1 ? "" : fmt::format(" on {} ranks", group.world_size()));
  group.set_phase(Phase::kEvaluating, model.step);
  const StopSignal stop;
  const StopAnnouncer announcer(group, stop);
  const StopCondition condition(stop, group);
  try {
    const auto result = evaluate_model(model, options, group, condition.check_stop());
    if (!group.is_rank_zero()) return 0;
    fmt::print("{}", evaluation_table(result));
    write_report(model.config, run, options.out);
  } catch (const StopRequested&) {
    log_info("stopped; finished work is saved in {} and {}; run the same command{} to resume",
             options.out.string(), partial_results(options.out).string(),
             arguments.restart ? " without --restart" : "");
    return 128 + condition.signal();
  }
  log_info("wrote {} and {}", options.out.string(), report_of_results(options.out).string());
  return 0;
}

int evaluate(const Arguments& arguments, char** argv) {
  const RankInfo info = find_ranks(arguments.ranks);
  if (arguments.ranks > 1 && info.launcher != kLocalLauncher)
    return launch_ranks(arguments, info, argv);
  const fs::path path = find_model(arguments.model);
  ExperimentConfig config = config_of_evaluated_model(path);
  config.distributed.backend = CommunicationBackend::kAuto;  // not that of the training's devices
  // On a CPU, results do not depend on threads, so none need be left out for that.
  config.distributed.bitwise &= device_of(info, arguments.device).is_cuda();
  const ExperimentOptions joined = join_ranks(config, info, arguments.device);
  if (!joined.group->is_rank_zero()) set_console_rank(joined.group->rank());
  return run_rank(*joined.group, kMemoryAdvice,
                  [&] { return evaluate_on_rank(arguments, path, *joined.group, joined.device); });
}

}  // namespace

int main(int argc, char** argv) {
  CLI::App app("Measures a trained model on the validation data of its config.", "dalle-eval");
  Arguments arguments;
  add_options(app, arguments);
  const ToolText text{
      .examples =
          "  dalle-eval --model runs/shapes-demo\n"
          "  dalle-eval --model runs/photos --suite reconstruction codes --limit 1000\n"
          "  dalle-eval --model runs/photos --suite frechet --limit 5000 --extractor "
          "inception.pt\n"
          "  dalle-eval --model runs/photos --suite best_of frechet --reranker models/clip "
          "--extractor models/other-clip\n"
          "  dalle-eval --model runs/photos --ranks 4\n",
      .memory_advice = kMemoryAdvice};
  dalle::run_tool(app, argc, argv, text, [&] { return evaluate(arguments, argv); });
}
