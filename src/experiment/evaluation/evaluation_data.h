#pragma once

#include <cstdint>
#include <functional>
#include <limits>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "data/batch.h"
#include "data/datasets.h"
#include "data/fingerprint.h"
#include "data/image/rgb_image.h"
#include "data/sample_source.h"
#include "data/skipped_samples.h"
#include "experiment/evaluation/evaluated_model.h"
#include "train/chunked_work.h"

#include <nlohmann/json_fwd.hpp>

namespace dalle {

/// A phase of a suite, as in "likelihood: images".
struct SuitePhase {
  std::string suite;
  std::string name;
  std::string version = "";  ///< of what the records depend on besides the model and its data

  std::string what() const { return suite + ": " + name; }
  std::string folder() const { return suite + "/" + version + name; }
  ChunkedPhase in_chunks(int64_t items, int64_t chunk_size = 32) const {
    return {.what = what(), .folder = folder(), .items = items, .chunk_size = chunk_size};
  }
};

/// The items of a chunk.
template <class T>
std::span<const T> items_of(const Chunk& chunk, const std::vector<T>& items) {
  return std::span(items).subspan(static_cast<size_t>(chunk.begin),
                                  static_cast<size_t>(chunk.end - chunk.begin));
}

enum class DataPart { kValidation, kTraining };

/// The first validation samples of a model's config, and its training samples, without captions, in
/// the order that the config's seed selects. With a transformer, validation samples without a
/// caption are invalid. Thread-safe.
class EvaluationData {
 public:
  /// @param limit  how many samples to use; 0: all
  /// @throws dalle::Error if the data set cannot be opened or has no validation samples
  EvaluationData(const EvaluatedModel& model, int64_t limit);

  /// Samples of another data set in place of the config's validation data.
  EvaluationData(const EvaluatedModel& model, int64_t limit, std::unique_ptr<Dataset> validation);

  /// Of the validation samples, including invalid ones.
  int64_t size() const { return size_; }

  /// Identifies the names, not the contents, of the validation samples.
  std::string fingerprint() const { return dalle::fingerprint(*datasets_.validation); }

  /// For how many of the first samples the suites frechet and memorization generate an image: all
  /// if there is a limit, else at most 1,000.
  int64_t images_to_generate() const { return images_to_generate_; }

  /// Whether two samples have different captions, among as many as the suite ranking uses.
  bool captions_differ() const;

  /// The valid samples among those at positions [begin, end).
  /// @throws dalle::Error if too many samples of the data set are invalid
  std::optional<Batch> batch(int64_t begin, int64_t end,
                             DataPart part = DataPart::kValidation) const;

  std::string training_key(int64_t position) const;

  using FindRecord = std::function<nlohmann::ordered_json(const Batch&)>;

  /// What `find` returns for batches of valid samples, in order. Which samples a batch holds does
  /// not depend on ranks or threads; it is no larger than those of the training, whose memory
  /// suffices. See ChunkedWork::records().
  /// @param limit  how many samples to use
  /// @throws dalle::Error if no sample is valid, or too many of the data set are not
  std::vector<nlohmann::ordered_json> records(ChunkedWork& work, const SuitePhase& phase,
                                              const FindRecord& find,
                                              int64_t limit = std::numeric_limits<int64_t>::max(),
                                              DataPart part = DataPart::kValidation) const;

 private:
  EvaluationData(const EvaluatedModel& model, int64_t limit, DatasetPair datasets);
  const SampleSource& source_of(DataPart part) const {
    return part == DataPart::kTraining ? *training_source_ : *source_;
  }

  int64_t size_ = 0;
  int64_t images_to_generate_ = 0;
  int64_t batch_size_ = 0;
  DatasetPair datasets_;
  std::unique_ptr<SkippedSamples> skipped_;
  std::unique_ptr<SampleSource> source_;
  std::unique_ptr<SkippedSamples> skipped_training_;
  std::unique_ptr<SampleSource> training_source_;
};

/// How many samples the suite ranking uses. With this many, the interval of a share is at most 4.4
/// percentage points to each side.
inline constexpr int64_t kMaxRankedImages = 500;

}  // namespace dalle
