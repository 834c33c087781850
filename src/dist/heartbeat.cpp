#include "dalle/dist/heartbeat.h"

#include <algorithm>
#include <utility>

#include <torch/csrc/distributed/c10d/Store.hpp>

#include "dalle/core/error.h"
#include "dalle/core/seconds.h"

namespace dalle {
namespace {

using namespace std::chrono_literals;

constexpr const char* kLostKey = "heartbeat/lost";
constexpr const char* kStopKey = "heartbeat/stop";
constexpr const char* kGoodbye = "goodbye";

std::string key_of(int64_t rank) {
  return fmt::format("heartbeat/{}", rank);
}

/// Where a rank says that it is, in the words that it last wrote.
std::string place_in(const std::string& words) {
  return words.empty() ? "its start" : words.substr(words.find(';') + 1);
}

std::string_view name_of(Phase phase) {
  switch (phase) {
    case Phase::kPreparing:
      return "preparing";
    case Phase::kLoading:
      return "loading data";
    case Phase::kComputing:
      return "computing";
    case Phase::kEvaluating:
      return "evaluating";
    case Phase::kDrawing:
      return "drawing pictures";
    case Phase::kSaving:
      return "saving";
  }
  DALLE_CHECK(false);
}

bool is_limited(Phase phase) {
  return phase == Phase::kLoading || phase == Phase::kComputing;
}

}  // namespace

Heartbeat::Heartbeat(c10::intrusive_ptr<c10d::Store> store, int64_t rank, int64_t world,
                     std::chrono::milliseconds timeout, OnLost on_lost)
    : store_(std::move(store)),
      rank_(rank),
      world_(world),
      timeout_(timeout),
      period_(std::clamp<Clock::duration>(timeout / 5, 50ms, 1s)),
      on_lost_(std::move(on_lost)),
      phase_began_(Clock::now()) {
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
  guard_.join();
  try {
    store_->set(key_of(rank_), std::string(kGoodbye));
  } catch (const std::exception&) {  // the store is gone: so are its readers
  }
}

void Heartbeat::enter(Phase phase, int64_t step) {
  const std::lock_guard lock(mutex_);
  phase_ = phase;
  step_ = step;
  phase_began_ = Clock::now();
}

void Heartbeat::wait_begins(const char* collective) {
  const std::lock_guard lock(mutex_);
  collective_ = collective;
}

void Heartbeat::wait_ends() {
  const std::lock_guard lock(mutex_);
  collective_ = nullptr;
  phase_began_ = Clock::now();
}

void Heartbeat::watch_for_stop(std::function<bool()> is_asked) {
  const std::lock_guard lock(mutex_);
  is_asked_to_stop_ = std::move(is_asked);
}

void Heartbeat::pass_on_stop() {
  bool asked = false;
  {
    const std::lock_guard lock(mutex_);
    asked = is_asked_to_stop_ && is_asked_to_stop_();
  }
  if (asked) store_->set(kStopKey, std::string("asked"));
  stop_is_wanted_ = asked || !read(kStopKey).empty();
}

/// What this rank writes: a number that changes, and where it is.
std::string Heartbeat::words() const {
  const std::lock_guard lock(mutex_);
  return fmt::format("{};step {}, {}{}", beats_, step_, name_of(phase_),
                     collective_ == nullptr ? "" : fmt::format(" ({})", collective_));
}

/// For want of the store: the first rank's place as it was last known, and this rank's.
std::string Heartbeat::store_is_gone() const {
  std::string first;
  {
    const std::lock_guard lock(mutex_);
    first = first_words_;
  }
  return fmt::format(
      "rank 0, or the launcher that keeps the ranks' store, is gone or does not answer; rank 0 was "
      "last at {}, this one at {}",
      place_in(first), place_in(words()));
}

/// The value of a key; empty if there is none.
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

/// The store has no timeouts of its own where its server is stopped and not dead.
void Heartbeat::guard() {
  std::unique_lock lock(mutex_);
  while (!changed_.wait_for(lock, period_, [this] { return stopping_; })) {
    if (beat_began_ == Clock::time_point::max() || Clock::now() - beat_began_ < timeout_) continue;
    lock.unlock();
    return report_lost(store_is_gone());
  }
}

void Heartbeat::report_lost(const std::string& report) {
  const std::lock_guard lock(mutex_);
  if (!std::exchange(reported_, true) && !stopping_)
    on_lost_(fmt::format("rank {} of {}: {}", rank_, world_, report));
}

/// One round of telling and asking; false once a rank was found lost.
bool Heartbeat::beat() {
  {
    const std::lock_guard lock(mutex_);
    ++beats_;
    beat_began_ = Clock::now();
  }
  std::string report;
  try {
    const std::lock_guard lock(store_mutex_);
    store_->set(key_of(rank_), words());
    pass_on_stop();
    report = lost_rank();
    if (!report.empty()) store_->set(kLostKey, report);
  } catch (const std::exception&) {
    report = store_is_gone();
  }
  if (!report.empty()) report_lost(report);
  const std::lock_guard lock(mutex_);
  beat_began_ = Clock::time_point::max();
  return report.empty();
}

std::string Heartbeat::lost_rank() {
  if (const std::string known = read(kLostKey); !known.empty()) return known;
  {
    const std::lock_guard lock(mutex_);
    const auto age = Clock::now() - phase_began_;
    if (collective_ == nullptr && is_limited(phase_) && age > timeout_)
      return fmt::format("rank {} has been {} for {:.0f} s, at step {}", rank_, name_of(phase_),
                         in_seconds(age), step_);
  }
  for (const int64_t other : {int64_t{0}, (rank_ + 1) % world_}) {
    if (other == rank_) continue;
    if (std::string report = report_if_silent(other, timeout_); !report.empty()) return report;
  }
  return "";
}

std::string Heartbeat::report_if_silent(int64_t rank, Clock::duration limit) {
  const std::string words = read(key_of(rank));
  const auto now = Clock::now();
  Seen& seen = seen_.try_emplace(rank, Seen{words, now}).first->second;
  if (words != seen.words) seen = {words, now};
  if (rank == 0) {
    const std::lock_guard lock(mutex_);
    first_words_ = words;
  }
  if (now - seen.since < limit || words == kGoodbye) return "";
  return fmt::format("rank {} has given no sign of life for {:.0f} s; it was at {}", rank,
                     in_seconds(now - seen.since), place_in(words));
}

std::string Heartbeat::find_lost() {
  const auto limit = 3 * period_ + 1s;
  const auto give_up = Clock::now() + limit + 1s;
  while (Clock::now() < give_up) {
    try {
      const std::lock_guard lock(store_mutex_);
      if (const std::string known = read(kLostKey); !known.empty()) return known;
      for (int64_t other = 0; other < world_; ++other) {
        if (other == rank_) continue;
        if (std::string report = report_if_silent(other, limit); !report.empty()) return report;
      }
    } catch (const std::exception&) {
      return store_is_gone();
    }
    std::this_thread::sleep_for(period_ / 2);
  }
  return "";
}

void Heartbeat::announce_failure(const std::string& message) {
  try {
    const std::lock_guard lock(store_mutex_);
    if (read(kLostKey).empty())
      store_->set(kLostKey, fmt::format("rank {} failed: {}", rank_, message));
  } catch (const std::exception&) {  // the others will find this rank silent
  }
}

}  // namespace dalle
