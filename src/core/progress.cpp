#include "core/progress.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include <fmt/format.h>

#include "core/log.h"
#include "core/status_line.h"

namespace dalle {
namespace {

/// Two significant units at most: "40 s", "12 min", "3 h 20 min".
std::string duration_text(double seconds) {
  if (seconds < 99.5) return fmt::format("{:.0f} s", seconds);
  const auto minutes = static_cast<int64_t>(std::llround(seconds / 60));
  if (minutes < 100) return fmt::format("{} min", minutes);
  return fmt::format("{} h {} min", minutes / 60, minutes % 60);
}

}  // namespace

std::string progress_text(const std::string& what, int64_t done, int64_t total, int64_t begin,
                          std::chrono::duration<double> elapsed) {
  if (total <= 0) return fmt::format("{}: {} in {}", what, done, duration_text(elapsed.count()));
  std::string text = fmt::format("{}: {} of {} ({}%)", what, done, total, 100 * done / total);
  if (done > begin)
    text +=
        fmt::format(", {} left", duration_text(elapsed.count() * static_cast<double>(total - done) /
                                               static_cast<double>(done - begin)));
  return text;
}

Progress::Progress(std::string what, int64_t total, int64_t begin, const ProgressOptions& options)
    : what_(std::move(what)),
      total_(total),
      begin_(begin),
      options_(options),
      has_line_(has_status_line()) {
  next_ = started_ + (has_line_ ? options_.show_after : options_.first_log_after);
}

Progress::~Progress() {
  if (has_line_) show_status_line("");
}

void Progress::update(int64_t done) {
  const Clock::time_point now = Clock::now();
  if (now < next_) return;
  const auto elapsed = now - started_;
  const std::string text = progress_text(what_, done, total_, begin_, elapsed);
  if (has_line_) {
    show_status_line(text);
    next_ = now + options_.refresh_every;
  } else {
    log_info("{}", text);
    // Intervals grow with the elapsed time, so even long work logs only a few dozen lines.
    next_ = now + std::max<Clock::duration>(options_.first_log_after, elapsed / 10);
  }
}

}  // namespace dalle
