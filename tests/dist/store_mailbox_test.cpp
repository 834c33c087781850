#include "dist/store_mailbox.h"

#include <future>

#include <gtest/gtest.h>
#include <torch/csrc/distributed/c10d/HashStore.hpp>

#include "ranks.h"

namespace dalle {
namespace {

TEST(StoreMailbox, DeliversATextToEveryReader) {
  const auto store = c10::make_intrusive<c10d::HashStore>();
  StoreMailbox writer(store), reader(store);
  auto early = std::async(std::launch::async, [&] { return reader.wait("news"); });
  writer.set("other", "something else");
  writer.set("news", std::string("a\0b", 3));
  EXPECT_EQ(early.get(), std::string("a\0b", 3));
  EXPECT_EQ(writer.wait("news"), std::string("a\0b", 3));  // the text remains
}

TEST(StoreMailbox, WorksAlongsideTheCollectivesOfAGroup) {
  on_ranks(3, [](ProcessGroup& group) {
    const auto mailbox = group.store_mailbox();
    std::future<std::string> received;
    if (!group.is_rank_zero())
      received = std::async(std::launch::async, [&] { return mailbox->wait("from rank 0"); });
    group.barrier();
    if (group.is_rank_zero()) mailbox->set("from rank 0", "hello");
    if (received.valid()) {
      EXPECT_EQ(received.get(), "hello");
    }
  });
}

TEST(StoreMailbox, IsNullForASingleRank) {
  EXPECT_EQ(ProcessGroup().store_mailbox(), nullptr);
}

}  // namespace
}  // namespace dalle
