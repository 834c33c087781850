#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <string>

#include <ATen/core/Tensor.h>
#include <c10/core/Device.h>
#include <c10/util/intrusive_ptr.h>

#include "dalle/dist/rank_info.h"

namespace c10d {
class Backend;
class Store;
class Work;
}  // namespace c10d

namespace dalle {

/// The ranks that train together. Every function is a collective: all ranks call the same ones in
/// the same order. A world of one does nothing in each of them.
///
/// Tensors are contiguous and lie on the device that the group was made for. An error of a
/// collective (another rank died, or did not come within the timeout) is a dalle::Error that names
/// this rank and the collective.
class ProcessGroup {
 public:
  /// A world of one.
  ProcessGroup();

  /// Meets the other ranks: NCCL on GPUs, Gloo on CPUs.
  /// @throws dalle::Error if they do not all come within `timeout`
  ProcessGroup(const RankInfo& info, c10::Device device, std::chrono::seconds timeout);

  ~ProcessGroup();
  ProcessGroup(ProcessGroup&&) noexcept;
  ProcessGroup& operator=(ProcessGroup&&) noexcept;

  int64_t rank() const { return rank_; }
  int64_t world() const { return world_; }
  bool is_first() const { return rank_ == 0; }

  /// Adds up a tensor over the ranks, in place. All ranks get the same bits.
  void sum(const at::Tensor& tensor);

  /// Overwrites a tensor with that of rank 0, in place.
  void broadcast(const at::Tensor& tensor);

  /// The text of rank 0, on every rank.
  std::string broadcast(const std::string& text);

  /// Returns once every rank is here.
  void barrier();

 private:
  void run(const char* name,
           const std::function<c10::intrusive_ptr<c10d::Work>(c10d::Backend&)>& begin);

  int64_t rank_ = 0;
  int64_t world_ = 1;
  c10::Device device_ = c10::kCPU;
  c10::intrusive_ptr<c10d::Store> store_;
  c10::intrusive_ptr<c10d::Backend> backend_;
};

}  // namespace dalle
