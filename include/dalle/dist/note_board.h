#pragma once

#include <atomic>
#include <string>

#include <c10/util/intrusive_ptr.h>

namespace c10d {
class Store;
}

namespace dalle {

/// Texts that ranks leave for one another, for what goes on beside their collectives: on a thread
/// of its own, and in no order with them.
class NoteBoard {
 public:
  /// @param store  not used by others at the same time; a clone() of the group's
  explicit NoteBoard(c10::intrusive_ptr<c10d::Store> store);
  ~NoteBoard();
  NoteBoard(const NoteBoard&) = delete;
  NoteBoard& operator=(const NoteBoard&) = delete;

  /// @throws dalle::Error if the store is gone
  void leave(const std::string& name, const std::string& text);

  /// The text that some rank leaves under the name, once it is there.
  /// @throws dalle::Error if the store is gone, or after give_up()
  std::string wait_for(const std::string& name);

  /// Ends all waiting; callable from another thread.
  void give_up() { given_up_ = true; }

 private:
  c10::intrusive_ptr<c10d::Store> store_;
  std::atomic<bool> given_up_ = false;
};

}  // namespace dalle
