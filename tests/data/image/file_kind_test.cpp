#include "data/image/file_kind.h"

#include <string>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace dalle {
namespace {

using namespace std::string_literals;
using testing::StartsWith;

TEST(FileKind, RecognizesFailedDownloads) {
  EXPECT_EQ(file_kind(""), "empty");
  EXPECT_EQ(file_kind("\xef\xbb\xbf\n <!DOCTYPE HTML PUBLIC>"), "an HTML page");
  EXPECT_EQ(file_kind("<html lang=\"en\">"), "an HTML page");
  EXPECT_EQ(file_kind("<?xml version=\"1.0\"?><Error>"), "an XML document");
  EXPECT_THAT(file_kind("version https://git-lfs.github.com/spec/v1\noid sha256:"),
              StartsWith("a Git LFS pointer"));
  EXPECT_EQ(file_kind(std::string(kFileKindBytes, '\0')), "zeros");
}

TEST(FileKind, NamesTheCompressionAndHowToUndoIt) {
  EXPECT_EQ(file_kind("\x1f\x8b\x08"), "gzip-compressed (gunzip it first)");
  EXPECT_EQ(file_kind("\x28\xb5\x2f\xfd"), "zstd-compressed (unzstd it first)");
  EXPECT_EQ(file_kind("BZh9"), "bzip2-compressed (bunzip2 it first)");
  EXPECT_EQ(file_kind("\xfd\x37zXZ\0\0"s), "xz-compressed (unxz it first)");
}

TEST(FileKind, IsEmptyForUnknownFiles) {
  EXPECT_EQ(file_kind("what is this"), "");
  EXPECT_EQ(file_kind("0.jpg\0\0"s), "");
}

}  // namespace
}  // namespace dalle
