#pragma once

#include <filesystem>

#include "experiment/config/experiment_config.h"
#include "train/run_folder.h"

#include <nlohmann/json_fwd.hpp>

namespace dalle {

/// The name of the report about a results file, next to it: report.html for evaluation.json, and
/// NAME.html for NAME.json.
std::filesystem::path report_of_results(const std::filesystem::path& results);

/// The folder of the images that a results file names, next to it: NAME_images for NAME.json.
std::filesystem::path images_of_results(const std::filesystem::path& results);

/// The content of a results file of dalle-eval, which has the objects `model` and `suites`; null if
/// there is no file.
/// @throws dalle::Error if the file has other content
nlohmann::ordered_json read_results(const std::filesystem::path& results);

/// Writes the report of a run: one HTML file that needs no other file and no network. It shows what
/// there is of the numbers and images of an evaluation, the training curves, the last sample images
/// of each stage, and the commands that reproduce them. Nothing is computed again.
///
/// @param run      its metrics and samples are read, if there are any
/// @param results  the results file of an evaluation, and its images; may not exist
/// @throws dalle::Error naming a file that cannot be read or written
void write_report(const ExperimentConfig& config, const RunPaths& run,
                  const std::filesystem::path& results);

}  // namespace dalle
