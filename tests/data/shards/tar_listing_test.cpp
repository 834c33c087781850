#include "data/shards/tar_listing.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "data/test_tars.h"
#include "error_of.h"
#include "temporary_directory.h"

namespace dalle {
namespace {

using testing::HasSubstr;
using testing::IsEmpty;

/// Reads the content of the listed members by their offsets.
NamedContents contents_of(const std::filesystem::path& path, const TarListing& listing) {
  const std::string bytes = read_file(path);
  NamedContents contents;
  for (const TarMember& member : listing.members)
    contents.emplace_back(member.name, bytes.substr(member.offset, member.size));
  return contents;
}

TEST(TarListing, LocatesTheContentOfEveryMember) {
  const TemporaryDirectory folder;
  NamedContents members = {
      {"empty.txt", ""}, {"one.txt", "1"}, {"block.bin", std::string(512, 'b')}};
  for (int i = 0; i < 100; ++i)
    members.emplace_back("d/" + std::to_string(i), std::string(i * 997, static_cast<char>(i)));
  write_tar(folder / "a.tar", members);
  const TarListing listing = list_tar(folder / "a.tar");
  EXPECT_EQ(contents_of(folder / "a.tar", listing), members);
  EXPECT_EQ(listing.error, "");
}

TEST(TarListing, ReadsLongNamesFromGnuAndPaxHeaders) {
  const TemporaryDirectory folder;
  const std::string gnu_name = "gnu/" + std::string(200, 'g') + ".txt";
  const std::string pax_name = "pax/" + std::string(150, 'p') + ".txt";
  const std::string record_end = " path=" + pax_name + "\n";
  const std::string record = std::to_string(record_end.size() + 3) + record_end;
  const std::string bytes = tar_member("././@LongLink", gnu_name + '\0', 'L') +
                            tar_member(gnu_name, "gnu content") + tar_member("x", record, 'x') +
                            tar_member("shortened", "pax content") + kTarEnd;
  write_file_atomically(folder / "a.tar", bytes);
  EXPECT_EQ(contents_of(folder / "a.tar", list_tar(folder / "a.tar")),
            (NamedContents{{gnu_name, "gnu content"}, {pax_name, "pax content"}}));
}

TEST(TarListing, IgnoresMembersThatAreNotRegularFiles) {
  const TemporaryDirectory folder;
  write_file_atomically(folder / "a.tar", tar_member("d/", "", '5') + tar_member("link", "", '2') +
                                              tar_member("d/a.txt", "a") + kTarEnd);
  EXPECT_EQ(contents_of(folder / "a.tar", list_tar(folder / "a.tar")),
            (NamedContents{{"d/a.txt", "a"}}));
}

TEST(TarListing, KeepsCompleteMembersOfATruncatedArchive) {
  const TemporaryDirectory folder;
  const NamedContents members = {
      {"a", std::string(700, 'a')}, {"b", std::string(100, 'b')}, {"c", std::string(512, 'c')}};
  const std::string intact = tar_of(members);
  std::vector<size_t> ends;  // of the content of each member
  for (const TarMember& member :
       (write_tar(folder / "w.tar", members), list_tar(folder / "w.tar")).members)
    ends.push_back(member.offset + member.size);
  for (size_t length = ends.front(); length < intact.size() - 1024; length += 61) {
    write_file_atomically(folder / "cut.tar", intact.substr(0, length));
    const TarListing listing = list_tar(folder / "cut.tar");
    const auto kept = std::ranges::count_if(ends, [&](size_t end) { return end <= length; });
    EXPECT_EQ(std::ssize(listing.members), kept) << length;
    EXPECT_NE(listing.error, "") << length;
  }
}

TEST(TarListing, KeepsMembersBeforeACorruptHeader) {
  const TemporaryDirectory folder;
  std::string bytes = tar_member("a", "1") + tar_member("b", "2") + tar_member("c", "3") + kTarEnd;
  bytes[1024 + 5] = 'x';  // the checksum of b's header no longer matches
  write_file_atomically(folder / "a.tar", bytes);
  const TarListing listing = list_tar(folder / "a.tar");
  EXPECT_EQ(contents_of(folder / "a.tar", listing), (NamedContents{{"a", "1"}}));
  EXPECT_THAT(listing.error, HasSubstr("Damaged tar archive"));
}

TEST(TarListing, RejectsSizesBeyondTheEndOfTheFile) {
  const TemporaryDirectory folder;
  write_file_atomically(folder / "a.tar",
                        tar_member("a", "1") + tar_header("huge", 0x1ffffffffULL) + kTarEnd);
  const TarListing listing = list_tar(folder / "a.tar");
  EXPECT_EQ(listing.members.size(), 1U);
  EXPECT_EQ(listing.error, "truncated in member 'huge'");
}

TEST(TarListing, ReadsConcatenatedArchives) {
  const TemporaryDirectory folder;
  const std::string padding(9 * 512, '\0');  // tar pads archives to records of 20 blocks
  write_file_atomically(folder / "a.tar", tar_of({{"a", "1"}, {"b", "2"}}) + padding +
                                              tar_of({{"c", std::string(600, '3')}}) + padding +
                                              tar_of({{"d", "4"}}));
  const TarListing listing = list_tar(folder / "a.tar");
  EXPECT_EQ(contents_of(folder / "a.tar", listing),
            (NamedContents{{"a", "1"}, {"b", "2"}, {"c", std::string(600, '3')}, {"d", "4"}}));
  EXPECT_EQ(listing.error, "");
}

TEST(TarListing, ReportsOtherDataAfterTheArchive) {
  const TemporaryDirectory folder;
  write_file_atomically(folder / "a.tar", tar_of({{"a", "1"}}) + std::string(1024, 'x'));
  const TarListing listing = list_tar(folder / "a.tar");
  EXPECT_EQ(contents_of(folder / "a.tar", listing), (NamedContents{{"a", "1"}}));
  EXPECT_NE(listing.error, "");
}

TEST(TarListing, KeepsPaxNamesThatTheLocaleCannotRepresent) {
  const TemporaryDirectory folder;
  const std::string name = "caf\xc3\xa9/\xe5\x9b\xbe.txt";
  const std::string record_end = " path=" + name + "\n";
  const std::string record = std::to_string(record_end.size() + 2) + record_end;
  write_file_atomically(folder / "a.tar", tar_member("g", "19 comment=git hash\n", 'g') +
                                              tar_member("x", record, 'x') +
                                              tar_member("cafe", "text") + kTarEnd);
  EXPECT_EQ(contents_of(folder / "a.tar", list_tar(folder / "a.tar")),
            (NamedContents{{name, "text"}}));
}

TEST(TarListing, NamesTheKindOfFilesThatAreNotTarArchives) {
  const TemporaryDirectory folder;
  const auto error_in = [&](const std::string& content) {
    write_file_atomically(folder / "a.tar", content);
    const TarListing listing = list_tar(folder / "a.tar");
    EXPECT_THAT(listing.members, IsEmpty());
    return listing.error;
  };
  EXPECT_EQ(error_in(""), "empty, expected a tar archive");
  EXPECT_EQ(error_in("<!DOCTYPE html><title>404</title>" + std::string(5000, ' ')),
            "an HTML page, expected a tar archive");
  EXPECT_EQ(error_in("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 5\n"),
            "a Git LFS pointer (run git lfs pull to fetch the file), expected a tar archive");
  EXPECT_EQ(error_in("\x1f\x8b\x08" + std::string(2000, 'z')),
            "gzip-compressed (gunzip it first), expected a tar archive");
  EXPECT_THAT(error_in(std::string(5000, 't')), HasSubstr(", expected a tar archive"));
}

TEST(TarListing, RejectsUnreadableFiles) {
  const TemporaryDirectory folder;
  EXPECT_THAT(error_of([&] { list_tar(folder / "none.tar"); }),
              HasSubstr("none.tar: no such file"));
  EXPECT_THAT(error_of([&] { list_tar(folder.path()); }), HasSubstr("not a regular file"));
}

TEST(TarListing, IsEmptyForAnArchiveWithoutMembers) {
  const TemporaryDirectory folder;
  write_tar(folder / "a.tar", {});
  EXPECT_THAT(list_tar(folder / "a.tar").members, IsEmpty());
  EXPECT_EQ(list_tar(folder / "a.tar").error, "");
}

}  // namespace
}  // namespace dalle
