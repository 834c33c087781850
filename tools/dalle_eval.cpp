// dalle-eval: measures a trained model on the validation data of its config.

#include <filesystem>
#include <string>
#include <vector>

#include "command_line.h"
#include "core/error.h"
#include "core/files.h"
#include "core/log.h"
#include "core/stop_signal.h"
#include "experiment/model_evaluation.h"
#include "experiment/run_report.h"
#include "sampling_options.h"
#include "train/run_folder.h"

namespace {

using namespace dalle;
namespace fs = std::filesystem;

struct Arguments {
  std::string model;
  std::vector<std::string> suites = {"all"};
  std::string extractor;
  std::string reranker;
  SamplingOptions sampling;
  std::string out;
  std::string device = "auto";
  int64_t limit = 0;
  bool restart = false;
};

void add_options(CLI::App& app, Arguments& arguments) {
  std::vector<std::string> names = {"all"};
  for (const auto& [suite, name] : enum_names(EvaluationSuite{})) names.emplace_back(name);
  app.add_option("--model", arguments.model,
                 fmt::format("run folder or checkpoint; {}", kDefaultModel));
  app.add_option("--suite", arguments.suites,
                 "what to measure: reconstruction, codes, likelihood, ranking, shapes, levels, "
                 "frechet, memorization, best_of, or all, which selects those that the model and "
                 "its data allow")
      ->check(CLI::IsMember(names))
      ->capture_default_str();
  app.add_option("--limit", arguments.limit,
                 "validation images to use; 0: all, but the suites frechet and memorization "
                 "generate at most 1,000 images")
      ->transform(whole_number(0))
      ->capture_default_str();
  app.add_option("--extractor", arguments.extractor,
                 "for the suites frechet and memorization: the folder of a contrastive model, such "
                 "as dalle-import makes of CLIP, or a TorchScript file of a network that maps "
                 "images, float [B, 3, H, W] in [0, 1], to features, float [B, D]. Loading a "
                 "TorchScript file executes its code, so use only files that you trust");
  app.add_option("--reranker", arguments.reranker,
                 "for the suite best_of: another contrastive model than that of the run, such as "
                 "dalle-import makes of CLIP");
  add_sampling_options(app, arguments.sampling);
  app.add_option(
      "--out", arguments.out,
      "results file; default: evaluation.json in the run folder. The report is next to it: "
      "report.html, or NAME.html for NAME.json");
  app.add_flag("--restart", arguments.restart, "also recompute what the file already contains");
  add_device_option(app, arguments.device);
}

std::vector<EvaluationSuite> chosen_suites(const std::vector<std::string>& names) {
  std::vector<EvaluationSuite> suites;
  for (const std::string& chosen : names) {
    if (chosen == "all") return {};
    for (const auto& [suite, name] : enum_names(EvaluationSuite{}))
      if (name == chosen) suites.push_back(suite);
  }
  return suites;
}

int evaluate(const Arguments& arguments) {
  const c10::Device device = find_device(arguments.device);
  const fs::path path = find_model(arguments.model);
  EvaluatedModel model = load_evaluated_model(path, device);
  set_sampling(model, override_sampling(model.config.sample, arguments.sampling));
  const RunPaths run(run_of_model(path));
  const ModelEvaluationOptions options{
      .suites = chosen_suites(arguments.suites),
      .limit = arguments.limit,
      .out = arguments.out.empty() ? run.evaluation() : fs::path(arguments.out),
      .extractor = arguments.extractor,
      .reranker = arguments.reranker,
      .restart = arguments.restart};
  const fs::path report = report_of_results(options.out);
  if (report == options.out)
    throw Error("--out {}: expected a name such as {}, because this one is the report's",
                arguments.out, fs::path(report).replace_extension(".json").string());
  check_can_write(options.out);
  check_can_write(report);
  log_info("evaluating {} (step {})", model.checkpoint.string(), model.step);
  const StopSignal stop;
  try {
    const auto result = evaluate_model(model, options, [&] {
      if (stop.requested()) throw StopRequested();
    });
    fmt::print("{}", evaluation_table(result));
    write_report(model.config, run, options.out);
  } catch (const StopRequested&) {
    log_info("stopped; finished suites are saved in {}; run the same command to continue",
             options.out.string());
    return 128 + stop.number();
  }
  log_info("wrote {} and {}", options.out.string(), report.string());
  return 0;
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
          "--extractor models/clip\n",
      .memory_advice = "use a smaller model or close other programs"};
  return dalle::run_tool(app, argc, argv, text, [&] { return evaluate(arguments); });
}
