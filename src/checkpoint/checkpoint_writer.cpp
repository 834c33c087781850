#include "checkpoint/checkpoint_writer.h"

#include <algorithm>
#include <exception>
#include <future>
#include <utility>

#include <c10/util/ScopeExit.h>

#include "core/error.h"
#include "core/log.h"

#include <nlohmann/json.hpp>

namespace dalle {
namespace {

using nlohmann::json;

/// What a rank tells rank 0: the files that it has written, or why it could not.
std::string note_of(const FileDigests& files) {
  json note = {{"files", json::object()}};
  for (const auto& [name, digest] : files) note["files"][name] = {digest.size, digest.sha256};
  return note.dump();
}

std::string note_of_error(const std::string& message) {
  return json{{"error", message}}.dump(-1, ' ', false, json::error_handler_t::replace);
}

FileDigests files_in(const std::string& text, int64_t rank) {
  const json note = json::parse(text);
  if (note.contains("error")) throw Error("rank {}: {}", rank, note.at("error").get<std::string>());
  FileDigests files;
  for (const auto& [name, digest] : note.at("files").items())
    files[name] = {.size = digest.at(0).get<int64_t>(), .sha256 = digest.at(1).get<std::string>()};
  return files;
}

}  // namespace

CheckpointWriter::CheckpointWriter(std::filesystem::path folder, int64_t keep_last,
                                   ProcessGroup& group)
    : folder_(std::move(folder)), group_(group), mailbox_(group.store_mailbox()) {
  if (group_.is_rank_zero()) store_.emplace(folder_, keep_last);
}

CheckpointWriter::~CheckpointWriter() {
  if (pending_.valid()) group_.set_phase(Phase::kSaving, step_);  // which may take its time
  if (pending_.valid() && mailbox_ != nullptr &&
      pending_.wait_for(group_.save_grace()) != std::future_status::ready)
    mailbox_->cancel();  // a rank that is lost will not write
  try {
    finish();
  } catch (const std::exception& error) {  // another error is being thrown: this one is logged
    log_error("{}", error.what());
  }
}

/// Spread over the ranks, and with them over machines.
int64_t CheckpointWriter::writer_of(int64_t part, int64_t parts) const {
  return part * group_.world_size() / parts;
}

bool CheckpointWriter::writes(int64_t part, int64_t parts) const {
  return writer_of(part, parts) == group_.rank();
}

void CheckpointWriter::begin(CheckpointContent own, int64_t parts, std::optional<double> score) {
  finish();
  step_ = own.step;
  std::vector<int64_t> others;
  for (int64_t part = 0; part < parts; ++part)
    if (const int64_t rank = writer_of(part, parts);
        rank > 0 && (others.empty() || others.back() != rank))
      others.push_back(rank);
  const std::string key = fmt::format("{}/{}", folder_.filename().string(), saves_++);
  if (!group_.is_rank_zero() && std::ranges::find(others, group_.rank()) == others.end()) return;
  pending_ = std::async(std::launch::async, [this, own = std::move(own), others, score, key] {
    group_.set_saving(true);
    const auto at_end = c10::make_scope_exit([&] { group_.set_saving(false); });
    if (group_.is_rank_zero())
      save_with_others(own, others, score, key);
    else
      save_for_rank_zero(own, key);
  });
}

void CheckpointWriter::check() {
  if (pending_.valid() && pending_.wait_for(std::chrono::seconds(0)) == std::future_status::ready)
    pending_.get();
}

void CheckpointWriter::finish() {
  if (pending_.valid()) pending_.get();
}

/// Rank 0's part: it stages the checkpoint, and commits it once the others have said what they
/// wrote.
void CheckpointWriter::save_with_others(const CheckpointContent& own,
                                        const std::vector<int64_t>& others,
                                        std::optional<double> score, const std::string& key) {
  if (others.empty()) return store_->save(own, score);
  try {
    try {
      const std::filesystem::path staging = store_->stage(own.step);
      mailbox_->set(key + "/folder", staging.filename().string());
      FileDigests files = write_checkpoint_files(staging, own);
      for (const int64_t rank : others) {
        FileDigests of_rank = files_in(mailbox_->wait(fmt::format("{}/{}", key, rank)), rank);
        files.merge(of_rank);
        DALLE_CHECK(of_rank.empty());  // no file is written twice
      }
      store_->commit(own.step, files, score);
    } catch (const Error& error) {
      store_->abandon(own.step, error);
    }
    store_->clean_up(own.step);
  } catch (const std::exception& error) {
    mailbox_->set(key + "/folder", "");  // ranks that still wait for it need not write
    mailbox_->set(key + "/end", note_of_error(error.what()));
    throw;
  }
  mailbox_->set(key + "/end", note_of({}));
}

/// What the other ranks do.
void CheckpointWriter::save_for_rank_zero(const CheckpointContent& own, const std::string& key) {
  const std::string staging = mailbox_->wait(key + "/folder");
  if (!staging.empty()) {
    std::string note;
    try {
      note = note_of(write_checkpoint_files(folder_ / staging, own));
    } catch (const std::exception& error) {
      note = note_of_error(error.what());
    }
    mailbox_->set(fmt::format("{}/{}", key, group_.rank()), note);
  }
  files_in(mailbox_->wait(key + "/end"), /*rank=*/0);
}

}  // namespace dalle
