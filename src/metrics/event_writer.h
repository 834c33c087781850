#pragma once

#include <cstdint>
#include <filesystem>
#include <fstream>
#include <string_view>

namespace dalle {

/// An RGB image as a PNG file.
struct PngImage {
  std::string_view file;  ///< its bytes
  int64_t width = 0;
  int64_t height = 0;
};

/// Writes scalars and images for TensorBoard.
///
/// Each opening makes a new file in the folder; TensorBoard reads them in the order of their names.
/// A file begins with the step that the run resumes from, upon which TensorBoard forgets what older
/// files say of later steps: after a kill and a resumption no step shows twice. What a killed run
/// left of its last record ends that file.
/// Source: TensorFlow's event.proto, summary.proto and record format
class EventWriter {
 public:
  /// @param folder       of one stage: its steps are counted on their own; made when missing
  /// @param resume_step  the last step whose events stay; 0 for a new run
  /// @throws dalle::Error naming the path if it cannot be written
  EventWriter(const std::filesystem::path& folder, int64_t resume_step);

  /// Every function below hands its record to the operating system before it returns.
  /// @throws dalle::Error naming the file if it cannot be written (disk full)
  void scalar(int64_t step, std::string_view tag, double value);

  void image(int64_t step, std::string_view tag, const PngImage& png);

  const std::filesystem::path& path() const { return path_; }

 private:
  void write_event(int64_t step, std::string_view what);

  std::filesystem::path path_;
  std::ofstream file_;
};

}  // namespace dalle
