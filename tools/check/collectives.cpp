#include <chrono>
#include <string>
#include <vector>

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <torch/types.h>

#include "checks.h"
#include "core/error.h"
#include "dist/process_group.h"

namespace dalle {
namespace {

/// Runs every collective on one rank, which shows that the backend opens and accepts every type.
/// Only several ranks could show that sums are correct.
class CollectiveRun {
 public:
  explicit CollectiveRun(c10::Device device)
      : device_(device),
        group_(single_rank_with_store(), device, {.timeout = std::chrono::minutes(1)}) {}

  CheckResult run() {
    for (const auto type : {torch::kFloat32, torch::kBFloat16}) {
      // Used for the gradient buckets.
      in_place("all_reduce_async", type, [&](const auto& x) { group_.all_reduce_async(x).wait(); });
      into("reduce_scatter", type,
           [&](const auto& to, const auto& from) { group_.reduce_scatter_async(to, from).wait(); });
    }
    for (const auto type : {torch::kFloat32, torch::kFloat64, torch::kInt64})
      in_place("all_reduce", type, [&](const auto& x) { group_.all_reduce(x); });
    for (const auto type : {torch::kFloat32, torch::kInt64, torch::kUInt8})
      in_place("broadcast", type, [&](const auto& x) { group_.broadcast(x); });
    for (const auto type : {torch::kFloat32, torch::kFloat64, torch::kInt64, torch::kUInt8})
      into("all_gather", type,
           [&](const auto& to, const auto& from) { group_.all_gather(to, from); });
    for (const auto type : {torch::kFloat32, torch::kFloat64})
      into("all_to_all", type,
           [&](const auto& to, const auto& from) { group_.all_to_all(to, from); });
    expect("broadcast string", [&] { return group_.broadcast("text") == "text"; });
    expect("all_gather_strings",
           [&] { return group_.all_gather_strings("text") == std::vector<std::string>{"text"}; });
    expect("barrier", [&] { return group_.barrier(), true; });
    // Without a backend every call above would return immediately.
    expect("waiting for a backend", [&] { return group_.waited_s() > 0; });
    return {.outcome = wrong_.empty() ? CheckOutcome::kPass : CheckOutcome::kFail,
            .found = wrong_.empty() ? fmt::format("{} of {} as expected", count_, count_)
                                    : fmt::format("wrong: {}", fmt::join(wrong_, "; ")),
            .numbers = {{"collectives", count_}, {"wrong", wrong_}}};
  }

 private:
  static RankInfo single_rank_with_store() {
    RankInfo info;
    info.launcher = "dalle-check";
    info.host = "127.0.0.1";
    return info;  // port 0: any free one
  }

  template <class Body>
  void expect(const std::string& name, const Body& body) {
    ++count_;
    try {
      if (!body()) wrong_.push_back(name);
    } catch (const Error& error) {
      wrong_.push_back(fmt::format("{}: {}", name, error.what()));
    }
  }

  at::Tensor values(at::ScalarType type) const {
    return torch::arange(1, 100, at::TensorOptions(device_).dtype(type));
  }

  template <class Collective>
  void in_place(const std::string& name, at::ScalarType type, const Collective& collective) {
    expect(fmt::format("{} {}", name, c10::toString(type)), [&] {
      const at::Tensor tensor = values(type);
      collective(tensor);
      return torch::equal(tensor, values(type));
    });
  }

  template <class Collective>
  void into(const std::string& name, at::ScalarType type, const Collective& collective) {
    expect(fmt::format("{} {}", name, c10::toString(type)), [&] {
      const at::Tensor result = torch::zeros_like(values(type));
      collective(result, values(type));
      return torch::equal(result, values(type));
    });
  }

  c10::Device device_;
  ProcessGroup group_;
  int64_t count_ = 0;
  std::vector<std::string> wrong_;
};

}  // namespace

std::vector<Check> collective_checks(c10::Device device) {
  return {{"collectives", [=] { return CollectiveRun(device).run(); }}};
}

}  // namespace dalle
