#pragma once

#include <cstdint>

#include "core/config/config_checks.h"
#include "core/fields.h"
#include "tensor/precision.h"

namespace dalle {

/// The library that carries tensors between ranks; kAuto: NCCL between GPUs, Gloo between CPUs.
enum class CommunicationBackend { kAuto, kNccl, kGloo };

constexpr auto enum_names(CommunicationBackend) {
  return names_in_order<CommunicationBackend>("auto", "nccl", "gloo");
}

/// How ranks train together.
struct DistributedConfig {
  CommunicationBackend backend = CommunicationBackend::kAuto;
  int64_t timeout_s = 600;
  double bucket_mb = 25;
  Precision reduce_dtype = Precision::kFloat32;  ///< in which gradients are sent and added up
  bool shard_optimizer = false;
  bool bitwise = false;
  int64_t check_replicas_every = 100;

  bool operator==(const DistributedConfig&) const = default;

  void validate(const ConfigChecks& checks) const {
    checks.require(!bitwise || reduce_dtype == Precision::kFloat32, "reduce_dtype", {"bitwise"},
                   "found {}, expected float32, since {} is true", to_string(reduce_dtype),
                   checks.path("bitwise"));
  }

  template <class Self, class Visitor>
  static void fields(Self& self, Visitor&& visit) {
    visit("backend", self.backend,
          {.help = "auto (nccl between GPUs, gloo between CPUs), nccl or gloo",
           .paper = "nccl",
           .may_change = true});
    visit("timeout_s", self.timeout_s,
          {.help = "seconds after which a rank that sends no heartbeat is considered lost, and a "
                   "collective that no rank completes is considered stalled",
           .min = 1,
           .max = 86400,
           .may_change = true});
    visit("bucket_mb", self.bucket_mb,
          {.help = "gradient bucket size in megabytes, for communication that overlaps with the "
                   "backward pass; use larger buckets with more ranks",
           .min = 0.001,
           .max = 65536,
           .may_change = true});
    visit("reduce_dtype", self.reduce_dtype,
          {.help = "dtype of the gradient reduction: float32, or bfloat16, which halves the "
                   "traffic and loses precision",
           .paper = "PowerSGD over float16 (B.2)"});
    visit("shard_optimizer", self.shard_optimizer,
          {.help = "shard the optimizer state and the EMA across ranks (ZeRO-1), which saves "
                   "memory; requires optimizer adamw",
           .may_change = true});
    visit("bitwise", self.bitwise,
          {.help = "reduce gradients in a fixed order, so that 1, 2, 4, 8, ... ranks give bitwise "
                   "identical results; requires micro_batch_size; the number of "
                   "micro-batches per batch must be a power of two; somewhat slower",
           .formerly = "exact"});
    visit("check_replicas_every", self.check_replicas_every,
          {.help = "updates between comparisons of the ranks' weights; 0: never",
           .min = 0,
           .may_change = true});
  }
};

}  // namespace dalle
