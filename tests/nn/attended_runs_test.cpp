#include "nn/attended_runs.h"

#include <set>

#include <gtest/gtest.h>

#include "nn/attention_mask.h"

namespace dalle {
namespace {

constexpr SequenceLayout kLayouts[] = {{.text_length = 3, .grid_height = 1, .grid_width = 1},
                                       {.text_length = 3, .grid_height = 4, .grid_width = 4},
                                       {.text_length = 3, .grid_height = 3, .grid_width = 7},
                                       {.text_length = 3, .grid_height = 9, .grid_width = 5}};

TEST(AttendedRuns, AreTheCellsOfTheMask) {
  for (const SequenceLayout& layout : kLayouts)
    for (const auto& [kind, name] : enum_names(AttentionKind{}))
      for (const int64_t kernel : {1, 3, 5}) {
        const AttendedRuns runs(kind, layout, kernel);
        const auto mask = attention_mask(kind, layout, kernel);
        for (int64_t p = 0; p < layout.image_length(); ++p) {
          std::set<int64_t> expected, found;
          for (int64_t key = 0; key < layout.image_length(); ++key)
            if (mask[layout.text_length + p][layout.text_length + key].item<bool>())
              expected.insert(runs.cell(key));
          int64_t end = -1;
          for (const CellRun& run : runs.runs(p)) {
            EXPECT_GT(run.begin, end) << "runs are in order and could not be joined";
            end = run.begin + run.count;
            for (int64_t cell = run.begin; cell < end; ++cell) found.insert(cell);
          }
          EXPECT_EQ(found, expected) << name << " " << p;
        }
      }
}

TEST(AttendedRuns, GivesEachPositionACellOfItsOwn) {
  for (const SequenceLayout& layout : kLayouts)
    for (const auto& [kind, name] : enum_names(AttentionKind{})) {
      const AttendedRuns runs(kind, layout, 3);
      std::set<int64_t> cells;
      for (int64_t p = 0; p < layout.image_length(); ++p) cells.insert(runs.cell(p));
      EXPECT_EQ(static_cast<int64_t>(cells.size()), layout.image_length()) << name;
      EXPECT_EQ(*cells.begin(), 0) << name;
      EXPECT_EQ(*cells.rbegin(), layout.image_length() - 1) << name;
    }
}

TEST(AttendedRuns, AreFew) {
  const SequenceLayout layout{.text_length = 3, .grid_height = 8, .grid_width = 8};
  const auto most = [&](AttentionKind kind) {
    const AttendedRuns runs(kind, layout, 5);
    size_t count = 0;
    for (int64_t p = 0; p < layout.image_length(); ++p)
      count = std::max(count, runs.runs(p).size());
    return count;
  };
  EXPECT_EQ(most(AttentionKind::kDense), 1u);
  EXPECT_EQ(most(AttentionKind::kRow), 1u);
  EXPECT_EQ(most(AttentionKind::kColumn), 1u);
  EXPECT_EQ(most(AttentionKind::kConv), 4u);  // 3 rows of the window and what wraps around
}

}  // namespace
}  // namespace dalle
