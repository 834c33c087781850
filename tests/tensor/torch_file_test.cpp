#include "tensor/torch_file.h"

#include <fstream>
#include <string>
#include <string_view>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <torch/types.h>

#include "core/files.h"
#include "error_of.h"
#include "temporary_directory.h"
#include "tensor/pickle_bytes.h"
#include "tensor/torch_tensors.h"

namespace dalle {
namespace {

using namespace pickle;
using testing::AllOf;
using testing::EndsWith;
using testing::HasSubstr;
using testing::StartsWith;

constexpr auto kLittle = ByteOrder::kLittle;

std::string bytes16(uint64_t value) {
  return integer_bytes(static_cast<uint16_t>(value), kLittle);
}
std::string bytes32(uint64_t value) {
  return integer_bytes(static_cast<uint32_t>(value), kLittle);
}

/// CRC-32 of zip. Source: ISO 3309
uint32_t crc32(std::string_view bytes) {
  uint32_t sum = UINT32_MAX;
  for (const char byte : bytes) {
    sum ^= static_cast<uint8_t>(byte);
    for (int bit = 0; bit < 8; ++bit) sum = sum >> 1 ^ (sum % 2 != 0 ? 0xedb88320 : 0);
  }
  return ~sum;
}

struct ZipEntry {
  std::string name;
  std::string content;
  uint16_t method = 0;                ///< stored
  std::optional<uint32_t> size = {};  ///< that it claims to have
  std::optional<uint32_t> crc = {};
  std::optional<uint32_t> packed_size = {};  ///< that it claims to have in the archive
  uint16_t flags = 0;
};

/// Source: APPNOTE.TXT of PKWARE, 4.3
std::string zip_of(const std::vector<ZipEntry>& entries) {
  std::string file, directory;
  for (const auto& [name, content, method, size, crc, packed_size, flags] : entries) {
    const std::string sizes = bytes32(crc.value_or(crc32(content))) +
                              bytes32(packed_size.value_or(size.value_or(content.size()))) +
                              bytes32(size.value_or(content.size()));
    const std::string common =
        bytes16(20) + bytes16(flags) + bytes16(method) + bytes32(0) + sizes + bytes16(name.size());
    directory +=
        "PK\x01\x02" + bytes16(20) + common + std::string(12, '\0') + bytes32(file.size()) + name;
    // extra and comment, disk and attributes are zeros
    file += "PK\x03\x04" + common + bytes16(0) + name + content;
  }
  const std::string count = bytes16(entries.size());
  return file + directory + "PK\x05\x06" + bytes32(0) + count + count + bytes32(directory.size()) +
         bytes32(file.size()) + bytes16(0);
}

std::string floats(const std::vector<float>& values) {
  return {reinterpret_cast<const char*>(values.data()), values.size() * sizeof(float)};
}

/// A state dict of a tensor [[1, 3], [2, 4]], stored transposed.
std::string state_dict() {
  return file(dict(text("w") + tensor(storage(4), 0, {2, 2}, {1, 2})));
}
std::string data() {
  return floats({1, 2, 3, 4});
}

std::vector<ZipEntry> entries() {
  return {{"archive/data.pkl", state_dict()},
          {"archive/byteorder", "little"},
          {"archive/data/0", data()},
          {"archive/version", "3\n"}};
}

std::vector<ZipEntry> with(std::vector<ZipEntry> list, const ZipEntry& entry) {
  list.push_back(entry);
  return list;
}

std::string legacy(const std::string& object, const std::string& storages) {
  return file(std::string("\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19")) +
         file(integer(1001)) + file(dict(text("little_endian") + "\x88")) + object +
         file("](" + text("0") + "e") + storages;
}

std::string legacy() {
  return legacy(state_dict(), integer_bytes(uint64_t{4}, kLittle) + data());
}

class TorchFileTest : public testing::Test {
 protected:
  std::filesystem::path stored(const std::string& bytes) const {
    const std::filesystem::path path = folder_ / "x.pkl";
    std::ofstream(path, std::ios::binary) << bytes;
    return path;
  }

  std::string error_of_file(const std::string& bytes) const {
    return error_of([&] { read_torch_file(stored(bytes)); });
  }

  std::string error_of_zip(const std::vector<ZipEntry>& list) const {
    const std::string error = error_of_file(zip_of(list));
    EXPECT_THAT(error, StartsWith((folder_ / "x.pkl: ").string()));
    return error;
  }

  const TemporaryDirectory folder_;
};

TEST_F(TorchFileTest, ReadsTensorsFromBothContainers) {
  for (const std::string& bytes : {zip_of(entries()), legacy()}) {
    const NamedTensors tensors = read_foreign_tensors(stored(bytes)).tensors;
    ASSERT_EQ(tensors.size(), 1u);
    EXPECT_EQ(tensors[0].first, "w");
    EXPECT_TRUE(tensors[0].second.is_contiguous());
    EXPECT_TRUE(tensors[0].second.equal(torch::tensor({{1.F, 3.F}, {2.F, 4.F}})));
  }
}

TEST_F(TorchFileTest, ReadsSafetensorsToo) {
  write_safetensors(folder_ / "x.safetensors", {{"w", torch::ones({2})}});
  EXPECT_TRUE(
      read_foreign_tensors(folder_ / "x.safetensors").tensors[0].second.equal(torch::ones({2})));
}

TEST_F(TorchFileTest, ReadsFoldersWhoseNamesAreUtf8) {
  auto list = entries();
  for (ZipEntry& entry : list) {
    entry.name.replace(0, 7, "mod\xc3\xa8le..1");
    entry.flags = 1 << 11;
  }
  EXPECT_EQ(error_of_file(zip_of(list)), "no error");
}

TEST_F(TorchFileTest, TellsPicklesFromSafetensorsWhoseHeadersHaveTheSameFirstBytes) {
  for (const uint64_t length : {640, 640 + 65536}) {
    std::string header = R"({"w": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}})";
    header.resize(length, ' ');
    const std::string bytes = integer_bytes(length, kLittle) + header + floats({7});
    EXPECT_EQ(read_foreign_tensors(stored(bytes)).tensors.at(0).second.item<float>(), 7) << length;
  }
  for (const char* pickle : {"\x80\x03N.", "\x80\x04\x95\2\1\1\1\1\1\1\1N.", "\x80\x05N."})
    EXPECT_THAT(error_of([&] { read_foreign_tensors(stored(pickle)); }),
                HasSubstr("expected a pickle of protocol 2"));
}

TEST_F(TorchFileTest, RefusesOtherFiles) {
  EXPECT_THAT(error_of([&] { read_foreign_tensors(stored("just some text, no model")); }),
              HasSubstr("not a safetensors file"));
  EXPECT_THAT(error_of([&] { read_foreign_tensors(folder_ / "none"); }), HasSubstr("No such file"));
  EXPECT_THAT(error_of([&] { read_foreign_tensors(folder_.path()); }),
              HasSubstr("expected a regular file"));
  EXPECT_THAT(error_of_file(file("N")), HasSubstr("a pickle that torch.save() did not write"));
  EXPECT_THAT(error_of_zip({{"a/b.txt", "text"}}), HasSubstr("no entry \"data.pkl\""));
  EXPECT_THAT(error_of_zip(with(entries(), {"archive/constants.pkl", ""})),
              HasSubstr("TorchScript"));
}

TEST_F(TorchFileTest, RefusesCompressedEntries) {
  auto list = entries();
  for (const uint16_t method : {8, 12, 14, 93}) {
    list[2].method = method;
    EXPECT_THAT(error_of_zip(list), HasSubstr("\"archive/data/0\": is compressed"));
  }
}

TEST_F(TorchFileTest, RefusesEntriesThatLieAboutTheirSize) {
  for (const uint32_t size : {0U, 15U, 17U, 1000U, 0x7fffffffU, 0xfffffffeU}) {
    auto list = entries();
    list[2].size = size;
    EXPECT_NE(error_of_zip(list), "no error") << size;
  }
  auto list = entries();
  list[2].size = 1'000'000'000;
  EXPECT_THAT(error_of_zip(list), HasSubstr("claims 1000000000 bytes"));
  list = entries();
  list[2].content += "more";
  list[2].size = 16;
  list[2].packed_size = 20;
  EXPECT_THAT(error_of_zip(list), HasSubstr("longer than its stated size of 16 bytes"));
}

TEST_F(TorchFileTest, RefusesEntriesThatShareTheirBytes) {
  // An entry whose content is the other one, with its header.
  const ZipEntry inner{"archive/data/1", std::string(10'000, 'x')};
  const std::string inner_zip = zip_of({inner});
  const size_t inner_directory = inner_zip.find("PK\x01\x02");
  std::string zip =
      zip_of(with(entries(), {"archive/data/2", inner_zip.substr(0, inner_directory)}));
  const size_t at = zip.rfind("PK\x03\x04"), directory = zip.rfind("PK\x01\x02");
  std::string record =
      inner_zip.substr(inner_directory, inner_zip.rfind("PK\x05\x06") - inner_directory);
  record.replace(42, 4, bytes32(at));
  zip.insert(directory, record);
  const size_t end = zip.rfind("PK\x05\x06");
  zip.replace(end + 8, 2, bytes16(6)).replace(end + 10, 2, bytes16(6));
  const size_t size = end - zip.find("PK\x01\x02");
  zip.replace(end + 12, 4, bytes32(size));
  EXPECT_THAT(error_of_file(zip), HasSubstr("more than the file has left"));
}

TEST_F(TorchFileTest, RefusesEntriesThatAreChanged) {
  auto list = entries();
  list[2].crc = 1;
  EXPECT_THAT(error_of_zip(list), HasSubstr("corrupt zip archive: ZIP bad CRC"));
}

TEST_F(TorchFileTest, RefusesPathsOutsideOneFolder) {
  for (const char* path : {"x", "/x", "../x", "archive/../x", "other/x", "archive/data/../../x"})
    EXPECT_THAT(error_of_zip(with(entries(), {path, "x"})), HasSubstr("in one folder")) << path;
  EXPECT_THAT(error_of_zip(with(entries(), {"archive/folder/", ""})), HasSubstr("a plain file"));
  EXPECT_THAT(error_of_zip(with(entries(), entries()[2])), HasSubstr("appears twice"));
}

TEST_F(TorchFileTest, RefusesStoragesThatAreMissingOrOfAnotherSize) {
  auto list = entries();
  list[2].name = "archive/data/1";
  EXPECT_THAT(error_of_zip(list), HasSubstr("no entry \"data/0\""));
  list = entries();
  list[2].content += "more";
  EXPECT_THAT(error_of_zip(list), HasSubstr("storage \"0\": found 20 bytes, expected 16"));
  list = entries();
  list[1].content = "big";
  EXPECT_THAT(error_of_zip(list), HasSubstr("little-endian"));
  list = entries();
  list[0].content += "x";
  EXPECT_THAT(error_of_zip(list), HasSubstr("1 bytes after its pickle"));
}

TEST_F(TorchFileTest, RefusesZipArchivesThatAreTruncatedAnywhere) {
  const std::string whole = zip_of(entries());
  for (size_t size = 0; size < whole.size(); ++size)
    EXPECT_THAT(error_of_file(whole.substr(0, size)), HasSubstr("x.pkl: ")) << size;
}

TEST_F(TorchFileTest, RefusesLegacyFilesThatAreTruncatedAnywhereOrTooLong) {
  const std::string whole = legacy();
  for (size_t size = 0; size < whole.size(); ++size)
    EXPECT_THAT(error_of_file(whole.substr(0, size)), HasSubstr("x.pkl: ")) << size;
  EXPECT_THAT(error_of_file(whole + "x"), HasSubstr("1 trailing bytes"));
}

TEST_F(TorchFileTest, RefusesLegacyStoragesThatContradictTheirTensors) {
  EXPECT_THAT(error_of_file(legacy(state_dict(), integer_bytes(uint64_t{5}, kLittle) + data())),
              HasSubstr("found 5 elements, expected 4"));
  EXPECT_THAT(error_of_file(legacy(file(dict("")), integer_bytes(uint64_t{4}, kLittle) + data())),
              HasSubstr("each storage of its tensors once"));
  const std::string two = file(dict(text("a") + tensor(storage(1), 0, {1}, {1}) + text("b") +
                                    tensor(storage(1, "1"), 0, {1}, {1})));
  EXPECT_THAT(error_of_file(legacy(two, integer_bytes(uint64_t{1}, kLittle) + floats({1}))),
              HasSubstr("found 1 storages"));
}

TEST_F(TorchFileTest, RefusesBooleansOtherThanZeroAndOne) {
  const std::string state =
      file(dict(text("w") + tensor(storage(2, "0", "BoolStorage"), 0, {2}, {1})));
  auto list = entries();
  list[0].content = state;
  list[2].content = "\1\1";
  EXPECT_EQ(error_of([&] { read_foreign_tensors(stored(zip_of(list))); }), "no error");
  list[2].content = "\1\2";
  EXPECT_THAT(error_of([&] { read_foreign_tensors(stored(zip_of(list))); }), HasSubstr("BOOL"));
}

TEST_F(TorchFileTest, ReadsPyTorchsOwnFiles) {
  const ForeignTensors encoder = read_foreign_tensors("tests/fixtures/released_dvae/encoder.pkl");
  EXPECT_EQ(encoder.tensors.size(), 42u);
  EXPECT_EQ(encoder.numbers.at("blocks.group_4.block_1.post_gain"), 1.0 / 16);
  const ForeignTensors decoder = read_foreign_tensors("tests/fixtures/released_dvae/decoder.pkl");
  EXPECT_EQ(decoder.tensors.size(), 44u);
  EXPECT_EQ(read_foreign_tensors("tests/fixtures/released_dvae/flava.bin").tensors.size(), 42u);
}

}  // namespace
}  // namespace dalle
