#include "train/chunk_store.h"

#include <cstring>
#include <optional>
#include <string_view>
#include <system_error>
#include <utility>
#include <vector>

#include <torch/types.h>

#include "core/crc32c.h"
#include "core/error.h"
#include "core/files.h"
#include "core/log.h"

namespace dalle {
namespace {

namespace fs = std::filesystem;
using nlohmann::ordered_json;

constexpr const char* kIdentityFile = "identity.json";

std::string with_checksum(std::string bytes) {
  const uint32_t checksum = crc32c(bytes);
  bytes.append(reinterpret_cast<const char*>(&checksum), sizeof checksum);
  return bytes;
}

/// The bytes without their checksum; nothing if it is another one.
std::optional<std::string> verified(std::string bytes) {
  uint32_t checksum = 0;
  if (bytes.size() < sizeof checksum) return std::nullopt;
  const size_t size = bytes.size() - sizeof checksum;
  std::memcpy(&checksum, bytes.data() + size, sizeof checksum);
  bytes.resize(size);
  return crc32c(bytes) == checksum ? std::optional(std::move(bytes)) : std::nullopt;
}

}  // namespace

ChunkStore::ChunkStore(fs::path folder, const ordered_json& identity) : folder_(std::move(folder)) {
  const fs::path file = folder_ / kIdentityFile;
  if (fs::exists(folder_)) {
    if (fs::exists(file) && read_file(file) == identity.dump(2)) return;
    log_info("{} is from a different model, data set, build or settings; starting over",
             folder_.string());
    remove();
  }
  make_directories(folder_);
  write_file_atomically(file, identity.dump(2));
}

ChunkStore ChunkStore::reopened(fs::path folder) {
  ChunkStore store;
  store.folder_ = std::move(folder);
  return store;
}

ChunkRecords ChunkStore::read(const std::string& phase) const {
  ChunkRecords records;
  if (folder_.empty() || !fs::exists(folder_ / phase)) return records;
  for (const auto& entry : fs::directory_iterator(folder_ / phase)) {
    if (entry.path().extension() != ".cbor") continue;  // of an interrupted write
    if (const auto bytes = verified(read_file(entry.path())))
      records.merge(chunk_records(*bytes));
    else
      log_warning("{}: corrupt; recomputing its results", entry.path().string());
  }
  return records;
}

void ChunkStore::write(const std::string& phase, const ChunkRecords& records) const {
  if (folder_.empty() || records.empty()) return;
  make_directories(folder_ / phase);
  // A chunk belongs to one process, so its number makes the name unique.
  const std::string name = fmt::format("{:06}.cbor", records.begin()->first);
  write_file_atomically(folder_ / phase / name, with_checksum(to_bytes(records)));
}

std::set<std::string> ChunkStore::parts() const {
  std::set<std::string> parts;
  if (folder_.empty() || !fs::exists(folder_)) return parts;
  for (const auto& entry : fs::directory_iterator(folder_))
    if (entry.is_directory()) parts.insert(entry.path().filename().string());
  return parts;
}

void ChunkStore::remove(const std::string& part) const {
  if (folder_.empty()) return;
  std::error_code error;
  fs::remove_all(part.empty() ? folder_ : folder_ / part, error);
  if (error) throw Error("{}: cannot remove: {}", (folder_ / part).string(), error.message());
}

std::string to_bytes(const ChunkRecords& records) {
  ordered_json list = ordered_json::array();
  for (const auto& [chunk, record] : records) list.push_back({chunk, record});
  std::string bytes;
  ordered_json::to_cbor(list, bytes);
  return bytes;
}

ChunkRecords chunk_records(const std::string& bytes) {
  ChunkRecords records;
  for (ordered_json& entry : ordered_json::from_cbor(bytes))
    records.emplace(entry.at(0).get<int64_t>(), std::move(entry.at(1)));
  return records;
}

ordered_json tensor_record(const at::Tensor& tensor) {
  const at::Tensor host = tensor.detach().to(at::kCPU).contiguous();
  const auto* first = static_cast<const uint8_t*>(host.const_data_ptr());
  return {{"type", static_cast<int>(host.scalar_type())},
          {"shape", host.sizes().vec()},
          {"bytes", ordered_json::binary(std::vector<uint8_t>(first, first + host.nbytes()))}};
}

at::Tensor recorded_tensor(const ordered_json& record) {
  const auto type = static_cast<at::ScalarType>(record.at("type").get<int>());
  at::Tensor tensor = torch::empty(record.at("shape").get<std::vector<int64_t>>(), type);
  const auto& bytes = record.at("bytes").get_binary();
  DALLE_CHECK(bytes.size() == tensor.nbytes());
  std::memcpy(tensor.data_ptr(), bytes.data(), bytes.size());
  return tensor;
}

std::vector<double> doubles_of(const at::Tensor& tensor) {
  const at::Tensor doubles = tensor.to(at::kCPU, at::kDouble).contiguous();
  const double* first = doubles.const_data_ptr<double>();
  return {first, first + doubles.numel()};
}

at::Tensor joined_tensors(std::span<const ordered_json> records, const char* key) {
  std::vector<at::Tensor> parts;
  for (const ordered_json& record : records) parts.push_back(recorded_tensor(record.at(key)));
  return at::cat(parts);
}

}  // namespace dalle
