#include "dalle/dist/note_board.h"

#include <future>

#include <gtest/gtest.h>
#include <torch/csrc/distributed/c10d/HashStore.hpp>

#include "ranks.h"

namespace dalle {
namespace {

TEST(NoteBoard, BringsANoteToWhoeverWaitsForIt) {
  const auto store = c10::make_intrusive<c10d::HashStore>();
  NoteBoard writer(store), reader(store);
  auto early = std::async(std::launch::async, [&] { return reader.wait_for("news"); });
  writer.leave("other", "something else");
  writer.leave("news", std::string("a\0b", 3));
  EXPECT_EQ(early.get(), std::string("a\0b", 3));
  EXPECT_EQ(writer.wait_for("news"), std::string("a\0b", 3));  // it stays
}

TEST(NoteBoard, IsBesideTheCollectivesOfAGroup) {
  on_ranks(3, [](ProcessGroup& group) {
    const auto notes = group.note_board();
    std::future<std::string> heard;
    if (!group.is_first())
      heard = std::async(std::launch::async, [&] { return notes->wait_for("from the first"); });
    group.barrier();
    if (group.is_first()) notes->leave("from the first", "hello");
    if (heard.valid()) {
      EXPECT_EQ(heard.get(), "hello");
    }
  });
}

TEST(NoteBoard, OfAWorldOfOneIsNone) {
  EXPECT_EQ(ProcessGroup().note_board(), nullptr);
}

}  // namespace
}  // namespace dalle
