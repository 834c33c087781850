#include "dalle/dist/heartbeat.h"

#include <algorithm>
#include <charconv>
#include <exception>
#include <utility>

#include <fmt/ranges.h>
#include <torch/csrc/distributed/c10d/Store.hpp>

#include "dalle/core/error.h"
#include "dalle/core/log.h"
#include "dalle/core/seconds.h"
#include "dalle/dist/rank_info.h"

namespace dalle {
namespace {

using namespace std::chrono_literals;

constexpr const char* kLostKey = "heartbeat/lost";
constexpr const char* kStopKey = "heartbeat/stop";
constexpr const char* kGoodbye = "goodbye";
constexpr std::string_view kFailed = " failed: ";  // in the reports of ranks that say why they end
constexpr std::string_view kStalled = "no rank has made progress";
constexpr auto kGoodbyes = 10s;     // for the others to come to their end, too
constexpr auto kLongestSave = 20s;  // after a loss: launchers end ranks that stay much longer

std::string key_of(int64_t rank) {
  return fmt::format("heartbeat/{}", rank);
}

/// How a rank is occupied, in the words that it writes: it waits in a collective, or makes a step,
/// which must not last, or does what takes its time.
constexpr char kWaiting = 'w', kStepping = 's', kWorking = 'o';

/// Where a rank says that it is, in the words that it last wrote.
std::string place_in(const std::string& words) {
  return words.empty() ? "its start" : words.substr(words.rfind(';') + 1);
}

/// "rank 0 at step 41, computing (sum); ranks 1-3 at step 42, ..."
std::string name_places(const std::map<std::string, std::vector<int64_t>>& ranks_by_place) {
  std::vector<std::string> parts;
  for (const auto& [place, ranks] : ranks_by_place)
    parts.push_back(fmt::format("{} at {}", name_ranks(ranks), place));
  return fmt::format("{}", fmt::join(parts, "; "));
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

/// Has the store for itself, watched by guard().
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

Heartbeat::Heartbeat(c10::intrusive_ptr<c10d::Store> store, int64_t rank, int64_t world,
                     std::chrono::milliseconds timeout, OnLost on_lost)
    : store_(std::move(store)),
      rank_(rank),
      world_(world),
      timeout_(timeout),
      period_(std::clamp<Clock::duration>(timeout / 5, 50ms, 1s)),
      grace_(3 * period_ + 1s),
      patience_(std::min<Clock::duration>(timeout, kLongestSave)),
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
    bool one_is_lost = false;
    {
      const StoreUse use(*this);
      one_is_lost = !read(kLostKey).empty();
      store_->set(key_of(rank_), std::string(kGoodbye));
    }
    const bool failing = std::uncaught_exceptions() > 0;
    await_goodbyes(one_is_lost ? grace_ + patience_ : failing ? 0s : kGoodbyes);
  } catch (const std::exception&) {  // the store is gone: so are its readers
  }
  {
    const std::lock_guard lock(mutex_);
    store_is_done_with_ = true;
  }
  changed_.notify_all();
  guard_.join();  // last: until here the store may be one that does not answer
}

void Heartbeat::enter(Phase phase, int64_t step) {
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

void Heartbeat::pass_on_stop() {
  bool asked = false;
  {
    const std::lock_guard lock(mutex_);
    asked = is_asked_to_stop_ && is_asked_to_stop_();
  }
  if (asked) store_->set(kStopKey, std::string("asked"));
  stop_is_wanted_ = asked || !read(kStopKey).empty();
}

Heartbeat::Sign Heartbeat::own_sign() const {
  const std::lock_guard lock(mutex_);
  return {.occupation = collective_ != nullptr ? kWaiting
                        : is_limited(phase_)   ? kStepping
                                               : kWorking,
          .age = clock_.now() - progressed_,
          .place = fmt::format("step {}, {}{}", step_, name_of(phase_),
                               collective_ == nullptr ? "" : fmt::format(" ({})", collective_))};
}

bool Heartbeat::is_preparing() const {
  const std::lock_guard lock(mutex_);
  return phase_ == Phase::kPreparing;
}

/// What this rank writes: a number that changes, and its sign: how it is occupied, since how many
/// milliseconds, and where.
std::string Heartbeat::words() const {
  const Sign own = own_sign();
  const std::lock_guard lock(mutex_);
  return fmt::format("{};{};{};{}", beats_, own.occupation,
                     std::chrono::duration_cast<std::chrono::milliseconds>(own.age).count(),
                     own.place);
}

/// The sign that a rank has written; without an occupation if there is none.
Heartbeat::Sign Heartbeat::sign_in(const std::string& words) {
  const size_t begin = words.find(';');
  if (begin == std::string::npos || begin + 3 > words.size()) return {.place = place_in(words)};
  int64_t milliseconds = 0;
  std::from_chars(words.data() + begin + 3, words.data() + words.size(), milliseconds);
  return {.occupation = words[begin + 1],
          .age = std::chrono::milliseconds(milliseconds),
          .place = place_in(words)};
}

/// For want of the store: what it said of a lost rank before it went; otherwise the first rank's
/// place as it was last known, and this rank's.
std::string Heartbeat::store_is_gone() const {
  std::string first;
  {
    const std::lock_guard lock(mutex_);
    if (!told_.empty()) return told_;
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
    on_lost_({.text = fmt::format("rank {} of {}: {}", rank_, world_, report),
              .is_repeated = rank_ != 0 && (report.find(kFailed) != std::string::npos ||
                                            report.starts_with(kStalled))});
}

/// One round of telling and asking; false once a rank was found lost.
bool Heartbeat::beat() {
  {
    const std::lock_guard lock(mutex_);
    ++beats_;
  }
  std::string report;
  try {
    const StoreUse use(*this);
    store_->set(key_of(rank_), words());
    pass_on_stop();
    report = lost_rank();
    if (!report.empty()) {
      report = tell(report);
      if (ends_by_itself()) return true;
      // The others' collectives fail when this rank ends: it is not the one that they look for.
      store_->set(key_of(rank_), std::string(kGoodbye));
    }
  } catch (const std::exception&) {
    report = store_is_gone();
  }
  if (report.empty()) return true;
  await_goodbyes(grace_ + patience_);
  const std::lock_guard lock(mutex_);
  if (!stopping_) report_lost(report);  // else the caller knows why it ends
  return false;
}

/// Whether a loss, now known, is left to the thread that ends this process because of it, or for
/// now to the one that writes a checkpoint.
bool Heartbeat::ends_by_itself() {
  const std::lock_guard lock(mutex_);
  const auto now = clock_.now();
  known_since_ = std::min(known_since_, now);
  return (failing_ || saving_) && now - known_since_ < patience_ + period_;
}

void Heartbeat::set_saving(bool saving) {
  const std::lock_guard lock(mutex_);
  saving_ = saving;
}

/// Leaves a report for all ranks, unless another was first. Returns the one that all ranks make.
std::string Heartbeat::tell(const std::string& report) {
  std::string first = store_->compareSet(kLostKey, "", report);
  const std::lock_guard lock(mutex_);
  told_ = first;
  return first;
}

/// The store ends with the first rank's process, so that rank stays until the others have left.
void Heartbeat::await_goodbyes(Clock::duration patience) {
  if (rank_ != 0) return;
  const auto give_up = clock_.now() + patience;
  try {
    for (int64_t other = 1; other < world_; ++other)
      while (clock_.now() < give_up && !has_left(other)) std::this_thread::sleep_for(5ms);
  } catch (const std::exception&) {  // the launcher kept the store, and it is gone
  }
}

bool Heartbeat::has_left(int64_t rank) {
  const StoreUse use(*this);
  const Seen& seen = look_at(rank);
  return seen.words == kGoodbye || clock_.now() - seen.since >= grace_;
}

std::string Heartbeat::lost_rank() {
  if (std::string known = read(kLostKey); !known.empty()) return known;
  for (const int64_t other : {int64_t{0}, (rank_ + 1) % world_}) {
    if (other == rank_) continue;
    if (std::string report = report_if_silent(other, timeout_); !report.empty()) return report;
  }
  const Sign own = own_sign();
  if (own.age <= timeout_) return "";
  if (rank_ == 0 && world_ > 1)
    if (std::string report = look_for_stall(own); !report.empty()) return report;
  if (own.occupation != kStepping) return "";
  // A rank may look stuck since it waits, inside a kernel, for one that is frozen. Before it blames
  // itself it watches all of them, for as long as it takes to see who is silent.
  if (std::string report = find_silent(grace_); !report.empty()) return report;
  if (own.age <= timeout_ + grace_ + 3 * period_) return "";
  return fmt::format("rank {} has been at {} for {:.0f} s", rank_, own.place, in_seconds(own.age));
}

/// For rank 0, which has made no progress for the timeout. If all others are occupied as it is, and
/// have been for as long, no rank is to blame: returns the report of that. Otherwise notes whom the
/// others wait for, or rank 0 itself.
std::string Heartbeat::look_for_stall(const Sign& own) {
  if (own.occupation == kWorking) {
    note_wait(own,
              fmt::format("rank 0 has been at {} for {:.0f} s; the other ranks are waiting for it",
                          own.place, in_seconds(own.age)));
    return "";
  }
  std::map<std::string, std::vector<int64_t>> stalled, working;
  for (int64_t rank = 0; rank < world_; ++rank) {
    const Sign sign = rank == rank_ ? own : sign_in(look_at(rank).words);
    if (sign.place == kGoodbye)
      stalled["exit"].push_back(rank);
    else if (sign.occupation == own.occupation && sign.age > timeout_)
      stalled[sign.place].push_back(rank);
    else if (sign.occupation == kWorking)
      working[sign.place].push_back(rank);
    else
      return "";
  }
  if (!working.empty()) {
    note_wait(own, fmt::format("rank 0 has been at {} for {:.0f} s; it is waiting for {}",
                               own.place, in_seconds(own.age), name_places(working)));
    return "";
  }
  std::string report =
      fmt::format("{} for {:.0f} s: {}", kStalled, in_seconds(own.age), name_places(stalled));
  if (own.occupation == kWaiting) report += "; the network between them has stalled";
  if (own.occupation == kWaiting && stalled.size() > 1) report += ", or they are out of sync";
  if (!is_preparing()) return report;  // else whole models are broadcast, which takes its time
  note_wait(own, report);
  return "";
}

/// Leaves a warning to guard(), once in each timeout of one wait.
void Heartbeat::note_wait(const Sign& own, const std::string& notice) {
  const std::lock_guard lock(mutex_);
  const int64_t timeouts = own.age / timeout_;
  if (timeouts > noted_timeouts_) notice_ = notice;
  noted_timeouts_ = timeouts;
}

/// Of the other ranks, the first that has been silent for so long.
std::string Heartbeat::find_silent(Clock::duration limit) {
  std::string report;
  for (int64_t other = 0; other < world_ && report.empty(); ++other)
    if (other != rank_) report = report_if_silent(other, limit);
  return report;
}

std::string Heartbeat::report_if_silent(int64_t rank, Clock::duration limit) {
  const Seen& seen = look_at(rank);
  const auto silence = clock_.now() - seen.since;
  if (silence < limit || seen.words == kGoodbye) return "";
  return fmt::format("rank {} has sent no heartbeat for {:.0f} s; it was at {}", rank,
                     in_seconds(silence), place_in(seen.words));
}

/// A rank's words, and since when they are the same.
const Heartbeat::Seen& Heartbeat::look_at(int64_t rank) {
  const std::string words = read(key_of(rank));
  const auto now = clock_.now();
  Seen& seen = seen_.try_emplace(rank, Seen{words, now}).first->second;
  if (words != seen.words) seen = {words, now};
  if (rank == 0 && words != kGoodbye) {
    const std::lock_guard lock(mutex_);
    first_words_ = words;
  }
  return seen;
}

std::string Heartbeat::find_lost() {
  {
    const std::lock_guard lock(mutex_);
    failing_ = true;
  }
  const auto give_up = clock_.now() + grace_ + 1s;
  while (clock_.now() < give_up) {
    try {
      const StoreUse use(*this);
      // First what is known: a rank that ended because of that has failed this collective, too.
      std::string report = read(kLostKey);
      if (report.empty()) report = find_silent(grace_);
      if (!report.empty()) return tell(report);
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
    const auto give_up = clock_.now() + period_;
    while (rank_ != 0 && !a_loss_is_known() && clock_.now() < give_up)
      std::this_thread::sleep_for(period_ / 20);
    const StoreUse use(*this);
    const std::string own = fmt::format("rank {}{}{}", rank_, kFailed, message);
    const std::string told = tell(own);
    const bool is_of_another = told != own && told.find(kFailed) != std::string::npos;
    const bool says_the_same = told.ends_with(message) || message.ends_with(told);
    return rank_ == 0 || !is_of_another || !says_the_same;
  } catch (const std::exception&) {  // the others will find this rank silent
    return true;
  }
}

bool Heartbeat::a_loss_is_known() {
  const StoreUse use(*this);
  return !read(kLostKey).empty();
}

}  // namespace dalle
