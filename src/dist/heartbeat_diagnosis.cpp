// How a Heartbeat decides from the statuses in the store which rank is lost, if any.

#include <torch/csrc/distributed/c10d/Store.hpp>

#include "core/error.h"
#include "core/seconds.h"
#include "dist/heartbeat.h"

namespace dalle {

/// The report of a loss that this rank sees; empty if there is none.
std::string Heartbeat::diagnose() {
  for (const int64_t other : {int64_t{0}, (rank_ + 1) % world_size_}) {
    if (other == rank_) continue;
    if (std::string report = report_if_silent(other, timeout_); !report.empty()) return report;
  }
  const RankStatus own = own_status();
  if (own.age <= timeout_) return "";
  if (rank_ == 0 && world_size_ > 1)
    if (std::string report = diagnose_stall(own); !report.empty()) return report;
  if (own.activity != Activity::kStepping) return "";
  // A rank may look stuck because it waits, inside a kernel, for one that is frozen. Before it
  // blames itself, it watches all of them for long enough to see which one is silent.
  if (std::string report = find_silent(grace_); !report.empty()) return report;
  if (own.age <= timeout_ + grace_ + 3 * period_) return "";
  return fmt::format("rank {} has been at {} for {:.0f} s", rank_, own.place, in_seconds(own.age));
}

/// Called on rank 0 when it has made no progress for the timeout. If all other ranks do the same
/// thing, and have done so for as long, no rank is to blame: returns that report. Otherwise notes
/// which ranks, or rank 0 itself, keep the others waiting.
std::string Heartbeat::diagnose_stall(const RankStatus& own) {
  if (own.activity == Activity::kWorking) {
    note_wait(own,
              fmt::format("rank 0 has been at {} for {:.0f} s; the other ranks are waiting for it",
                          own.place, in_seconds(own.age)));
    return "";
  }
  std::map<std::string, std::vector<int64_t>> stalled, working;
  for (int64_t rank = 0; rank < world_size_; ++rank) {
    const RankStatus status = rank == rank_ ? own : parse_status(poll(rank).status);
    if (status.place == kLeft)
      stalled["exit"].push_back(rank);
    else if (status.activity == own.activity && status.age > timeout_)
      stalled[status.place].push_back(rank);
    else if (status.activity == Activity::kWorking)
      working[status.place].push_back(rank);
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
  if (own.activity == Activity::kWaiting) {
    report += "; the network between them has stalled";
    if (stalled.size() > 1) report += ", or they are out of sync";
  }
  if (!is_preparing()) return report;
  note_wait(own, report);  // not a loss: models are broadcast then, which takes time
  return "";
}

/// Leaves a warning for guard() to log, once per timeout of one wait.
void Heartbeat::note_wait(const RankStatus& own, const std::string& notice) {
  const std::lock_guard lock(mutex_);
  const int64_t timeouts = own.age / timeout_;
  if (timeouts > noted_timeouts_) notice_ = notice;
  noted_timeouts_ = timeouts;
}

/// The report of the first other rank that has been silent for `limit`.
std::string Heartbeat::find_silent(Clock::duration limit) {
  std::string report;
  for (int64_t other = 0; other < world_size_ && report.empty(); ++other)
    if (other != rank_) report = report_if_silent(other, limit);
  return report;
}

std::string Heartbeat::report_if_silent(int64_t rank, Clock::duration limit) {
  const Seen& seen = poll(rank);
  const auto silence = clock_.now() - seen.since;
  if (silence < limit || seen.status == kLeft) return "";
  return fmt::format("rank {} has sent no heartbeat for {:.0f} s; it was at {}", rank,
                     in_seconds(silence), parse_status(seen.status).place);
}

const Heartbeat::Seen& Heartbeat::poll(int64_t rank) {
  const std::string status = read(status_key(rank));
  const auto now = clock_.now();
  Seen& seen = seen_.try_emplace(rank, Seen{status, now}).first->second;
  if (status != seen.status) seen = {status, now};
  if (rank == 0 && status != kLeft) {
    const std::lock_guard lock(mutex_);
    rank_zero_status_ = status;
  }
  return seen;
}

}  // namespace dalle
