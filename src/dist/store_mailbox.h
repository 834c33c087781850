#pragma once

#include <atomic>
#include <string>

#include <c10/util/intrusive_ptr.h>

namespace c10d {
class Store;
}

namespace dalle {

/// Texts that ranks send one another outside their collectives: from another thread, and in any
/// order with respect to them.
class StoreMailbox {
 public:
  /// @param store  not used by others at the same time; a clone() of the group's
  explicit StoreMailbox(c10::intrusive_ptr<c10d::Store> store);
  ~StoreMailbox();
  StoreMailbox(const StoreMailbox&) = delete;
  StoreMailbox& operator=(const StoreMailbox&) = delete;

  /// @throws dalle::Error if the store is gone
  void set(const std::string& name, const std::string& text);

  /// Waits until some rank has set the text of that name, and returns it.
  /// @throws dalle::Error if the store is gone, or after cancel()
  std::string wait(const std::string& name);

  /// Ends all waits; callable from another thread.
  void cancel() { canceled_ = true; }

 private:
  c10::intrusive_ptr<c10d::Store> store_;
  std::atomic<bool> canceled_ = false;
};

}  // namespace dalle
