#include "checkpoint/checkpoint.h"

#include <limits>
#include <random>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "checkpoint/checkpoint_content.h"
#include "error_of.h"
#include "temporary_directory.h"

namespace dalle {
namespace {

using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;
namespace fs = std::filesystem;

TEST(Checkpoint, ReadsBackAsSaved) {
  const TemporaryDirectory folder;
  CheckpointStore store(folder / "dvae", 3);
  EXPECT_FALSE(read_newest_checkpoint(folder / "dvae"));
  store.save(content_of(1200));
  EXPECT_TRUE(same(read_newest_checkpoint(folder / "dvae").value(), content_of(1200)));
  EXPECT_THAT(names_in(folder / "dvae"), ElementsAre("latest", "step-00001200"));
  EXPECT_THAT(names_in(folder / "dvae" / "step-00001200"),
              ElementsAre("config.yaml", "manifest.json", "optimizer.safetensors",
                          "tokenizer.model", "weights.safetensors"));
  EXPECT_EQ(read_file(folder / "dvae" / "latest"), "step-00001200\n");
}

TEST(Checkpoint, EqualContentGivesEqualBytes) {
  const TemporaryDirectory folder;
  for (const char* name : {"a", "b"}) CheckpointStore(folder / name, 1).save(content_of(7), 0.1);
  for (const std::string& file : names_in(folder / "a" / "step-00000007"))
    EXPECT_EQ(read_file(folder / "a" / "step-00000007" / file),
              read_file(folder / "b" / "step-00000007" / file));
}

TEST(Checkpoint, ACopyElsewhereReadsByItself) {
  const TemporaryDirectory folder;
  CheckpointStore(folder / "store", 1).save(content_of(5));
  fs::copy(folder / "store" / "step-00000005", folder / "copy");
  fs::remove_all(folder / "store");
  EXPECT_TRUE(same(read_checkpoint(folder / "copy"), content_of(5)));
}

TEST(Checkpoint, VerifiesTensorsThatAreReadLater) {
  const TemporaryDirectory folder;
  CheckpointStore store(folder.path(), 2);
  store.save(content_of(5));
  store.save(content_of(6));
  CheckpointContent expected = content_of(6);
  const NamedTensors optimizer = expected.tensors.extract("optimizer").mapped();
  const auto read = [&] {
    return read_newest_checkpoint(folder.path(), {}, {"optimizer"}).value();
  };
  const CheckpointContent content = read();
  EXPECT_TRUE(same(content, expected));
  EXPECT_EQ(safetensors_bytes(read_tensors(content.path, "optimizer")),
            safetensors_bytes(optimizer));
  flip_bit(folder / "step-00000006" / "optimizer.safetensors", 100);
  EXPECT_EQ(read().step, 5);
}

TEST(Checkpoint, ReadsOnlyWhatIsAskedFor) {
  const TemporaryDirectory folder;
  CheckpointStore(folder.path(), 1).save(content_of(5));
  const fs::path checkpoint = folder / "step-00000005";
  put(checkpoint / "optimizer.safetensors", "corrupt");
  CheckpointContent expected = content_of(5);
  expected.tensors.erase("optimizer");
  expected.files.erase("tokenizer.model");
  EXPECT_TRUE(same(read_checkpoint(checkpoint, {"weights", "config.yaml"}), expected));
  EXPECT_THAT(error_of([&] {
                read_checkpoint(checkpoint, {"weights", "clip"});
              }),
              HasSubstr("step-00000005: the checkpoint has no clip"));
}

TEST(Checkpoint, KeepsTheLastAndTheBest) {
  const TemporaryDirectory folder;
  CheckpointStore store(folder.path(), 2);
  const double nan = std::numeric_limits<double>::quiet_NaN();
  const std::optional<double> scores[] = {3.0, 1.0, nan, 2.0, std::nullopt, 1.0};
  for (int64_t i = 0; i < 5; ++i) store.save(content_of(100 * (i + 1)), scores[i]);
  EXPECT_THAT(names_in(folder.path()),
              ElementsAre("best", "latest", "step-00000200", "step-00000400", "step-00000500"));
  EXPECT_EQ(read_file(folder / "best"), "step-00000200\n");
  store.save(content_of(600), scores[5]);  // as good as the best: the earlier one stays
  EXPECT_EQ(best_checkpoint(folder.path()), folder / "step-00000200");
  store.save(content_of(700), 0.5);
  EXPECT_THAT(names_in(folder.path()),
              ElementsAre("best", "latest", "step-00000600", "step-00000700"));
  EXPECT_EQ(read_file(folder / "best"), "step-00000700\n");
}

TEST(Checkpoint, ListsTheNewestFirstByNumberNotByName) {
  const TemporaryDirectory folder;
  CheckpointStore store(folder.path(), 3);
  for (const int64_t step : {5, 99'999'999, 100'000'000}) store.save(content_of(step));
  make_directories(folder / "step-by-step");
  EXPECT_THAT(
      checkpoints_in(folder.path()),
      ElementsAre(folder / "step-100000000", folder / "step-99999999", folder / "step-00000005"));
  EXPECT_TRUE(checkpoints_in(folder / "none").empty());
}

TEST(Checkpoint, EverySingleBitFlipIsDetected) {
  const TemporaryDirectory folder;
  CheckpointStore(folder.path(), 1).save(content_of(5), 0.25);
  const fs::path checkpoint = folder / "step-00000005";
  std::mt19937 random(1);
  const std::vector<std::string> files = names_in(checkpoint);
  for (int i = 0; i < 10'000; ++i) {
    const fs::path path = checkpoint / files[random() % files.size()];
    const size_t bit = random() % (8 * fs::file_size(path));
    flip_bit(path, bit);
    EXPECT_THAT(error_of([&] { read_checkpoint(checkpoint); }), HasSubstr(path.string() + ": "));
    flip_bit(path, bit);
  }
  EXPECT_TRUE(same(read_checkpoint(checkpoint), content_of(5)));
}

TEST(Checkpoint, EveryBitOfTheManifestCounts) {
  const TemporaryDirectory folder;
  CheckpointStore(folder.path(), 1).save({.step = 5, .tensors = {}, .files = {{"a", "b"}}}, 0.25);
  const fs::path path = folder / "step-00000005" / "manifest.json";
  const size_t bits = 8 * fs::file_size(path);
  for (size_t bit = 0; bit < bits; ++bit) {
    flip_bit(path, bit);
    EXPECT_NE(error_of([&] { verify_checkpoint(folder / "step-00000005"); }), "no error") << bit;
    flip_bit(path, bit);
  }
  EXPECT_NO_THROW(verify_checkpoint(folder / "step-00000005"));
}

TEST(Checkpoint, EveryTruncationAndEveryMissingFileIsNamed) {
  const TemporaryDirectory folder;
  CheckpointStore(folder.path(), 1).save(content_of(5));
  const fs::path checkpoint = folder / "step-00000005";
  for (const std::string& file : names_in(checkpoint)) {
    const std::string bytes = read_file(checkpoint / file);
    const bool is_manifest = file == "manifest.json";  // whose last byte is a mere line break
    for (size_t size = bytes.size() - (is_manifest ? 1 : 0); size-- > 0;) {
      fs::resize_file(checkpoint / file, size);
      EXPECT_THAT(error_of([&] { verify_checkpoint(checkpoint); }),
                  HasSubstr(file + (is_manifest ? ": corrupt: " : ": truncated: ")));
    }
    fs::remove(checkpoint / file);
    EXPECT_THAT(error_of([&] { verify_checkpoint(checkpoint); }),
                HasSubstr(file + ": cannot read: No such file"));
    put(checkpoint / file, bytes);
  }
  EXPECT_NO_THROW(verify_checkpoint(checkpoint));
}

TEST(Checkpoint, SaysWhatIsWrong) {
  const TemporaryDirectory folder;
  CheckpointStore(folder.path(), 1).save(content_of(5));
  const fs::path checkpoint = folder / "step-00000005";
  const auto error = [&] { return error_of([&] { read_checkpoint(checkpoint); }); };
  EXPECT_THAT(error_of([&] { read_checkpoint(folder / "none"); }),
              HasSubstr("/none: not a checkpoint: no such folder"));

  std::string weights = read_file(checkpoint / "weights.safetensors");
  put(checkpoint / "weights.safetensors", weights + "x");
  EXPECT_THAT(
      error(),
      AllOf(HasSubstr("weights.safetensors: corrupt: "),
            HasSubstr(fmt::format("{} bytes, expected {}", weights.size() + 1, weights.size()))));
  std::swap(weights.front(), weights.back());
  put(checkpoint / "weights.safetensors", weights);
  EXPECT_THAT(error(), HasSubstr("corrupt: its SHA-256 differs from the one in manifest.json"));

  const std::string manifest = read_file(checkpoint / "manifest.json");
  const auto change = [&](const std::string& from, const std::string& to) {
    std::string changed = manifest;
    changed.replace(changed.find(from), from.size(), to);
    put(checkpoint / "manifest.json", changed);
    return error();
  };
  EXPECT_THAT(
      change("\"format_version\": 1", "\"format_version\": 2"),
      HasSubstr("manifest.json: checkpoint of format version 2; this program reads version 1"));
  EXPECT_THAT(change("\"step\": 5", "\"step\": 6"),
              HasSubstr("corrupt: its content does not match its own SHA-256"));
  EXPECT_THAT(change("\"step\": 5", "\"step\": \"5\""),
              HasSubstr("corrupt: an entry is missing or has the wrong type"));
  EXPECT_THAT(change("{", "["), HasSubstr("corrupt: not a JSON object"));
}

TEST(Checkpoint, TheLayoutOfAManifestDoesNotMatter) {
  const TemporaryDirectory folder;
  CheckpointStore(folder.path(), 1).save(content_of(5), 0.1);
  const fs::path path = folder / "step-00000005" / "manifest.json";
  std::string text = read_file(path);
  std::erase(text, '\n');
  put(path, text);
  EXPECT_NO_THROW(verify_checkpoint(folder / "step-00000005"));
}

TEST(Checkpoint, AManifestReachesNoFileOutside) {
  const TemporaryDirectory folder;
  put(folder / "secret", "b");
  CheckpointStore(folder / "store", 1).save({.step = 5, .tensors = {}, .files = {{"secret", "b"}}});
  const fs::path checkpoint = folder / "store" / "step-00000005";
  // An attacker can compute the manifest's sum as well as we can.
  std::string compact = fmt::format(
      R"({{"format_version":1,"step":5,"score":null,"files":{{"../../secret":{{"size":1,"sha256":"{}"}}}}}})",
      sha256("b"));
  const std::string text = fmt::format(R"({{
  "format_version": 1,
  "step": 5,
  "score": null,
  "files": {{
    "../../secret": {{
      "size": 1,
      "sha256": "{}"
    }}
  }},
  "manifest_sha256": "{}"
}}
)",
                                       sha256("b"), sha256(compact));
  put(checkpoint / "manifest.json", text);
  EXPECT_THAT(error_of([&] { read_checkpoint(checkpoint); }),
              HasSubstr("manifest.json: lists a file outside the checkpoint: \"../../secret\""));
}

}  // namespace
}  // namespace dalle
