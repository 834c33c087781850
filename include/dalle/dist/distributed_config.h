#pragma once

#include <array>
#include <cstdint>
#include <string_view>
#include <utility>

namespace dalle {

/// What carries tensors between ranks; kAuto: NCCL between GPUs, Gloo between CPUs.
enum class CommunicationBackend { kAuto, kNccl, kGloo };

constexpr auto enum_names(CommunicationBackend) {
  return std::array{std::pair{CommunicationBackend::kAuto, std::string_view("auto")},
                    std::pair{CommunicationBackend::kNccl, std::string_view("nccl")},
                    std::pair{CommunicationBackend::kGloo, std::string_view("gloo")}};
}

/// The type in which gradients travel and are added up.
enum class ReduceType { kFloat32, kBfloat16 };

constexpr auto enum_names(ReduceType) {
  return std::array{std::pair{ReduceType::kFloat32, std::string_view("float32")},
                    std::pair{ReduceType::kBfloat16, std::string_view("bfloat16")}};
}

/// How the ranks of a training work together.
struct DistributedConfig {
  CommunicationBackend backend = CommunicationBackend::kAuto;
  int64_t timeout_s = 600;
  double bucket_mb = 25;
  ReduceType reduce_dtype = ReduceType::kFloat32;
  bool shard_optimizer = false;
  bool exact = false;
  int64_t check_replicas_every = 100;

  bool operator==(const DistributedConfig&) const = default;

  template <class Self, class Visitor>
  static void fields(Self& self, Visitor&& visit) {
    visit("backend", self.backend,
          {.help = "auto (nccl between GPUs, gloo between CPUs), nccl or gloo", .paper = "nccl"});
    visit("timeout_s", self.timeout_s,
          {.help = "seconds after which a rank that sends no heartbeat is considered lost, and a "
                   "collective that no rank completes is considered stalled",
           .min = 1,
           .max = 86400});
    visit("bucket_mb", self.bucket_mb,
          {.help = "megabytes of gradient that are sent at once, while the backward pass goes on; "
                   "more for more ranks",
           .min = 0.001,
           .max = 65536});
    visit("reduce_dtype", self.reduce_dtype,
          {.help = "float32, or bfloat16 for half of the traffic and less exact sums",
           .paper = "PowerSGD over float16 (B.2)"});
    visit("shard_optimizer", self.shard_optimizer,
          {.help = "each rank keeps moments and average of its part of the weights alone (ZeRO-1), "
                   "for less memory; with optimizer adamw"});
    visit("exact", self.exact,
          {.help = "add up in one order, so that 1, 2, 4, 8 ... ranks give the same bits; needs "
                   "micro_batch_size, a power of two of them in a batch, and costs some speed"});
    visit("check_replicas_every", self.check_replicas_every,
          {.help = "updates between two comparisons of the ranks' weights; 0: never", .min = 0});
  }
};

}  // namespace dalle
