#include "dist/store_mailbox.h"

#include <chrono>
#include <exception>
#include <thread>
#include <utility>

#include <torch/csrc/distributed/c10d/Store.hpp>

#include "dist/rank_lost.h"

namespace dalle {
namespace {

RankLost gone(const std::string& name) {
  return RankLost("{}: rank 0, or the launcher that hosts the store, has exited", name);
}

}  // namespace

StoreMailbox::StoreMailbox(c10::intrusive_ptr<c10d::Store> store) : store_(std::move(store)) {}
StoreMailbox::~StoreMailbox() = default;

void StoreMailbox::set(const std::string& name, const std::string& text) {
  try {
    store_->set("mailbox/" + name, text);
  } catch (const std::exception&) {
    throw gone(name);
  }
}

std::string StoreMailbox::wait(const std::string& name) {
  const std::string key = "mailbox/" + name;
  try {
    while (!canceled_) {
      if (store_->check({key})) return store_->get_to_str(key);
      std::this_thread::sleep_for(std::chrono::milliseconds(10));
    }
  } catch (const std::exception&) {
    throw gone(name);
  }
  throw RankLost("{}: stopped waiting for another rank", name);
}

}  // namespace dalle
