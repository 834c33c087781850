#include "dist/heartbeat.h"

#include <algorithm>
#include <exception>
#include <utility>

#include <torch/csrc/distributed/c10d/Store.hpp>

#include "core/error.h"
#include "core/log.h"
#include "core/seconds.h"

namespace dalle {
namespace {

using namespace std::chrono_literals;

constexpr const char* kLostKey = "heartbeat/lost";
constexpr const char* kStopKey = "heartbeat/stop";
constexpr std::string_view kFailed = " failed: ";  // in the report of a rank that says why it exits
constexpr auto kDepartures = 10s;                  // for the other ranks to leave, too
constexpr auto kLongestSave = 20s;  // after a loss: launchers kill ranks that take much longer

/// What other ranks say of a failed rank's report: "rank 2: ..." of "rank 2 failed: ...".
std::string as_others_say(std::string report) {
  if (const size_t failed = report.find(kFailed); failed != report.npos)
    report.replace(failed, kFailed.size(), ": ");
  return report;
}

}  // namespace

std::string Heartbeat::status_key(int64_t rank) {
  return fmt::format("heartbeat/{}", rank);
}

/// Exclusive use of the store, watched by guard().
class Heartbeat::StoreUse {
 public:
  explicit StoreUse(Heartbeat& heartbeat) : heartbeat_(heartbeat), lock_(heartbeat.store_mutex_) {
    note_begin(heartbeat_.clock_.now());
  }
  ~StoreUse() { note_begin(Clock::time_point::max()); }
  StoreUse(const StoreUse&) = delete;
  StoreUse& operator=(const StoreUse&) = delete;

 private:
  void note_begin(Clock::time_point begin) {
    const std::lock_guard lock(heartbeat_.mutex_);
    heartbeat_.store_use_began_ = begin;
  }

  Heartbeat& heartbeat_;
  const std::lock_guard<std::mutex> lock_;
};

Heartbeat::Heartbeat(c10::intrusive_ptr<c10d::Store> store, int64_t rank, int64_t world_size,
                     std::chrono::milliseconds timeout, OnLost on_lost)
    : store_(std::move(store)),
      rank_(rank),
      world_size_(world_size),
      timeout_(timeout),
      period_(std::clamp<Clock::duration>(timeout / 5, 50ms, 1s)),
      grace_(3 * period_ + 1s),
      save_grace_(std::min<Clock::duration>(timeout, kLongestSave)),
      clock_(timeout_ / 2),
      on_lost_(std::move(on_lost)),
      progressed_(clock_.now()) {
  store_->setTimeout(timeout);
  beat();
  thread_ = std::thread([this] { run(); });
  guard_ = std::thread([this] { guard(); });
}

Heartbeat::~Heartbeat() {
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  changed_.notify_all();
  thread_.join();
  try {
    bool is_one_lost = false;
    {
      const StoreUse use(*this);
      is_one_lost = !read(kLostKey).empty();
      store_->set(status_key(rank_), std::string(kLeft));
    }
    const bool failing = std::uncaught_exceptions() > 0;
    await_departures(is_one_lost ? grace_ + save_grace_ : failing ? 0s : kDepartures);
  } catch (const std::exception&) {  // the store is gone, and so are its readers
  }
  {
    const std::lock_guard lock(mutex_);
    store_is_done_with_ = true;
  }
  changed_.notify_all();
  guard_.join();  // last: until here the store may hang
}

void Heartbeat::set_phase(Phase phase, int64_t step) {
  const std::lock_guard lock(mutex_);
  phase_ = phase;
  step_ = step;
  note_progress();
}

void Heartbeat::wait_begins(const char* collective) {
  const std::lock_guard lock(mutex_);
  collective_ = collective;
  note_progress();
}

void Heartbeat::wait_ends() {
  const std::lock_guard lock(mutex_);
  collective_ = nullptr;
  note_progress();
}

/// The caller holds the mutex.
void Heartbeat::note_progress() {
  progressed_ = clock_.now();
  noted_timeouts_ = 0;
}

void Heartbeat::watch_for_stop(std::function<bool()> is_asked) {
  const std::lock_guard lock(mutex_);
  is_asked_to_stop_ = std::move(is_asked);
}

void Heartbeat::relay_stop() {
  bool asked = false;
  {
    const std::lock_guard lock(mutex_);
    asked = is_asked_to_stop_ && is_asked_to_stop_();
  }
  if (asked) store_->set(kStopKey, std::string("asked"));
  stop_requested_ = asked || !read(kStopKey).empty();
}

RankStatus Heartbeat::own_status() const {
  const std::lock_guard lock(mutex_);
  return {.activity = collective_ != nullptr ? Activity::kWaiting
                      : is_limited(phase_)   ? Activity::kStepping
                                             : Activity::kWorking,
          .age = clock_.now() - progressed_,
          .place = fmt::format("step {}, {}{}", step_, to_string(phase_),
                               collective_ == nullptr ? "" : fmt::format(" ({})", collective_))};
}

bool Heartbeat::is_preparing() const {
  const std::lock_guard lock(mutex_);
  return phase_ == Phase::kPreparing;
}

/// The report for a store that fails: the loss that was published before, if any; else that the
/// store is gone, with the last known place of rank 0 and that of this rank.
std::string Heartbeat::store_is_gone() const {
  std::string rank_zero_status;
  {
    const std::lock_guard lock(mutex_);
    if (!published_report_.empty()) return published_report_;
    rank_zero_status = rank_zero_status_;
  }
  return fmt::format(
      "rank 0, or the launcher that hosts the store, has exited or does not respond; rank 0 was "
      "last at {}, this rank at {}",
      parse_status(rank_zero_status).place, own_status().place);
}

/// The value of a key; empty if the key is not set.
std::string Heartbeat::read(const std::string& key) {
  return store_->check({key}) ? store_->get_to_str(key) : "";
}

void Heartbeat::run() {
  std::unique_lock lock(mutex_);
  while (!changed_.wait_for(lock, period_, [this] { return stopping_; })) {
    lock.unlock();
    if (!beat()) return;
    lock.lock();
  }
}

/// The store itself never times out if its server is stopped rather than dead.
void Heartbeat::guard() {
  std::unique_lock lock(mutex_);
  while (!changed_.wait_for(lock, period_, [this] { return store_is_done_with_; })) {
    log_notice(lock);
    const auto now = clock_.now();
    if (store_use_began_ == Clock::time_point::max() || now - store_use_began_ < timeout_) continue;
    lock.unlock();
    const std::string report = store_is_gone();
    lock.lock();
    return report_lost(report);
  }
}

void Heartbeat::log_notice(std::unique_lock<std::mutex>& lock) {
  if (notice_.empty()) return;
  const std::string notice = std::exchange(notice_, "");
  lock.unlock();
  log_warning("{}", notice);
  lock.lock();
}

/// The caller holds the mutex.
void Heartbeat::report_lost(const std::string& report) {
  if (!std::exchange(reported_, true))
    on_lost_({.text = fmt::format("rank {} of {}: {}", rank_, world_size_, report),
              .is_repeated = rank_ != 0 && (report.find(kFailed) != std::string::npos ||
                                            report.starts_with(kStalled))});
}

/// Publishes this rank's status and checks the others; false once a rank was found lost.
bool Heartbeat::beat() {
  std::string report;
  try {
    const StoreUse use(*this);
    store_->set(status_key(rank_), format_status(++beats_, own_status()));
    relay_stop();
    report = read(kLostKey);
    if (report.empty()) report = diagnose();
    if (!report.empty()) {
      report = publish(report);
      if (defers_exit()) return true;
      // When this rank exits, the others' collectives fail; they must not blame it.
      store_->set(status_key(rank_), std::string(kLeft));
    }
  } catch (const std::exception&) {
    report = store_is_gone();
  }
  if (report.empty()) return true;
  await_departures(grace_ + save_grace_);
  const std::lock_guard lock(mutex_);
  if (!stopping_)
    report_lost(report);  // else the process is already exiting, for a reason it knows
  return false;
}

/// Whether the exit for a loss, which is now known, is left to another thread: the one that has
/// failed because of it, or, for a limited time, the one that writes a checkpoint.
bool Heartbeat::defers_exit() {
  const std::lock_guard lock(mutex_);
  const auto now = clock_.now();
  loss_known_since_ = std::min(loss_known_since_, now);
  return (failing_ || saving_) && now - loss_known_since_ < save_grace_ + period_;
}

void Heartbeat::set_saving(bool saving) {
  const std::lock_guard lock(mutex_);
  saving_ = saving;
}

/// Publishes a report for all ranks unless there is one already. Returns the one that all ranks
/// make.
std::string Heartbeat::publish(const std::string& report) {
  std::string published = store_->compareSet(kLostKey, "", report);
  const std::lock_guard lock(mutex_);
  published_report_ = published;
  return published;
}

/// The store dies with rank 0's process, so rank 0 stays until the others have left.
void Heartbeat::await_departures(Clock::duration limit) {
  if (rank_ != 0) return;
  const auto deadline = clock_.now() + limit;
  try {
    for (int64_t other = 1; other < world_size_; ++other)
      while (clock_.now() < deadline && !has_left(other)) std::this_thread::sleep_for(5ms);
  } catch (const std::exception&) {  // the launcher hosted the store, and is gone
  }
}

bool Heartbeat::has_left(int64_t rank) {
  const StoreUse use(*this);
  const Seen& seen = poll(rank);
  return seen.status == kLeft || clock_.now() - seen.since >= grace_;
}

std::string Heartbeat::find_lost_rank() {
  {
    const std::lock_guard lock(mutex_);
    failing_ = true;
  }
  const auto deadline = clock_.now() + grace_ + 1s;
  while (clock_.now() < deadline) {
    try {
      const StoreUse use(*this);
      // A published loss comes first: a rank that exited because of it fails this collective, too.
      std::string report = read(kLostKey);
      if (report.empty()) report = find_silent(grace_);
      if (!report.empty()) return publish(report);
    } catch (const std::exception&) {
      return store_is_gone();
    }
    std::this_thread::sleep_for(period_ / 2);
  }
  return "";
}

bool Heartbeat::announce_failure(const std::string& message) {
  {
    const std::lock_guard lock(mutex_);
    failing_ = true;
  }
  try {
    const auto deadline = clock_.now() + period_;
    while (rank_ != 0 && !is_loss_known() && clock_.now() < deadline)
      std::this_thread::sleep_for(period_ / 20);
    const StoreUse use(*this);
    const std::string own = fmt::format("rank {}{}{}", rank_, kFailed, message);
    const std::string published = publish(own);
    const bool is_other_failure = published != own && published.find(kFailed) != std::string::npos;
    // A rank that fails because of another one says "rank 2: ..." and must not silence rank 2.
    const bool tells_of_this_rank = published.ends_with(fmt::format("rank {}: {}", rank_, message));
    const bool is_same_reason = published.ends_with(message) || message.ends_with(published) ||
                                as_others_say(published) == message;
    return rank_ == 0 || !is_other_failure || !is_same_reason || tells_of_this_rank;
  } catch (const std::exception&) {  // the others will find this rank silent
    return true;
  }
}

bool Heartbeat::is_loss_known() {
  const StoreUse use(*this);
  return !read(kLostKey).empty();
}

}  // namespace dalle
