#pragma once

#include <algorithm>
#include <cstdint>
#include <mutex>

#include <c10/core/Allocator.h>
#include <c10/core/CPUAllocator.h>
#include <c10/core/impl/alloc_cpu.h>

namespace dalle {

/// Bytes of tensors allocated by one thread, whichever thread frees them.
class BytesInUse {
 public:
  int64_t now() const {
    return locked([this] { return now_; });
  }
  int64_t peak() const {
    return locked([this] { return peak_; });
  }
  void forget_peak() {
    locked([this] { return peak_ = now_; });
  }
  void add(int64_t bytes) {
    locked([&] {
      now_ += bytes;
      return peak_ = std::max(peak_, now_);
    });
  }

 private:
  template <class Function>
  int64_t locked(const Function& function) const {
    const std::lock_guard lock(mutex_);
    return function();
  }

  mutable std::mutex mutex_;
  int64_t now_ = 0;
  int64_t peak_ = 0;
};

/// Counts the calling thread's allocations if not null. Must outlive the tensors.
inline thread_local BytesInUse* counted_bytes = nullptr;

/// Counts LibTorch's CPU memory for threads that set counted_bytes. Replaces the default allocator
/// of the process during its lifetime.
class CountingAllocator : public c10::Allocator {
 public:
  CountingAllocator() : before_(c10::GetCPUAllocator()) { c10::SetCPUAllocator(this); }
  ~CountingAllocator() override { c10::SetCPUAllocator(before_); }
  CountingAllocator(const CountingAllocator&) = delete;
  CountingAllocator& operator=(const CountingAllocator&) = delete;

  c10::DataPtr allocate(size_t size) override {
    auto* block = new Block{.data = c10::alloc_cpu(size), .size = size, .owner = counted_bytes};
    if (block->owner != nullptr) block->owner->add(static_cast<int64_t>(size));
    return {block->data, block, &free_block, c10::kCPU};
  }
  c10::DeleterFnPtr raw_deleter() const override { return nullptr; }
  void copy_data(void* to, const void* from, std::size_t count) const override {
    default_copy_data(to, from, count);
  }

 private:
  struct Block {
    void* data;
    size_t size;
    BytesInUse* owner;
  };

  static void free_block(void* context) {
    auto* block = static_cast<Block*>(context);
    if (block->owner != nullptr) block->owner->add(-static_cast<int64_t>(block->size));
    c10::free_cpu(block->data);
    delete block;
  }

  c10::Allocator* before_;
};

}  // namespace dalle
