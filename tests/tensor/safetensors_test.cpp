#include "tensor/safetensors.h"

#include <cstring>
#include <filesystem>
#include <fstream>
#include <string>
#include <string_view>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "error_of.h"
#include "temporary_directory.h"

namespace dalle {
namespace {

using testing::AllOf;
using testing::EndsWith;
using testing::HasSubstr;

constexpr const char* kA = R"("a":{"dtype":"F32","shape":[2,3],"data_offsets":[0,24]})";

std::string length_bytes(uint64_t length) {
  std::string bytes(8, '\0');
  std::memcpy(bytes.data(), &length, 8);
  return bytes;
}

/// Does not flush to disk like write_file_atomically(), because tests write thousands of files.
void store(const std::filesystem::path& path, std::string_view bytes) {
  std::ofstream(path, std::ios::binary) << bytes;
}

/// The error for a file with this header and `data_size` bytes of data.
std::string error_of_header(const std::string& json, size_t data_size = 24) {
  const TemporaryDirectory folder;
  store(folder / "x", length_bytes(json.size()) + json + std::string(data_size, 'd'));
  return error_of([&] { read_safetensors_header(folder / "x"); });
}

/// The error for a file with one tensor "a" that has these members.
std::string error_of_entry(const std::string& members, size_t data_size = 24) {
  return error_of_header("{\"a\":{" + members + "}}", data_size);
}

SafetensorsHeader example() {
  return {.entries = {{"z.weight", "F32", {2, 3}, 0, 24},
                      {"scalar", "I64", {}, 24, 32},
                      {"empty", "BF16", {0, 7}, 32, 32},
                      {"\"quoted\" \u00e9", "U8", {3}, 32, 35}},
          .metadata = {{"format", "pt"}, {"note", "two\nlines"}}};
}

TEST(SafetensorsHeader, ReadsBackAsWrittenInOrder) {
  const TemporaryDirectory folder;
  SafetensorsHeader header = example();
  const std::string bytes = format_safetensors_header(header);
  EXPECT_EQ(bytes.size() % 8, 0u);
  EXPECT_EQ(bytes.substr(0, 8), length_bytes(bytes.size() - 8));
  store(folder / "x", bytes + std::string(35, 'd'));
  header.data_start = static_cast<int64_t>(bytes.size());
  EXPECT_EQ(read_safetensors_header(folder / "x"), header);
}

TEST(SafetensorsHeader, ReadsAFileWithoutTensors) {
  const TemporaryDirectory folder;
  store(folder / "x", format_safetensors_header({}));
  EXPECT_TRUE(read_safetensors_header(folder / "x").entries.empty());
}

TEST(SafetensorsHeader, ReadsDataInAnotherOrderThanTheHeader) {
  EXPECT_EQ(error_of_header(R"({"b":{"dtype":"U8","shape":[4],"data_offsets":[20,24]},
                                "a":{"dtype":"U8","shape":[20],"data_offsets":[0,20]}})"),
            "no error");
}

TEST(SafetensorsHeader, RejectsTruncatedFiles) {
  const TemporaryDirectory folder;
  const std::string bytes = format_safetensors_header(example()) + std::string(35, 'd');
  store(folder / "x", bytes);
  for (size_t size = bytes.size(); size-- > 0;) {
    std::filesystem::resize_file(folder / "x", size);
    EXPECT_THAT(error_of([&] { read_safetensors_header(folder / "x"); }), HasSubstr("/x: "))
        << size;
  }
}

TEST(SafetensorsHeader, SurvivesEveryChangedByte) {
  const TemporaryDirectory folder;
  const std::string bytes =
      format_safetensors_header({.entries = {{"a", "U8", {3}, 0, 3}}, .metadata = {}});
  for (size_t i = 0; i < bytes.size(); ++i)
    for (const char value : {'\0', '\xff', '"', '{', '[', '-', '9', ',', '.', 'e'}) {
      std::string changed = bytes + "ddd";
      changed[i] = value;
      store(folder / "x", changed);
      error_of(
          [&] { read_safetensors_header(folder / "x"); });  // any other exception fails the test
    }
}

TEST(SafetensorsHeader, RejectsFilesThatAreNotSafetensors) {
  const TemporaryDirectory folder;
  const auto error = [&] { return error_of([&] { read_safetensors_header(folder / "x"); }); };
  EXPECT_THAT(error(), HasSubstr("x: cannot read: No such file"));
  store(folder / "x", "");
  EXPECT_THAT(error(), EndsWith("x: not a safetensors file: it has 0 bytes"));
  store(folder / "x", "PK\3\4 a zip archive of another library");
  EXPECT_THAT(error(), HasSubstr("not a safetensors file: it claims a header of"));
  store(folder / "x", length_bytes(~uint64_t{0}) + "{}");
  EXPECT_THAT(error(), HasSubstr("claims a header of 18446744073709551615 bytes"));
  store(folder / "x", length_bytes(99'000'000) + "{}");
  EXPECT_THAT(error(), HasSubstr("claims a header of 99000000 bytes, but has only 10"));
  EXPECT_THAT(error_of([&] { read_safetensors_header(folder.path()); }),
              HasSubstr("expected a safetensors file, found a directory"));
}

TEST(SafetensorsHeader, RejectsInvalidJson) {
  EXPECT_THAT(error_of_header("", 0), HasSubstr("its header is not a JSON object"));
  EXPECT_THAT(error_of_header("[]", 0), HasSubstr("its header is not a JSON object"));
  EXPECT_THAT(error_of_header(" {}", 0), HasSubstr("its header is not a JSON object"));
  EXPECT_THAT(error_of_header(std::string("{}\0x", 4), 0),
              HasSubstr("its header is not a JSON object"));
  EXPECT_THAT(error_of_header("{\"a\":", 0), HasSubstr("invalid JSON in its header, at byte 13"));
  EXPECT_THAT(error_of_header("{} x", 0), HasSubstr("invalid JSON in its header"));
  EXPECT_THAT(error_of_header("{\"\xff\":1}", 0), HasSubstr("invalid JSON in its header"));
  EXPECT_THAT(error_of_header("{\"a\":" + std::string(1'000'000, '['), 0),
              HasSubstr("nested more than three levels deep"));
}

TEST(SafetensorsHeader, RejectsDuplicateKeys) {
  EXPECT_THAT(error_of_header(fmt::format("{{{},{}}}", kA, kA)), HasSubstr(R"(duplicate key "a")"));
  EXPECT_THAT(error_of_entry(R"("dtype":"F32","dtype":"F32","shape":[6],"data_offsets":[0,24])"),
              HasSubstr(R"(duplicate key "dtype")"));
  EXPECT_THAT(error_of_header(R"({"__metadata__":{"k":"1","k":"2"}})", 0),
              HasSubstr(R"(duplicate key "k")"));
}

TEST(SafetensorsHeader, RejectsMembersOfTheWrongKind) {
  EXPECT_THAT(error_of_header(R"({"a":3})"), HasSubstr(R"(tensor "a": expected an object)"));
  EXPECT_THAT(error_of_entry(R"("shape":[6],"data_offsets":[0,24])"), HasSubstr("missing dtype"));
  EXPECT_THAT(error_of_entry(R"("dtype":"F32","data_offsets":[0,24])"), HasSubstr("missing shape"));
  EXPECT_THAT(error_of_entry(R"("dtype":"F32","shape":[6])"), HasSubstr("missing data_offsets"));
  EXPECT_THAT(error_of_entry(R"("dtype":4,"shape":[6],"data_offsets":[0,24])"),
              HasSubstr("dtype: expected a string, found 4"));
  EXPECT_THAT(error_of_entry(R"("dtype":"F32","shape":6,"data_offsets":[0,24])"),
              HasSubstr("shape: expected a list, found 6"));
  EXPECT_THAT(error_of_entry(R"("dtype":"F32","shape":[6],"data_offsets":[0,8,24])"),
              HasSubstr("data_offsets: expected two numbers, found 3"));
  EXPECT_THAT(error_of_entry(R"("dtype":"F32","shape":[6],"data_offsets":[0,24],"stride":[1])"),
              HasSubstr(R"(unknown key "stride")"));
  EXPECT_THAT(error_of_header(R"({"__metadata__":[]})", 0), HasSubstr("expected an object"));
  EXPECT_THAT(error_of_header(R"({"__metadata__":{"k":1}})", 0),
              HasSubstr(R"(__metadata__: expected a string at "k", found number)"));
  EXPECT_THAT(error_of_header(R"({"a\u001b[31m":{}})"), HasSubstr("contains a control character"));
}

TEST(SafetensorsHeader, RejectsUnknownTypes) {
  EXPECT_THAT(error_of_entry(R"("dtype":"F8_E4M3","shape":[24],"data_offsets":[0,24])"),
              HasSubstr(R"(tensor "a": unsupported type "F8_E4M3")"));
  EXPECT_EQ(safetensors_element_size("f32"), std::nullopt);
  EXPECT_EQ(safetensors_element_size("BF16"), 2);
}

TEST(SafetensorsHeader, RejectsInvalidSizes) {
  for (const char* size : {"-1", "1.5", "6e0", "\"6\"", "null", "9223372036854775808", "[6]",
                           "1e400", "18446744073709551616"})
    EXPECT_NE(
        error_of_entry(fmt::format(R"("dtype":"F32","shape":[{}],"data_offsets":[0,24])", size)),
        "no error")
        << size;
  EXPECT_THAT(error_of_entry(R"("dtype":"F32","shape":[-1],"data_offsets":[0,24])"),
              HasSubstr("shape: expected integers from 0 to 9223372036854775807, found -1"));
}

TEST(SafetensorsHeader, RejectsShapesThatOverflow) {
  for (const char* shape : {"4294967296,4294967296", "9223372036854775807",
                            "0,4611686018427387904,4611686018427387904"})
    EXPECT_THAT(
        error_of_entry(fmt::format(R"("dtype":"F32","shape":[{}],"data_offsets":[0,24])", shape)),
        HasSubstr("its shape is too large"))
        << shape;
}

TEST(SafetensorsHeader, RejectsSizesThatDoNotMatchTheShape) {
  EXPECT_THAT(error_of_entry(R"("dtype":"F32","shape":[2,4],"data_offsets":[0,24])"),
              HasSubstr(R"(tensor "a": its shape and type require 32 bytes, but it has 24)"));
  EXPECT_THAT(error_of_entry(R"("dtype":"F64","shape":[6],"data_offsets":[0,24])"),
              HasSubstr("require 48 bytes, but it has 24"));
  EXPECT_THAT(error_of_entry(R"("dtype":"F32","shape":[6],"data_offsets":[24,0])"),
              HasSubstr("begins at byte 24, but ends at byte 0"));
}

TEST(SafetensorsHeader, RejectsOffsetsOutsideTheFile) {
  EXPECT_THAT(error_of_entry(R"("dtype":"F32","shape":[6],"data_offsets":[0,24])", 23),
              AllOf(HasSubstr(R"(/x: truncated: tensor "a")"),
                    HasSubstr("ends at byte 24 of the data, which has 23")));
  EXPECT_THAT(
      error_of_entry(R"("dtype":"U8","shape":[4000000000000],"data_offsets":[0,4000000000000])"),
      HasSubstr("ends at byte 4000000000000 of the data, which has 24"));
}

TEST(SafetensorsHeader, RejectsOverlapsAndGaps) {
  EXPECT_THAT(
      error_of_header(
          fmt::format(R"({{{},"b":{{"dtype":"U8","shape":[8],"data_offsets":[20,28]}}}})", kA), 28),
      HasSubstr(R"(tensor "b": overlaps another tensor)"));
  EXPECT_THAT(
      error_of_header(
          fmt::format(R"({{{},"b":{{"dtype":"U8","shape":[8],"data_offsets":[25,33]}}}})", kA), 33),
      HasSubstr(R"(tensor "b": 1 unused bytes before it)"));
  EXPECT_THAT(error_of_header(fmt::format("{{{}}}", kA), 30),
              HasSubstr("6 bytes after the last tensor"));
}

TEST(SafetensorsHeader, RejectsToWriteTextThatIsNotUtf8) {
  EXPECT_THAT(error_of([] {
                format_safetensors_header({.entries = {}, .metadata = {{"k", "\xff"}}});
              }),
              HasSubstr("not UTF-8"));
}

}  // namespace
}  // namespace dalle
