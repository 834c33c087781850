#include "checkpoint/checkpoint.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <system_error>
#include <utility>

#include <fmt/ranges.h>

#include "checkpoint/checkpoint_files.h"
#include "checkpoint/manifest.h"
#include "core/error.h"
#include "core/files.h"
#include "core/log.h"

namespace dalle {
namespace {

namespace fs = std::filesystem;

constexpr std::string_view kPrefix = "step-";
constexpr std::string_view kTensorSuffix = ".safetensors";
constexpr const char* kStaging = ".part";  // being written, or being removed
constexpr const char* kReplaced = ".old";  // to be removed once its successor is in place

/// The name of the tensors in a file; nothing if it is a file of another kind.
std::optional<std::string> tensors_in(const std::string& file) {
  if (!file.ends_with(kTensorSuffix)) return std::nullopt;
  const std::string name = file.substr(0, file.size() - kTensorSuffix.size());
  return name == kFormerEmaTensors ? kEmaTensors : name;
}

fs::path with_suffix(const fs::path& path, std::string_view suffix) {
  return path.string() + std::string(suffix);
}

/// The step in a checkpoint's name; nothing if it is not a checkpoint's.
std::optional<int64_t> step_of(const fs::path& path) {
  const std::string name = path.filename().string();
  if (!name.starts_with(kPrefix)) return std::nullopt;
  int64_t step = 0;
  const char* end = name.data() + name.size();
  const auto [stop, error] = std::from_chars(name.data() + kPrefix.size(), end, step);
  return error == std::errc() && stop == end && step >= 0 ? std::optional(step) : std::nullopt;
}

std::vector<fs::path> entries_of(const fs::path& folder) {
  std::error_code error;
  std::vector<fs::path> entries;
  fs::directory_iterator entry(folder, error);
  for (; !error && entry != fs::directory_iterator(); entry.increment(error))
    entries.push_back(entry->path());
  if (error) throw Error("{}: cannot list the folder: {}", folder.string(), error.message());
  return entries;
}

void rename_folder(const fs::path& from, const fs::path& to) {
  std::error_code error;
  fs::rename(from, to, error);
  if (error)
    throw Error("{}: cannot rename to {}: {}", from.string(), to.string(), error.message());
}

void remove_folder(const fs::path& path) {
  std::error_code error;
  fs::remove_all(path, error);
  if (error) throw Error("{}: cannot remove: {}", path.string(), error.message());
}

bool verifies(const fs::path& checkpoint) {
  try {
    verify_checkpoint(checkpoint);
    return true;
  } catch (const Error&) {
    return false;
  }
}

std::string free_space(const fs::path& folder) {
  std::error_code error;
  const fs::space_info space = fs::space(folder, error);
  return error ? "unknown" : fmt::format("{:.1f} MB", static_cast<double>(space.available) / 1e6);
}

}  // namespace

CheckpointContent read_checkpoint(const fs::path& checkpoint, const std::set<std::string>& only,
                                  const std::set<std::string>& later) {
  const Manifest manifest = read_manifest(checkpoint);
  CheckpointContent content{.step = manifest.step, .tensors = {}, .files = {}, .path = checkpoint};
  std::set<std::string> wanted = only;
  for (const auto& [file, digest] : manifest.files) {
    const std::optional<std::string> tensors = tensors_in(file);
    const std::string name = tensors.value_or(file);
    if (!only.empty() && wanted.erase(name) == 0) continue;
    verify_file(checkpoint, manifest, file);
    if (tensors && later.contains(name)) continue;
    if (tensors)
      content.tensors[name] = read_safetensors(checkpoint / file).tensors;
    else
      content.files[name] = read_file(checkpoint / file);
  }
  if (!wanted.empty())
    throw Error("{}: the checkpoint has no {}", checkpoint.string(), fmt::join(wanted, ", "));
  return content;
}

NamedTensors read_tensors(const fs::path& checkpoint, const std::string& name) {
  return read_safetensors(tensors_file(checkpoint, name)).tensors;
}

void verify_checkpoint(const fs::path& checkpoint) {
  const Manifest manifest = read_manifest(checkpoint);
  for (const auto& [file, digest] : manifest.files) verify_file(checkpoint, manifest, file);
}

std::vector<fs::path> checkpoints_in(const fs::path& folder) {
  std::vector<fs::path> checkpoints;
  if (!fs::exists(folder)) return checkpoints;
  for (const fs::path& entry : entries_of(folder))
    if (step_of(entry)) checkpoints.push_back(entry);
  std::ranges::sort(checkpoints, std::greater(), step_of);
  return checkpoints;
}

std::optional<fs::path> best_checkpoint(const fs::path& folder) {
  std::optional<fs::path> best;
  double best_score = 0;
  for (const fs::path& checkpoint : checkpoints_in(folder)) {
    std::optional<double> score;
    try {
      score = read_manifest(checkpoint).score;
    } catch (const Error&) {
      continue;  // a corrupt one is never the best; loading it says why
    }
    if (score && (!best || *score <= best_score)) {  // of equal ones the earliest
      best = checkpoint;
      best_score = *score;
    }
  }
  return best;
}

std::optional<CheckpointContent> read_first_valid(std::span<const fs::path> checkpoints,
                                                  const std::set<std::string>& only,
                                                  const std::set<std::string>& later) {
  for (const fs::path& checkpoint : checkpoints) {
    try {
      return read_checkpoint(checkpoint, only, later);
    } catch (const Error& error) {
      log_warning("skipping the checkpoint {}: {}", checkpoint.filename().string(), error.what());
    }
  }
  return std::nullopt;
}

std::optional<CheckpointContent> read_newest_checkpoint(const fs::path& folder,
                                                        const std::set<std::string>& only,
                                                        const std::set<std::string>& later) {
  const std::vector<fs::path> checkpoints = checkpoints_in(folder);
  if (auto newest = read_first_valid(checkpoints, only, later)) return newest;
  if (!checkpoints.empty())
    throw Error(
        "{}: none of its {} checkpoints can be used (see the warnings above); restore one "
        "from a copy, or start over with --restart",
        folder.string(), checkpoints.size());
  return std::nullopt;
}

FileDigests write_checkpoint_files(const fs::path& folder, const CheckpointContent& part,
                                   const DiskObserver& before_change) {
  Manifest written;
  const auto announce = [&](const std::string& file) {
    DALLE_CHECK(file != Manifest::kFileName && !written.files.contains(file));
    if (before_change) before_change("write " + file);
  };
  for (const auto& [name, tensors] : part.tensors) {
    const std::string file = name + std::string(kTensorSuffix);
    announce(file);
    written.files[file] = write_safetensors(folder / file, tensors, {{"format", "pt"}});
  }
  for (const auto& [file, bytes] : part.files) {
    announce(file);
    FileWriter writer(folder / file);
    writer.write(bytes);
    written.files[file] = writer.finish();
  }
  for (const auto& [file, digest] : written.files) verify_file(folder, written, file);
  return written.files;
}

CheckpointStore::CheckpointStore(fs::path folder, int64_t keep_last, DiskObserver before_change)
    : folder_(std::move(folder)),
      keep_last_(keep_last),
      before_change_(before_change ? std::move(before_change) : [](std::string_view) {}) {
  DALLE_CHECK(keep_last_ >= 1);
  make_directories(folder_);
  recover();
}

/// Undoes what a process left half done when it was killed.
void CheckpointStore::recover() {
  for (const fs::path& entry : entries_of(folder_)) {
    const fs::path checkpoint = fs::path(entry).replace_extension();
    const bool is_pointer = checkpoint.filename() == "latest" || checkpoint.filename() == "best";
    if (!is_pointer && !step_of(checkpoint)) continue;
    if (entry.extension() == kReplaced && !fs::exists(checkpoint)) {
      before_change_("put back a replaced checkpoint");
      rename_folder(entry, checkpoint);
    } else if (entry.extension() == kStaging || entry.extension() == kReplaced) {
      before_change_("remove leftovers");
      remove_folder(entry);
    }
  }
}

void CheckpointStore::save(const CheckpointContent& content, std::optional<double> score) {
  try {
    const fs::path staging = stage(content.step);
    commit(content.step, write_checkpoint_files(staging, content, before_change_), score);
  } catch (const Error& error) {
    abandon(content.step, error);
  }
  clean_up(content.step);
}

fs::path CheckpointStore::path_of(int64_t step) const {
  DALLE_CHECK(step >= 0);
  return folder_ / fmt::format("{}{:08}", kPrefix, step);
}

fs::path CheckpointStore::stage(int64_t step) {
  fs::path staging = with_suffix(path_of(step), kStaging);
  before_change_("create the staging folder");
  remove_folder(staging);
  make_directories(staging);
  return staging;
}

/// A folder cannot be renamed onto another that has content, so a checkpoint of the same step is
/// moved away first; recover() brings it back if the process dies in between.
void CheckpointStore::commit(int64_t step, const FileDigests& files, std::optional<double> score) {
  const fs::path checkpoint = path_of(step);
  const fs::path staging = with_suffix(checkpoint, kStaging);
  const fs::path replaced = with_suffix(checkpoint, kReplaced);
  write_manifest(staging, step, files, score);
  const bool replaces = fs::exists(checkpoint);
  if (replaces) {
    before_change_("move the replaced checkpoint away");
    rename_folder(checkpoint, replaced);
  }
  before_change_("rename the new checkpoint");
  rename_folder(staging, checkpoint);
  before_change_("flush the folder");
  flush_to_disk(folder_);
  if (replaces) {
    before_change_("remove the replaced checkpoint");
    remove_folder(replaced);
  }
}

void CheckpointStore::write_manifest(const fs::path& staging, int64_t step,
                                     const FileDigests& files, std::optional<double> score) {
  for (const auto& [file, digest] : files) {
    std::error_code error;
    const auto size = fs::file_size(staging / file, error);
    if (error || static_cast<int64_t>(size) != digest.size)
      throw Error(
          "{}: missing or truncated on rank 0; if another rank wrote it, the run folder must be on "
          "a file system that all ranks share",
          (staging / file).string());
  }
  if (score && !std::isfinite(*score)) score.reset();
  before_change_("write the manifest");
  FileWriter writer(staging / Manifest::kFileName);
  writer.write(format_manifest({.step = step, .score = score, .files = files}));
  writer.finish();
  flush_to_disk(staging);
  read_manifest(staging);
}

void CheckpointStore::abandon(int64_t step, const std::exception& reason) {
  std::error_code ignored;  // the error that is reported is the one that came first
  fs::remove_all(with_suffix(path_of(step), kStaging), ignored);
  throw Error(
      "cannot save the checkpoint of step {}: {} ({} free). Earlier checkpoints are intact: free "
      "some space or give write access, then start the same command again",
      step, reason.what(), free_space(folder_));
}

void CheckpointStore::clean_up(int64_t saved_step) {
  point("latest", path_of(saved_step));
  const std::optional<fs::path> best = best_checkpoint(folder_);
  if (best) point("best", *best);
  int64_t kept = 0;
  for (const fs::path& checkpoint : checkpoints_in(folder_)) {
    const bool is_later = step_of(checkpoint) > saved_step;
    if (is_later ? verifies(checkpoint) : kept++ < keep_last_ || checkpoint == best) continue;
    const fs::path removed = with_suffix(checkpoint, kStaging);
    try {  // renamed first: no half-removed folder ever has a checkpoint's name
      before_change_("rename an old checkpoint");
      rename_folder(checkpoint, removed);
      before_change_("remove an old checkpoint");
      remove_folder(removed);
    } catch (const Error& error) {  // the new one is safe; the next save tries again
      log_warning("cannot remove an old checkpoint: {}", error.what());
    }
  }
}

void CheckpointStore::point(const std::string& pointer, const fs::path& checkpoint) {
  before_change_("point " + pointer);
  write_file_atomically(folder_ / pointer, checkpoint.filename().string() + "\n");
}

}  // namespace dalle
