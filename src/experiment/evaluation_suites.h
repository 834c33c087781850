#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <limits>
#include <map>
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
#include "eval/feature_space.h"
#include "eval/interval.h"
#include "experiment/image_generator.h"
#include "experiment/model_evaluation.h"

#include <nlohmann/json.hpp>

namespace dalle {

/// The first validation samples of a model's config. With a transformer, those without a caption
/// are invalid.
class EvaluationData {
 public:
  /// @param limit  how many samples to use; 0: all
  /// @throws dalle::Error if the data set cannot be opened or has no validation samples
  EvaluationData(const EvaluatedModel& model, int64_t limit);

  /// Samples of another data set in place of the config's validation data.
  EvaluationData(const EvaluatedModel& model, int64_t limit, std::unique_ptr<Dataset> validation);

  /// Including invalid samples.
  int64_t size() const { return size_; }

  /// Identifies the names, not the contents, of the validation samples.
  std::string fingerprint() const { return dalle::fingerprint(*datasets_.validation); }

  /// For how many of the first samples the suites frechet and memorization generate an image: all
  /// if there is a limit, else at most 1,000.
  int64_t images_to_generate() const { return images_to_generate_; }

  /// Whether two samples have different captions, among as many as the suite ranking uses.
  bool captions_differ() const;

  /// Calls `use` with batches of valid samples, in order, and reports progress under the name
  /// `what`. A batch is no larger than those of the training, whose memory suffices. Calls
  /// `check_stop` before each batch.
  /// @param limit  how many samples to use
  /// @throws dalle::Error if no sample is valid, or too many of the data set are not
  void for_each_batch(const std::string& what, const CheckStop& check_stop,
                      const std::function<void(const Batch&)>& use,
                      int64_t limit = std::numeric_limits<int64_t>::max()) const;

  /// The same with training samples, without captions, that the seed of the config selects. Their
  /// positions are those of training_image() and training_key().
  void for_each_training_batch(const std::string& what, const CheckStop& check_stop,
                               const std::function<void(const Batch&)>& use, int64_t limit) const;

  RgbImage training_image(int64_t position) const;
  std::string training_key(int64_t position) const;

 private:
  EvaluationData(const EvaluatedModel& model, int64_t limit, DatasetPair datasets);
  void for_each_batch_of(const SampleSource& source, int64_t count, const std::string& what,
                         const CheckStop& check_stop,
                         const std::function<void(const Batch&)>& use) const;

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

/// A number as the results file has it: {"value": x}, or {"value": x, "low": l, "high": h} if the
/// interval is finite.
nlohmann::ordered_json number_of(double value);
nlohmann::ordered_json number_of(const Interval& interval);

/// What a suite found, and images that show it.
struct SuiteResult {
  nlohmann::ordered_json numbers;
  std::map<std::string, RgbImage> images;  ///< by the file names that `numbers` gives them
};

/// One of the images of a caption that a ranking selects from.
struct JudgedCandidate {
  double score = 0;    ///< higher is better
  bool exact = false;  ///< the image shows all that the caption states, and no more
};

/// The numbers `captions`, `clip_score`, `exact_of_...` and `possible_of_...` of the suite best_of.
/// @param images  64 of each caption, by number
nlohmann::ordered_json best_of_numbers(std::span<const std::vector<JudgedCandidate>> images);

// The suites. docs/evaluation.md defines their numbers. They throw what `check_stop` throws.

SuiteResult evaluate_reconstruction(EvaluatedModel& model, const EvaluationData& data,
                                    const CheckStop& check_stop);
nlohmann::ordered_json evaluate_codes(EvaluatedModel& model, const EvaluationData& data,
                                      const CheckStop& check_stop);

// These need model.dalle. Ranking also needs captions that differ, shapes and levels the data set
// shapes, and levels a training that held out combinations of attributes.
// Suites that generate images for captions of the validation data share `generator`.
nlohmann::ordered_json evaluate_likelihood(EvaluatedModel& model, const EvaluationData& data,
                                           const CheckStop& check_stop);
nlohmann::ordered_json evaluate_ranking(EvaluatedModel& model, const EvaluationData& data,
                                        const CheckStop& check_stop);
SuiteResult evaluate_shapes(EvaluatedModel& model, const EvaluationData& data,
                            ImageGenerator& generator, const CheckStop& check_stop);
/// @param contrastive  for load_trained_clip(); its hash is the entry `reranker`
nlohmann::ordered_json evaluate_best_of(EvaluatedModel& model, const EvaluationData& data,
                                        const std::filesystem::path& contrastive,
                                        const CheckStop& check_stop);
/// As many scenes of each level as `data` has samples, at most 1,000. Levels for which the config
/// allows no scenes are left out.
nlohmann::ordered_json evaluate_levels(EvaluatedModel& model, const EvaluationData& data,
                                       const CheckStop& check_stop);

/// How many validation samples the suites frechet and memorization need at least.
inline constexpr int64_t kMinComparedImages = 10;

/// Distances of generated images from validation images.
/// @param extractor  a further space to compare them in
/// @throws dalle::Error if fewer than kMinComparedImages validation images are valid
SuiteResult evaluate_frechet(EvaluatedModel& model, const EvaluationData& data,
                             ImageGenerator& generator,
                             const std::optional<FeatureSpace>& extractor,
                             const CheckStop& check_stop);
/// Whether generated images are nearer to training images than validation images are, and how much
/// images of one caption differ. Arguments and errors as for evaluate_frechet().
SuiteResult evaluate_memorization(EvaluatedModel& model, const EvaluationData& data,
                                  ImageGenerator& generator,
                                  const std::optional<FeatureSpace>& extractor,
                                  const CheckStop& check_stop);

}  // namespace dalle
