#include <chrono>
#include <string>
#include <vector>

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <torch/types.h>

#include "dalle/core/error.h"
#include "dalle/dist/process_group.h"

#include "checks.h"

namespace dalle {
namespace {

/// One rank is enough to see that the backend opens and takes every type; that ranks add up their
/// numbers rightly takes several.
class CollectiveRun {
 public:
  explicit CollectiveRun(c10::Device device)
      : device_(device),
        group_(alone_with_a_store(), device, {.timeout = std::chrono::minutes(1)}) {}

  CheckResult run() {
    for (const auto type : {torch::kFloat32, torch::kBFloat16}) {
      // What the bucketed gradients go through.
      in_place("begin_sum", type, [&](const auto& x) { group_.begin_sum(x).wait(); });
      into("reduce_scatter", type,
           [&](const auto& to, const auto& from) { group_.begin_reduce_scatter(to, from).wait(); });
    }
    for (const auto type : {torch::kFloat32, torch::kFloat64, torch::kInt64})
      in_place("sum", type, [&](const auto& x) { group_.sum(x); });
    for (const auto type : {torch::kFloat32, torch::kInt64, torch::kUInt8})
      in_place("broadcast", type, [&](const auto& x) { group_.broadcast(x); });
    for (const auto type : {torch::kFloat32, torch::kFloat64, torch::kInt64, torch::kUInt8})
      into("all_gather", type,
           [&](const auto& to, const auto& from) { group_.all_gather(to, from); });
    for (const auto type : {torch::kFloat32, torch::kFloat64})
      into("all_to_all", type,
           [&](const auto& to, const auto& from) { group_.all_to_all(to, from); });
    expect("broadcast text", [&] { return group_.broadcast("text") == "text"; });
    expect("gather", [&] { return group_.gather("text") == std::vector<std::string>{"text"}; });
    expect("barrier", [&] { return group_.barrier(), true; });
    // Without a backend every call above would return at once.
    expect("waiting for a backend", [&] { return group_.waited_s() > 0; });
    return {.outcome = wrong_.empty() ? CheckOutcome::kPass : CheckOutcome::kFail,
            .found = wrong_.empty() ? fmt::format("{} of {} as expected", count_, count_)
                                    : fmt::format("wrong: {}", fmt::join(wrong_, "; ")),
            .numbers = {{"collectives", count_}, {"wrong", wrong_}}};
  }

 private:
  static RankInfo alone_with_a_store() {
    RankInfo info;
    info.launcher = "dalle-check";
    info.host = "127.0.0.1";
    return info;  // port 0: any that is free
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
