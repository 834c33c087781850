#include "serve/engine/generation_engine.h"

#include <algorithm>
#include <chrono>
#include <limits>
#include <span>
#include <utility>

#include <torch/types.h>

#include "core/log.h"
#include "core/seconds.h"
#include "core/stop_signal.h"
#include "experiment/config/model_files.h"
#include "experiment/trained/reranker.h"
#include "sample/caption_images.h"
#include "sample/generate_codes.h"
#include "serve/engine/generation_job.h"
#include "tensor/device_of.h"
#include "tensor/torch_error.h"

namespace dalle {
namespace {

std::unique_ptr<Reranker> engine_reranker(const TrainedDalle& dalle, const EngineOptions& options) {
  const c10::Device device = device_of(*dalle.model);
  if (options.rank_by || !options.reranker.empty())
    return make_reranker(dalle, options.rank_by.value_or(RankBy::kClip), options.reranker, device);
  if (std::filesystem::exists(clip_folder(dalle.checkpoint))) try {
      return make_clip_reranker(dalle, "", device);
    } catch (const Error& error) {  // its training may not have saved anything yet
      log_warning("cannot load the run's contrastive model for ranking: {}", error.what());
    }
  if (dalle.config.dalle.train.caption_dropout > 0) return make_likelihood_reranker(dalle);
  return nullptr;
}

std::string failure_text(const std::exception& error) {
  if (is_out_of_memory(error)) return "out of memory; lower --batch-size";
  return error_text(error);
}

}  // namespace

GenerationEngine::GenerationEngine(TrainedDalle dalle, const EngineOptions& options)
    : dalle_(std::move(dalle)),
      options_([&] {
        EngineOptions complete = options;
        if (complete.batch_size == 0)
          complete.batch_size = default_batch_size(dalle_.model->config(), dalle_.model->layout(),
                                                   dalle_.config.sample);
        if (!complete.batching)
          complete.batching = device_of(*dalle_.model).is_cpu() ? EngineBatching::kContinuous
                                                                : EngineBatching::kOneRequest;
        return complete;
      }()),
      reranker_(engine_reranker(dalle_, options)) {
  if (options_.batching == EngineBatching::kContinuous) {
    batch_.emplace(dalle_.model,
                   BatchOptions{.images = options_.batch_size, .decode = options_.decode});
    slots_.resize(static_cast<size_t>(options_.batch_size));
    finished_images_.reserve(slots_.size());
  }
  thread_ = std::thread([this] { run(); });
}

GenerationEngine::~GenerationEngine() {
  {
    const std::lock_guard lock(mutex_);
    is_stopping_ = true;
    for (const auto& [number, job] : open_) job->cancel();
  }
  wake_.notify_one();
  thread_.join();
}

uint64_t GenerationEngine::submit(GenerationRequest request, GenerationEvents events) {
  const auto job = std::make_shared<GenerationJob>(std::move(request), std::move(events), dalle_,
                                                   reranker_.get());
  const int64_t images = job->waiting();
  if (images > options_.queued_images)
    throw Error("this request needs {} images, but the queue holds at most {} (--queue)", images,
                options_.queued_images);
  const std::lock_guard lock(mutex_);
  const int64_t too_many = queued_ + images - options_.queued_images;
  if (too_many > 0)
    throw QueueFull(std::max(1.0, static_cast<double>(too_many) * seconds_per_image_));
  open_.emplace(last_number_ + 1, job);
  queued_ += images;
  wake_.notify_one();
  return ++last_number_;
}

void GenerationEngine::cancel(uint64_t number) {
  const std::lock_guard lock(mutex_);
  const auto entry = open_.find(number);
  if (entry == open_.end() || entry->second->is_closed()) return;
  entry->second->cancel();
  has_canceled_ = true;
}

EngineStatus GenerationEngine::status() const {
  return {.queued = queued_,
          .active = active_,
          .slots = options_.batch_size,
          .finished = finished_,
          .canceled = canceled_,
          .failed = failed_,
          .codes = codes_,
          .seconds_per_image = seconds_per_image_};
}

std::string GenerationEngine::reranker_name() const {
  return reranker_ ? reranker_->name() : "";
}

/// The engine's thread.
void GenerationEngine::run() {
  const torch::NoGradGuard no_grad;
  while (take_in()) {
    if (!batch_) {
      run_request();
      continue;
    }
    start_images();
    if (!batch_->is_empty()) run_pass();
  }
}

/// Takes in submitted and canceled requests; waits if there is nothing else to do.
/// @return  whether to continue
bool GenerationEngine::take_in() {
  bool has_canceled = false;
  {
    std::unique_lock lock(mutex_);
    wake_.wait(lock,
               [&] { return is_stopping_ || last_number_ > last_taken_in_ || !jobs_.empty(); });
    if (is_stopping_) return false;
    for (auto next = open_.upper_bound(last_taken_in_); next != open_.end(); ++next) {
      const auto& [number, job] = *jobs_.insert(*next).first;
      queue_.add(job->request().client, number, batch_ ? job->waiting() : 1);
    }
    last_taken_in_ = last_number_;
    has_canceled = std::exchange(has_canceled_, false);
  }
  if (!has_canceled) return true;
  const auto jobs = jobs_;
  for (const auto& [number, job] : jobs)
    if (job->is_closed()) close(number, canceled_);
  return true;
}

void GenerationEngine::start_images() {
  while (!batch_->is_full()) {
    const std::optional<uint64_t> number = queue_.take();
    if (!number) return;
    start_image(*number);
  }
}

void GenerationEngine::start_image(uint64_t number) {
  const JobPointer job = jobs_.at(number);
  const GenerationRequest& request = job->request();
  const CaptionImages image = job->begin(1);
  --queued_;
  try {
    const int64_t id = batch_->start(image, static_cast<uint64_t>(request.seed), request.sampling);
    ++active_;
    slots_[static_cast<size_t>(id)] = {.job = job,
                                       .number = number,
                                       .image = image.first_image,
                                       .free_codes = batch_->unknown_codes(id)};
  } catch (const std::exception& error) {
    queue_.release(request.client);
    fail(number, failure_text(error));
  }
}

/// Forgets an image that is no longer in the batch.
GenerationEngine::Slot GenerationEngine::release(int64_t id) {
  Slot slot = std::exchange(slots_[static_cast<size_t>(id)], {});
  queue_.release(slot.job->request().client);
  --active_;
  return slot;
}

void GenerationEngine::run_pass() {
  const auto start = std::chrono::steady_clock::now();
  int64_t codes = 0;
  try {
    codes = batch_->pass([&](int64_t id, const at::Tensor& found) {
      finished_images_.push_back({.slot = release(id), .codes = found});
    });
    codes_ += codes;
  } catch (const std::exception& error) {
    log_error("cannot generate {} images: {}", active_.load(), failure_text(error));
    std::vector<uint64_t> in_progress;
    for (const Slot& slot : slots_)
      if (slot.job) in_progress.push_back(slot.number);
    for (const uint64_t number : in_progress) fail(number, failure_text(error));
  }
  for (const auto& [slot, found] : finished_images_) finish_image(slot, found);
  finished_images_.clear();
  for (int64_t id = 0; id < static_cast<int64_t>(slots_.size()); ++id) send_previews(id);
  record_speed(codes, seconds_since(start));
}

/// Sends the previews of an image in progress that are due, if any.
void GenerationEngine::send_previews(int64_t id) {
  Slot& slot = slots_[static_cast<size_t>(id)];
  if (!slot.job || slot.job->is_closed()) return;
  const int64_t previews = slot.job->request().previews;
  if (slot.next_preview >= previews) return;
  const int64_t known = slot.free_codes - batch_->unknown_codes(id);
  const auto is_due = [&] {
    return slot.next_preview < previews &&
           known * (previews + 1) >= (slot.next_preview + 1) * slot.free_codes;
  };
  if (!is_due()) return;
  const JobPointer job = slot.job;
  try {
    const at::Tensor codes = preview_codes(batch_->codes(id), dalle_.model->layout());
    while (is_due()) job->preview(slot.image, slot.next_preview++, codes);
  } catch (const std::exception& error) {
    fail(slot.number, failure_text(error));
  }
}

/// Generates all images of the next request.
void GenerationEngine::run_request() {
  const std::optional<uint64_t> number = queue_.take();
  if (!number) return;
  const JobPointer job = jobs_.at(*number);
  const GenerationRequest& request = job->request();
  const CaptionImages images = job->begin(job->waiting());
  queued_ -= images.count;
  active_ = images.count;
  int64_t known = 0;
  auto last = std::chrono::steady_clock::now();
  try {
    generate_codes(
        dalle_.model, std::span(&images, 1), request.sampling,
        {.seed = static_cast<uint64_t>(request.seed),
         .batch_size = options_.batch_size,
         .decode = options_.decode},
        [&](size_t, int64_t image, const at::Tensor& codes) {
          finish_image({.job = job, .number = *number, .image = image}, codes);
        },
        [&](int64_t done, int64_t) {
          const int64_t added = done - std::exchange(known, done);
          codes_ += added;
          record_speed(added, seconds_since(last));
          last = std::chrono::steady_clock::now();
          if (job->is_closed()) throw StopRequested();
        });
  } catch (const StopRequested&) {  // canceled, or failed
  } catch (const std::exception& error) {
    fail(*number, failure_text(error));
  }
  active_ = 0;
  queue_.release(request.client);
}

/// @param codes  undefined: the logits were not finite
void GenerationEngine::finish_image(const Slot& slot, const at::Tensor& codes) {
  if (slot.job->is_closed()) return;
  try {
    if (!codes.defined()) throw Error("{}", kNonFiniteLogits);
    GeneratedImage image = slot.job->finish(slot.image, codes);
    ++finished_;
    slot.job->report(std::move(image));
    if (slot.job->unfinished() == 0) close(slot.number, failed_);
  } catch (const std::exception& error) {
    fail(slot.number, failure_text(error));
  }
}

void GenerationEngine::fail(uint64_t number, const std::string& message) {
  const auto entry = jobs_.find(number);
  if (entry == jobs_.end()) return;
  try {
    const JobPointer job = entry->second;
    job->fail(message);
  } catch (const std::exception& error) {
    log_error("cannot report a failed request: {}", error.what());
  }
  close(number, failed_);
}

/// Forgets a request.
/// @param counter  of its images that are not finished
void GenerationEngine::close(uint64_t number, std::atomic<int64_t>& counter) {
  const auto entry = jobs_.find(number);
  if (entry == jobs_.end()) return;
  const JobPointer job = entry->second;  // released last, without the lock
  jobs_.erase(entry);
  queue_.remove(job->request().client, number);
  for (int64_t id = 0; id < static_cast<int64_t>(slots_.size()); ++id)
    if (slots_[static_cast<size_t>(id)].job == job) {
      batch_->cancel(id);
      release(id);
    }
  queued_ -= job->waiting();
  counter += job->unfinished();
  const std::lock_guard lock(mutex_);
  open_.erase(number);
}

/// Updates the time that an image takes, over the last few hundred passes.
void GenerationEngine::record_speed(int64_t codes, double seconds) {
  constexpr double kKept = 1 - 1.0 / 256;
  recent_seconds_ = kKept * recent_seconds_ + seconds;
  recent_codes_ = kKept * recent_codes_ + static_cast<double>(codes);
  if (recent_codes_ > 0)
    seconds_per_image_ = static_cast<double>(dalle_.model->layout().image_length()) *
                         recent_seconds_ / recent_codes_;
}

}  // namespace dalle
