#include "data/shards/shard_list.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "core/files.h"
#include "error_of.h"
#include "temporary_directory.h"

namespace dalle {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

std::vector<std::string> names_of(const std::vector<ShardFile>& shards) {
  std::vector<std::string> names;
  for (const ShardFile& shard : shards) names.push_back(shard.name);
  return names;
}

TEST(ExpandRanges, PadsToTheWidthOfEndsThatBeginWithZero) {
  EXPECT_THAT(expand_ranges("d/{00008..00011}.tar"),
              ElementsAre("d/00008.tar", "d/00009.tar", "d/00010.tar", "d/00011.tar"));
  EXPECT_THAT(expand_ranges("{8..11}"), ElementsAre("8", "9", "10", "11"));
  EXPECT_THAT(expand_ranges("{0..2}"), ElementsAre("0", "1", "2"));
  EXPECT_THAT(expand_ranges("{08..100000}").front(), "000008");
  EXPECT_THAT(expand_ranges("{7..7}"), ElementsAre("7"));
}

TEST(ExpandRanges, CombinesSeveralWithTheLastOneFastest) {
  EXPECT_THAT(expand_ranges("{1..2}/x{00..01}.tar"),
              ElementsAre("1/x00.tar", "1/x01.tar", "2/x00.tar", "2/x01.tar"));
  EXPECT_THAT(expand_ranges("plain.tar"), ElementsAre("plain.tar"));
}

TEST(ExpandRanges, RejectsBracesWithoutARange) {
  EXPECT_EQ(error_of([] { expand_ranges("d/{a..b}.tar"); }),
            "d/{a..b}.tar: found {a..b}, expected a range of numbers such as {00000..00012}");
  for (const char* pattern : {"{1,2}", "{}", "{..}", "{1..}", "{1...2}", "{-1..2}", "{1}",
                              "{1..99999999999999999999999}"})
    EXPECT_THAT(error_of([&] { expand_ranges(pattern); }), HasSubstr("expected a range of numbers"))
        << pattern;
  EXPECT_EQ(error_of([] { expand_ranges("{00000..00012.tar"); }),
            "{00000..00012.tar: missing closing brace, expected a range such as {00000..00012}");
  EXPECT_EQ(error_of([] { expand_ranges("{5..3}"); }),
            "{5..3}: the range {5..3} ends before it begins");
}

TEST(ExpandRanges, RejectsPatternsWithTooManyPaths) {
  for (const char* pattern :
       {"{0..99999999999}", "{0..18446744073709551615}", "{0..9999}{0..9999}"})
    EXPECT_THAT(error_of([&] { expand_ranges(pattern); }),
                HasSubstr("expands to more than 1000000 shards"))
        << pattern;
}

TEST(ListShards, AcceptsAFileAFolderOrAPattern) {
  const TemporaryDirectory folder;
  for (const char* name : {"00002.tar", "00000.tar", "00001.tar", "00000.parquet",
                           "00000.tar.index", "00000_stats.json", ".x.tar"})
    write_file_atomically(folder / name, "");
  const std::string root = folder.path().string();
  EXPECT_THAT(list_shards(root + "/00001.tar"),
              ElementsAre(ShardFile{root + "/00001.tar", "00001.tar"}));
  EXPECT_THAT(names_of(list_shards(root)), ElementsAre("00000.tar", "00001.tar", "00002.tar"));
  EXPECT_THAT(list_shards(root + "/{00001..00002}.tar"),
              ElementsAre(ShardFile{root + "/00001.tar", "00001.tar"},
                          ShardFile{root + "/00002.tar", "00002.tar"}));
}

TEST(ListShards, NamesShardsRelativeToTheCommonFolderOfAPattern) {
  const TemporaryDirectory folder;
  make_directories(folder / "part1");
  make_directories(folder / "part2");
  write_file_atomically(folder / "part1/0.tar", "");
  write_file_atomically(folder / "part2/0.tar", "");
  EXPECT_THAT(names_of(list_shards(folder.path().string() + "/part{1..2}/{0..0}.tar")),
              ElementsAre("part1/0.tar", "part2/0.tar"));
}

TEST(ListShards, SkipsMissingShardsAndLogsOneLine) {
  const TemporaryDirectory folder;
  write_file_atomically(folder / "00000.tar", "");
  write_file_atomically(folder / "00003.tar", "");
  testing::internal::CaptureStderr();
  EXPECT_THAT(names_of(list_shards(folder.path().string() + "/{00000..00004}.tar")),
              ElementsAre("00000.tar", "00003.tar"));
  const std::string log = testing::internal::GetCapturedStderr();
  EXPECT_THAT(log, HasSubstr("3 of the 5 shards of "));
  EXPECT_THAT(log, HasSubstr("are missing; the first is " + (folder / "00001.tar").string()));
  EXPECT_EQ(std::ranges::count(log, '\n'), 1);
}

TEST(ListShards, NamesAMissingShardIfNoneExist) {
  const TemporaryDirectory folder;
  const std::string root = folder.path().string();
  EXPECT_EQ(error_of([&] { list_shards(root); }),
            root + ": found no .tar files in the folder, expected WebDataset shards");
  EXPECT_EQ(error_of([&] { list_shards(root + "/{0..4}.tar"); }),
            root + "/{0..4}.tar: none of its 5 shards exist; the first is " + root + "/0.tar");
  EXPECT_THAT(error_of([&] { list_shards(root + "/x.tar"); }),
              HasSubstr("/x.tar: no such file or folder, expected a .tar file, a folder of them or "
                        "a pattern such as data/{00000..00012}.tar"));
}

TEST(ListShards, NamesCompressedShardsAndImages) {
  const TemporaryDirectory folder;
  const std::string root = folder.path().string();
  write_file_atomically(folder / "a.JPG", "");
  EXPECT_THAT(error_of([&] { list_shards(root); }),
              HasSubstr("to use its 1 images, set data.kind=folder"));
  write_file_atomically(folder / "00001.tar.gz", "");
  write_file_atomically(folder / "00000.tgz", "");
  EXPECT_THAT(error_of([&] { list_shards(root); }),
              HasSubstr("2 files such as 00000.tgz are compressed; decompress them first"));
  write_file_atomically(folder / "00002.tar", "");
  testing::internal::CaptureStderr();
  EXPECT_THAT(names_of(list_shards(root)), ElementsAre("00002.tar"));
  EXPECT_THAT(testing::internal::GetCapturedStderr(),
              HasSubstr("ignored 2 compressed shards; decompress them first"));
}

}  // namespace
}  // namespace dalle
