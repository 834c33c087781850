#pragma once

#include <cstdint>
#include <filesystem>
#include <fstream>
#include <functional>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "metrics/event_writer.h"

#include <nlohmann/json_fwd.hpp>

namespace dalle {

struct Metric {
  std::string name;  ///< its key in metrics.jsonl and its tag in TensorBoard, e.g. "loss/text"
  double value = 0;
  /// How it reads on the console, a format of fmt: "loss {:.4f}", "{:.0f} ms"; empty: left out.
  std::string console = "";
};

/// The line of one report: `step 1200 | loss 6.3121 text 7.10 image 6.20 | lr 4.5e-04 | 812 ms`.
///
/// A metric whose name begins with that of the one before, or of the group it is in, and a slash
/// joins its group ("loss", "loss/text", "loss/image"); the others are separated by a bar.
std::string console_line(int64_t step, std::span<const Metric> metrics,
                         std::span<const Metric> timings);

/// The line of metrics.jsonl: {"stage":"dalle","step":1200,"loss":6.3121,"time":{"ms":812.4}}.
///
/// Numbers are the shortest decimals that read back to the same double. JSON has no infinity and no
/// NaN: they are null. What the clock measured is in "time", so that the rest of two runs can be
/// compared byte for byte.
std::string json_line(std::string_view stage, int64_t step, std::span<const Metric> metrics,
                      std::span<const Metric> timings);

/// When the last line of a stage was written, in seconds since 1970. Copying or touching the file
/// does not change it.
/// @return nothing if there is no such file or line, or the line does not say
/// @throws dalle::Error if the file cannot be read
std::optional<double> last_written(const std::filesystem::path& metrics, std::string_view stage);

/// Calls `use` with each line of a metrics.jsonl, in order; is_discarded() is true for a line that
/// is not JSON. A missing file has no lines.
void for_each_metric_line(const std::filesystem::path& metrics,
                          const std::function<void(const nlohmann::ordered_json&)>& use);

/// How much of a metrics.jsonl that training writes has been read.
struct MetricProgress {
  uint64_t bytes = 0;     ///< whole lines
  std::string last_line;  ///< of them; times in the lines make it unique
};

/// Calls `use` with each whole line after those that have been read.
/// @return false, without calling it, if the lines that have been read are no longer there: a run
///         that resumes drops lines. Then start from MetricProgress().
/// @throws dalle::Error naming the file if it cannot be read
bool for_each_new_metric_line(const std::filesystem::path& metrics, MetricProgress& progress,
                              const std::function<void(const nlohmann::ordered_json&)>& use);

/// A position in a stage's metrics: after all lines of the steps before `step`, and after the first
/// `lines` of that step.
struct MetricPosition {
  int64_t step = 0;
  int64_t lines = 0;
};

/// Reports a stage's numbers in three places: the log, the run's metrics.jsonl and TensorBoard's
/// event files.
///
/// A step is to be written before the checkpoint of that step is saved (and sync() called in
/// between), so that a run resumed from it finds the step's lines here.
class MetricLog {
 public:
  /// Opens the files of a stage that resumes from a position (0: from its beginning).
  ///
  /// Lines of this stage after it are dropped from metrics.jsonl, because the run makes those steps
  /// again and gives the same lines; so is an incomplete last line. All other lines stay, byte for
  /// byte. The file is replaced atomically.
  ///
  /// @param metrics  metrics.jsonl, which all stages of a run share
  /// @param events   the folder of this stage's event files
  /// @throws dalle::Error naming the file if it cannot be written, or a line in another format
  MetricLog(const std::filesystem::path& metrics, const std::filesystem::path& events,
            std::string_view stage, const MetricPosition& resume);

  /// @param metrics  functions of the run alone: the same in every repetition
  /// @param timings  what the clock measured; tagged "time/<name>" in TensorBoard. metrics.jsonl
  ///                 also gets the time of writing, as "unix_s"
  /// @throws dalle::Error naming the file if it cannot be written (disk full)
  void write(int64_t step, std::span<const Metric> metrics, std::span<const Metric> timings = {});

  /// Shows an image in TensorBoard.
  void image(int64_t step, std::string_view name, const PngImage& png);

  /// Flushes what was written to the disk.
  /// @param step  the last one that was written, or a later one
  /// @return      how many lines of it were written
  int64_t sync(int64_t step);

 private:
  int64_t lines_of(int64_t step) const { return step == last_.step ? last_.lines : 0; }

  std::string stage_;
  MetricPosition last_;
  std::filesystem::path path_;
  EventWriter events_;
  std::ofstream file_;
};

}  // namespace dalle
