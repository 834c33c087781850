#include "dalle/dist/note_board.h"

#include <chrono>
#include <exception>
#include <thread>
#include <utility>

#include <torch/csrc/distributed/c10d/Store.hpp>

#include "dalle/dist/process_group.h"

namespace dalle {
namespace {

RankLost gone(const std::string& name) {
  return RankLost("{}: rank 0, or the launcher that keeps the ranks' store, is gone", name);
}

}  // namespace

NoteBoard::NoteBoard(c10::intrusive_ptr<c10d::Store> store) : store_(std::move(store)) {}
NoteBoard::~NoteBoard() = default;

void NoteBoard::leave(const std::string& name, const std::string& text) {
  try {
    store_->set("note/" + name, text);
  } catch (const std::exception&) {
    throw gone(name);
  }
}

std::string NoteBoard::wait_for(const std::string& name) {
  const std::string key = "note/" + name;
  try {
    while (!given_up_) {
      if (store_->check({key})) return store_->get_to_str(key);
      std::this_thread::sleep_for(std::chrono::milliseconds(10));
    }
  } catch (const std::exception&) {
    throw gone(name);
  }
  throw RankLost("{}: another rank has not done its part", name);
}

}  // namespace dalle
