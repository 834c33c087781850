#include "data/folder_dataset.h"

#include <sys/stat.h>
#include <unistd.h>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "core/files.h"
#include "error_of.h"
#include "temporary_directory.h"

namespace dalle {
namespace {

namespace fs = std::filesystem;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

void put(const fs::path& path, const std::string& content = "image") {
  fs::create_directories(path.parent_path());
  write_file_atomically(path, content);
}

std::vector<std::string> keys_of(const Dataset& dataset) {
  std::vector<std::string> keys;
  for (int64_t i = 0; i < dataset.size(); ++i) keys.push_back(dataset.key(i));
  return keys;
}

TEST(FolderDataset, FindsImagesAtAnyDepthInByteOrder) {
  const TemporaryDirectory folder;
  for (const char* name :
       {"b.png", "a/x.JPEG", "c.jfif", "a/deep/er/y.WebP", "B.jpg", "a.bmp", "é.jpg"})
    put(folder / name);
  for (const char* name : {"notes.txt", "a/x.gif", "jpg", ".hidden.jpg", ".thumbs/t.jpg",
                           "@eaDir/b.png/SYNOPHOTO_M.jpg", "a/lost+found/x.jpg", "__MACOSX/b.png"})
    put(folder / name);
  EXPECT_THAT(
      keys_of(FolderDataset(folder.path())),
      ElementsAre("B.jpg", "a.bmp", "a/deep/er/y.WebP", "a/x.JPEG", "b.png", "c.jfif", "é.jpg"));
}

TEST(FolderDataset, ReadsTheCaptionsNextToAnImage) {
  const TemporaryDirectory folder;
  put(folder / "cats/tom.v2.jpg", std::string("bytes\0of tom", 12));
  put(folder / "cats/tom.v2.txt",
      "\xef\xbb\xbf"
      "a cat\r\n\r\nTom\r\n");
  const FolderDataset dataset(folder.path());
  const RawSample example = dataset.get(0);
  EXPECT_EQ(example.key, "cats/tom.v2.jpg");
  EXPECT_EQ(std::get<std::string>(example.image), std::string("bytes\0of tom", 12));
  EXPECT_THAT(example.captions, ElementsAre("a cat", "Tom"));
  EXPECT_THAT(dataset.captions(0), ElementsAre("a cat", "Tom"));
}

TEST(FolderDataset, IgnoresTheCaseOfExtensions) {
  const TemporaryDirectory folder;
  put(folder / "a/IMG_1.JPG");
  put(folder / "a/IMG_1.TXT", "one");
  put(folder / "a/IMG_2.jpg");
  put(folder / "a/IMG_2.Txt", "two");
  put(folder / "a/IMG_3.JPG");
  put(folder / "a/IMG_3.TXT", "left out");
  put(folder / "a/IMG_3.txt", "three");
  const FolderDataset dataset(folder.path());
  EXPECT_THAT(dataset.captions(0), ElementsAre("one"));
  EXPECT_THAT(dataset.captions(1), ElementsAre("two"));
  EXPECT_THAT(dataset.captions(2), ElementsAre("three"));
  EXPECT_THAT(dataset.get(1).captions, ElementsAre("two"));
}

TEST(FolderDataset, NamesIgnoredSystemFolders) {
  const TemporaryDirectory folder;
  for (const char* name : {"a.jpg", "@eaDir/b.jpg", "c/#recycle/d.jpg"}) put(folder / name);
  testing::internal::CaptureStderr();
  EXPECT_THAT(keys_of(FolderDataset(folder.path())), ElementsAre("a.jpg"));
  EXPECT_EQ(testing::internal::GetCapturedStderr(),
            "data: " + folder.path().string() + ": ignored system folders: @eaDir and 1 more\n");
}

TEST(FolderDataset, CountsFilesOfOtherTypes) {
  const TemporaryDirectory folder;
  for (const char* name : {"a.jpg", "a.txt", "1.avif", "2.AVIF", "deep/3.avif", "x.gif", "README"})
    put(folder / name);
  testing::internal::CaptureStderr();
  const FolderDataset dataset(folder.path());
  EXPECT_EQ(testing::internal::GetCapturedStderr(),
            "data: " + folder.path().string() +
                ": ignored 5 files of other types: 3 .avif, 1 .gif, 1 without an extension\n");
  EXPECT_THAT(keys_of(dataset), ElementsAre("a.jpg"));
}

TEST(FolderDataset, NamesIgnoredSubfoldersWithoutPermission) {
  if (::geteuid() == 0) GTEST_SKIP() << "root may read every folder";
  const TemporaryDirectory folder;
  put(folder / "a.jpg");
  put(folder / "private/b.jpg");
  fs::permissions(folder / "private", fs::perms::none);
  testing::internal::CaptureStderr();
  EXPECT_THAT(keys_of(FolderDataset(folder.path())), ElementsAre("a.jpg"));
  EXPECT_THAT(testing::internal::GetCapturedStderr(),
              HasSubstr("without read permission: private"));
  fs::permissions(folder / "private", fs::perms::owner_all);
}

TEST(FolderDataset, ReportsInaccessibleCaptions) {
  const TemporaryDirectory folder;
  put(folder / "a.jpg");
  fs::create_symlink("a.txt", folder / "a.txt");  // a loop: it neither exists nor is missing
  const FolderDataset dataset(folder.path());
  EXPECT_THAT(error_of([&] { dataset.captions(0); }), HasSubstr("a.txt: cannot read: Too many"));
}

TEST(FolderDataset, DistinguishesEqualNamesInDifferentFolders) {
  const TemporaryDirectory folder;
  put(folder / "cats/1.jpg", "cat");
  put(folder / "cats/1.txt", "a cat");
  put(folder / "dogs/1.jpg", "dog");
  put(folder / "dogs/1.txt", "a dog");
  put(folder / "birds/1.jpg", "bird");
  const FolderDataset dataset(folder.path());
  EXPECT_THAT(keys_of(dataset), ElementsAre("birds/1.jpg", "cats/1.jpg", "dogs/1.jpg"));
  EXPECT_THAT(dataset.get(0).captions, IsEmpty());
  EXPECT_THAT(dataset.get(1).captions, ElementsAre("a cat"));
  EXPECT_THAT(dataset.get(2).captions, ElementsAre("a dog"));
}

TEST(FolderDataset, FollowsLinksOnceAndEndsInLoops) {
  const TemporaryDirectory folder;
  put(folder / "z/1.jpg");
  put(folder / "elsewhere/2.jpg");
  fs::create_directory(folder / "data");
  fs::rename(folder / "z", folder / "data/z");
  fs::create_directory_symlink(folder / "elsewhere", folder / "data/linked");
  fs::create_directory_symlink(folder / "data", folder / "data/z/loop");
  fs::create_directory_symlink("z", folder / "data/a");  // found under its own path
  fs::create_symlink("../../elsewhere/2.jpg", folder / "data/z/3.jpg");
  EXPECT_THAT(keys_of(FolderDataset(folder / "data")),
              ElementsAre("linked/2.jpg", "z/1.jpg", "z/3.jpg"));
}

TEST(FolderDataset, ListsABrokenLinkAndReportsItWhenRead) {
  const TemporaryDirectory folder;
  fs::create_symlink("nowhere.jpg", folder / "a.jpg");
  const FolderDataset dataset(folder.path());
  EXPECT_THAT(error_of([&] { dataset.get(0); }), HasSubstr("a.jpg: cannot read"));
}

TEST(FolderDataset, ReportsFilesThatWereRemovedOrReplaced) {
  const TemporaryDirectory folder;
  put(folder / "a.jpg");
  const FolderDataset dataset(folder.path());
  fs::remove(folder / "a.jpg");
  EXPECT_THAT(error_of([&] { dataset.get(0); }), HasSubstr("a.jpg: cannot read: No such file"));
  ASSERT_EQ(::mkfifo((folder / "a.jpg").c_str(), 0600), 0);  // reading it would never end
  EXPECT_THAT(error_of([&] { dataset.get(0); }), HasSubstr("a.jpg: expected a file"));
}

TEST(FolderDataset, RejectsHugeFilesWithoutReadingThem) {
  const TemporaryDirectory folder;
  put(folder / "a.jpg");
  fs::resize_file(folder / "a.jpg", uintmax_t{1} << 40);  // sparse: takes no space
  const FolderDataset dataset(folder.path());
  EXPECT_THAT(error_of([&] { dataset.get(0); }),
              HasSubstr("a.jpg: has 1099511627776 bytes, more than"));
}

TEST(FolderDataset, NamesCaptionsThatAreNotUtf8) {
  const TemporaryDirectory folder;
  put(folder / "a.jpg");
  put(folder / "a.txt", "caf\xe9");
  const FolderDataset dataset(folder.path());
  EXPECT_THAT(error_of([&] { dataset.get(0); }),
              HasSubstr("/a.txt: captions: byte 3 (0xe9) is not UTF-8"));
  EXPECT_THAT(error_of([&] { dataset.captions(0); }), HasSubstr("/a.txt: captions: byte 3"));
}

TEST(FolderDataset, ExplainsWhatIsWrongWithTheFolder) {
  const TemporaryDirectory folder;
  put(folder / "a.txt", "a caption without an image");
  EXPECT_EQ(error_of([&] { FolderDataset{folder.path()}; }),
            folder.path().string() +
                ": no images in the folder, expected .jpg, .png, .webp or .bmp files");
  put(folder / "b.gif");
  EXPECT_THAT(error_of([&] { FolderDataset{folder.path()}; }),
              HasSubstr("; found 1 files of other types: 1 .gif"));
  EXPECT_EQ(error_of([&] { FolderDataset{folder / "none"}; }),
            (folder / "none").string() + ": no such folder");
  EXPECT_EQ(error_of([&] { FolderDataset{folder / "a.txt"}; }),
            (folder / "a.txt").string() + ": expected a folder of images, found a file");
}

}  // namespace
}  // namespace dalle
