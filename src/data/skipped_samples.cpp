#include "data/skipped_samples.h"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <string_view>

#include "core/error.h"
#include "core/files.h"
#include "core/log.h"

#include <nlohmann/json.hpp>

namespace dalle {
namespace {

using nlohmann::json;

/// Only this many samples are also logged, because there may be thousands.
constexpr int64_t kLoggedSamples = 10;

/// Replaces invalid UTF-8, as JSON requires. Keys are compared in this form, in which a resumed run
/// reads them back.
std::string as_utf8(const std::string& text) {
  return json::parse(json(text).dump(-1, ' ', false, json::error_handler_t::replace));
}

/// Calls `use` with the key in each of the complete lines `lines` of the file `path`.
template <class Use>
void for_each_key(std::string_view lines, const std::filesystem::path& path, const Use& use) {
  int64_t number = 1;
  for (size_t begin = 0; begin < lines.size(); ++number) {
    const size_t end = lines.find('\n', begin);
    const std::string_view line = lines.substr(begin, end - begin);
    const json entry = json::parse(line, nullptr, /*allow_exceptions=*/false);
    if (!entry.is_object() || !entry.contains("key") || !entry["key"].is_string())
      throw Error("{}:{}: found {:?}, expected {{\"key\": ..., \"reason\": ...}}", path.string(),
                  number, line);
    use(entry["key"].get<std::string>());
    begin = end + 1;
  }
}

}  // namespace

SkippedSamples::SkippedSamples(std::filesystem::path path, int64_t dataset_size,
                               double max_invalid_fraction,
                               std::vector<std::filesystem::path> other_ranks)
    : path_(std::move(path)),
      dataset_size_(dataset_size),
      max_invalid_fraction_(max_invalid_fraction) {
  DALLE_CHECK(dataset_size > 0 && max_invalid_fraction >= 0);
  for (std::filesystem::path& other : other_ranks) other_lists_.push_back({std::move(other)});
  if (path_.empty()) return;
  if (std::filesystem::exists(path_)) read_known_keys();
  file_.open(path_, std::ios::app | std::ios::binary);
  if (!file_) throw Error("{}: cannot write: {}", path_.string(), std::strerror(errno));
}

void SkippedSamples::read_known_keys() {
  const std::string content = read_file(path_);
  const size_t complete = content.rfind('\n') + 1;  // 0 if there is no complete line
  if (complete < content.size()) {
    std::error_code error;
    std::filesystem::resize_file(path_, complete, error);
    if (error) throw Error("{}: cannot write: {}", path_.string(), error.message());
  }
  for_each_key(std::string_view(content).substr(0, complete), path_,
               [&](std::string key) { keys_.insert(std::move(key)); });
}

/// Reads what other ranks have added since the last call. A list that cannot be read now, because
/// another machine may be writing it, is read later.
void SkippedSamples::read_other_lists() {
  for (OtherList& list : other_lists_) {
    try {
      std::string added = read_file(list.path, list.read_bytes);
      added.resize(added.rfind('\n') + 1);  // 0 if there is no complete line
      for_each_key(added, list.path, [&](std::string key) {
        if (!keys_.contains(key)) keys_of_others_.insert(std::move(key));
      });
      list.read_bytes += added.size();
    } catch (const Error&) {
    }
  }
}

void SkippedSamples::add(const std::string& key, const std::string& reason) {
  const std::string printable_key = as_utf8(key);
  const std::string printable_reason = as_utf8(reason);
  const std::lock_guard lock(mutex_);
  const bool is_new = keys_.insert(printable_key).second;
  if (is_new) {
    const std::string line = json{{"key", printable_key}, {"reason", printable_reason}}.dump();
    if (++added_ <= kLoggedSamples) log_warning("skipped {}", line);
    if (added_ == kLoggedSamples)
      log_warning("further skipped samples are only listed in the run folder");
    if (!path_.empty()) {
      file_ << line << '\n' << std::flush;
      if (!file_) throw Error("{}: cannot write: {}", path_.string(), std::strerror(errno));
    }
  }
  // The ranks together can only exceed the limit if one of them exceeds its share of the limit.
  const double limit = max_invalid_fraction_ * static_cast<double>(dataset_size_);
  const auto ranks = static_cast<double>(other_lists_.size() + 1);
  if (static_cast<double>(keys_.size()) * ranks <= limit) return;
  if (is_new) {
    keys_of_others_.erase(printable_key);
    read_other_lists();
  }
  const size_t count = keys_.size() + keys_of_others_.size();
  if (static_cast<double>(count) > limit)
    throw Error(
        "{} of {} samples cannot be used, more than the {}% that data.max_invalid_fraction allows; "
        "the "
        "last one is {}: {}{}",
        count, dataset_size_, 100 * max_invalid_fraction_, printable_key, printable_reason,
        path_.empty() ? "" : " (all are listed in " + path_.string() + ")");
}

}  // namespace dalle
