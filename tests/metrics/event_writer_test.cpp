#include "metrics/event_writer.h"

#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <csignal>
#include <cstring>
#include <limits>
#include <map>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "core/error.h"
#include "core/files.h"
#include "data/image/small_png.h"
#include "error_of.h"
#include "temporary_directory.h"

namespace dalle {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

/// CRC-32C bit by bit, masked as TensorBoard's records are.
uint32_t plain_masked_crc(std::string_view bytes) {
  uint32_t crc = 0xffffffff;
  for (const char byte : bytes) {
    crc ^= static_cast<uint8_t>(byte);
    for (int bit = 0; bit < 8; ++bit) crc = crc & 1 ? crc >> 1 ^ 0x82f63b78 : crc >> 1;
  }
  crc = ~crc;
  return ((crc >> 15) | (crc << 17)) + 0xa282ead8U;
}

template <class Number>
Number load(std::string_view bytes) {
  Number number{};
  std::memcpy(&number, bytes.data(), sizeof(number));
  return number;
}

/// The contents of a file's records; fails where a length or a sum is wrong.
std::vector<std::string> read_records(const std::filesystem::path& path) {
  const std::string content = read_file(path);
  std::string_view rest = content;
  std::vector<std::string> records;
  while (!rest.empty()) {
    EXPECT_GE(rest.size(), 16);
    const auto length = load<uint64_t>(rest);
    EXPECT_EQ(load<uint32_t>(rest.substr(8)), plain_masked_crc(rest.substr(0, 8)));
    EXPECT_LE(length + 16, rest.size());
    const std::string_view record = rest.substr(12, length);
    EXPECT_EQ(load<uint32_t>(rest.substr(12 + length)), plain_masked_crc(record));
    records.emplace_back(record);
    rest.remove_prefix(16 + length);
  }
  return records;
}

/// The fields of a message by number: numbers as they are stored, everything else as bytes.
struct Message {
  std::map<uint64_t, uint64_t> numbers;
  std::map<uint64_t, std::string> bytes;
};

Message parse(std::string_view rest) {
  const auto take_varint = [&rest] {
    uint64_t value = 0;
    for (int shift = 0; !rest.empty(); shift += 7) {
      const auto byte = static_cast<uint8_t>(rest[0]);
      rest.remove_prefix(1);
      value |= uint64_t{byte} % 128 << shift;
      if (byte < 128) break;
    }
    return value;
  };
  Message message;
  while (!rest.empty()) {
    const uint64_t tag = take_varint();
    const uint64_t wire_type = tag % 8;
    if (wire_type == 0) {
      message.numbers[tag / 8] = take_varint();
      continue;
    }
    const size_t size = wire_type == 1 ? 8 : wire_type == 5 ? 4 : take_varint();
    message.bytes[tag / 8] = rest.substr(0, size);
    rest.remove_prefix(size);
  }
  return message;
}

/// The one value of an event's summary.
Message summary_value(const std::string& record) {
  return parse(parse(parse(record).bytes.at(5)).bytes.at(1));
}

TEST(EventWriter, BeginsWithTheVersionAndTheStepItGoesOnFrom) {
  const TemporaryDirectory folder;
  const EventWriter events(folder.path(), 41);
  const std::vector<std::string> records = read_records(events.path());
  ASSERT_EQ(records.size(), 2);
  EXPECT_EQ(parse(records[0]).bytes.at(3), "brain.Event:2");
  const Message start = parse(records[1]);
  EXPECT_EQ(start.numbers.at(2), 42);
  EXPECT_EQ(parse(start.bytes.at(7)).numbers.at(1), 1);  // SessionLog.START
}

TEST(EventWriter, WritesScalars) {
  const TemporaryDirectory folder;
  EventWriter events(folder.path(), 0);
  const double values[] = {6.25, -1e-3, 0, std::numeric_limits<double>::infinity()};
  int64_t step = 1;
  for (const double value : values) events.scalar(step *= 1000, "loss/text", value);
  const std::vector<std::string> records = read_records(events.path());
  ASSERT_EQ(records.size(), 2 + std::size(values));
  step = 1;
  for (size_t i = 0; i < std::size(values); ++i) {
    EXPECT_EQ(parse(records[i + 2]).numbers.at(2), static_cast<uint64_t>(step *= 1000));
    const Message value = summary_value(records[i + 2]);
    EXPECT_EQ(value.bytes.at(1), "loss/text");
    EXPECT_EQ(load<float>(value.bytes.at(2)), static_cast<float>(values[i]));
  }
}

TEST(EventWriter, StampsEventsWithTheTime) {
  const TemporaryDirectory folder;
  const auto now = [] {
    return std::chrono::duration<double>(std::chrono::system_clock::now().time_since_epoch())
        .count();
  };
  const double before = now();
  EventWriter events(folder.path(), 0);
  for (const std::string& record : read_records(events.path())) {
    EXPECT_GE(load<double>(parse(record).bytes.at(1)), before);
    EXPECT_LE(load<double>(parse(record).bytes.at(1)), now());
  }
}

TEST(EventWriter, WritesImages) {
  const TemporaryDirectory folder;
  EventWriter events(folder.path(), 0);
  const std::string png = small_png();
  events.image(7, "samples", {.file = png, .width = 3, .height = 2});
  const Message value = summary_value(read_records(events.path()).at(2));
  EXPECT_EQ(value.bytes.at(1), "samples");
  const Message image = parse(value.bytes.at(4));
  EXPECT_EQ(image.numbers.at(1), 2);  // height
  EXPECT_EQ(image.numbers.at(2), 3);  // width
  EXPECT_EQ(image.numbers.at(3), 3);  // channels
  EXPECT_EQ(image.bytes.at(4), png);
}

TEST(EventWriter, EachOpeningMakesAFileThatSortsBehindTheOthers) {
  const TemporaryDirectory folder;
  std::vector<std::string> names;
  for (int opening = 0; opening < 12; ++opening)
    names.push_back(EventWriter(folder / "dvae", opening).path().filename().string());
  EXPECT_TRUE(std::is_sorted(names.begin(), names.end()));
  EXPECT_EQ(std::adjacent_find(names.begin(), names.end()), names.end());
  EXPECT_EQ(names[0], "events.out.tfevents.000000");
  std::filesystem::remove(folder / "dvae" / names[3]);  // a gap is not filled
  EXPECT_EQ(EventWriter(folder / "dvae", 0).path().filename(), "events.out.tfevents.000012");
}

TEST(EventWriter, ARecordIsInTheFileWhenTheCallReturns) {
  const TemporaryDirectory folder;
  const pid_t child = ::fork();
  if (child == 0) {
    EventWriter events(folder.path(), 0);
    events.scalar(1, "loss", 1);
    ::kill(::getpid(), SIGKILL);
  }
  ::waitpid(child, nullptr, 0);
  EXPECT_EQ(read_records(folder / "events.out.tfevents.000000").size(), 3);
}

TEST(EventWriter, SaysWhichFileCannotBeWritten) {
  const TemporaryDirectory folder;
  write_file_atomically(folder / "file", "x");
  EXPECT_THAT(error_of([&] { EventWriter events(folder / "file", 0); }), HasSubstr("/file: "));
}

TEST(EventWriter, SaysThatTheDiskIsFull) {
  const TemporaryDirectory folder;
  const pid_t child = ::fork();
  if (child == 0) {  // a limit on the file's size stands in for a full disk
    std::signal(SIGXFSZ, SIG_IGN);
    const rlimit limit{1000, 1000};
    ::setrlimit(RLIMIT_FSIZE, &limit);
    EventWriter events(folder.path(), 0);
    const std::string message = error_of([&] {
      for (int step = 0; step < 1000; ++step) events.scalar(step, "loss", 1);
    });
    ::_exit(message.find("events.out.tfevents.000000: cannot write: File too large") ==
            std::string::npos);
  }
  int status = 0;
  ::waitpid(child, &status, 0);
  EXPECT_EQ(status, 0);
}

}  // namespace
}  // namespace dalle
