#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <set>
#include <span>
#include <string>
#include <vector>

#include <ATen/core/Tensor.h>

#include <nlohmann/json.hpp>

namespace dalle {

/// The results of chunks of some work, by chunk number.
using ChunkRecords = std::map<int64_t, nlohmann::ordered_json>;

/// Stores the results of chunks of long work in a folder, from which the same work continues after
/// an interruption. Files are complete or absent, even after a crash. Without a folder, it stores
/// nothing.
class ChunkStore {
 public:
  ChunkStore() = default;

  /// Opens the folder, or creates it. Content that was written for another identity is removed,
  /// with a line in the log. For one process only; the others use reopened().
  /// @param identity  of everything that the records depend on
  /// @throws dalle::Error if the folder cannot be written
  ChunkStore(std::filesystem::path folder, const nlohmann::ordered_json& identity);

  /// A folder that another process has opened.
  static ChunkStore reopened(std::filesystem::path folder);

  /// The records of a phase of the work. Corrupt files count as missing, with a warning.
  ChunkRecords read(const std::string& phase) const;

  /// Adds records, none of which is stored yet, in one file. Several processes and threads may do
  /// so at once.
  /// @throws dalle::Error if they cannot be written
  void write(const std::string& phase, const ChunkRecords& records) const;

  /// The parts that have records: PART for phases named "PART/...".
  std::set<std::string> parts() const;

  /// Removes a part, or everything if `part` is empty.
  void remove(const std::string& part = "") const;

 private:
  std::filesystem::path folder_;
};

/// Records as bytes: equal ones have equal bytes, and doubles keep all bits.
std::string to_bytes(const ChunkRecords& records);
ChunkRecords chunk_records(const std::string& bytes);

/// A tensor as part of a record.
/// @param tensor  of any type and device
nlohmann::ordered_json tensor_record(const at::Tensor& tensor);
/// @return  on the CPU
at::Tensor recorded_tensor(const nlohmann::ordered_json& record);

/// The elements of a tensor as float64, for a record.
std::vector<double> doubles_of(const at::Tensor& tensor);

/// The lists named `key` of records, concatenated.
template <class T>
std::vector<T> joined(std::span<const nlohmann::ordered_json> records, const char* key) {
  std::vector<T> all;
  for (const nlohmann::ordered_json& record : records)
    for (const nlohmann::ordered_json& value : record.at(key)) all.push_back(value.get<T>());
  return all;
}

/// The tensors named `key` of records, concatenated along the first dimension.
at::Tensor joined_tensors(std::span<const nlohmann::ordered_json> records, const char* key);

}  // namespace dalle
