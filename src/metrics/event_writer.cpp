#include "metrics/event_writer.h"

#include <algorithm>
#include <bit>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <string>

#include "core/bytes.h"
#include "core/crc32c.h"
#include "core/error.h"
#include "core/files.h"
#include "core/seconds.h"

namespace dalle {
namespace {

namespace fs = std::filesystem;

constexpr std::string_view kNameBegin = "events.out.tfevents.";  // TensorBoard looks for it

// Field numbers of event.proto and summary.proto.
constexpr int kWallTime = 1;
constexpr int kStepField = 2;
constexpr int kFileVersion = 3;
constexpr int kSummary = 5;
constexpr int kSessionLog = 7;
constexpr int kSessionStatus = 1;
constexpr uint64_t kSessionStart = 1;
constexpr int kSummaryValue = 1;
constexpr int kTag = 1;
constexpr int kSimpleValue = 2;
constexpr int kImage = 4;
constexpr int kImageHeight = 1;
constexpr int kImageWidth = 2;
constexpr int kImageColorspace = 3;
constexpr int kImageEncoded = 4;
constexpr uint64_t kRgb = 3;

std::string varint(uint64_t number) {
  std::string bytes;
  for (; number >= 0x80; number >>= 7) bytes += static_cast<char>((number & 0x7f) | 0x80);
  return bytes += static_cast<char>(number);
}

std::string tag_of(int field, int wire_type) {
  return varint(static_cast<uint64_t>(field << 3 | wire_type));
}

std::string number_field(int field, uint64_t value) {
  return tag_of(field, 0) + varint(value);
}

std::string double_field(int field, double value) {
  return tag_of(field, 1) + integer_bytes(std::bit_cast<uint64_t>(value), ByteOrder::kLittle);
}

std::string float_field(int field, float value) {
  return tag_of(field, 5) + integer_bytes(std::bit_cast<uint32_t>(value), ByteOrder::kLittle);
}

std::string bytes_field(int field, std::string_view value) {
  return (tag_of(field, 2) + varint(value.size())).append(value);
}

/// The CRC as stored in records: masked, because the CRC of data that contains CRCs is weak.
uint32_t masked_crc(std::string_view bytes) {
  return std::rotr(crc32c(bytes), 15) + 0xa282ead8;
}

/// A name that sorts after those of all event files in the folder, whatever the clock says.
fs::path next_path(const fs::path& folder) {
  int64_t number = 0;
  for (const fs::directory_entry& entry : fs::directory_iterator(folder)) {
    const std::string name = entry.path().filename().string();
    if (!name.starts_with(kNameBegin)) continue;
    number = std::max<int64_t>(number, 1 + std::atoll(name.c_str() + kNameBegin.size()));
  }
  return folder / fmt::format("{}{:06}", kNameBegin, number);
}

}  // namespace

EventWriter::EventWriter(const fs::path& folder, int64_t resume_step) {
  make_directories(folder);
  path_ = next_path(folder);
  file_.open(path_, std::ios::binary | std::ios::trunc);
  if (!file_) throw Error("{}: cannot write: {}", path_.string(), std::strerror(errno));
  write_event(0, bytes_field(kFileVersion, "brain.Event:2"));
  // TensorBoard drops the steps from this one on.
  write_event(resume_step + 1,
              bytes_field(kSessionLog, number_field(kSessionStatus, kSessionStart)));
}

void EventWriter::scalar(int64_t step, std::string_view tag, double value) {
  const std::string entry =
      bytes_field(kTag, tag) + float_field(kSimpleValue, static_cast<float>(value));
  write_event(step, bytes_field(kSummary, bytes_field(kSummaryValue, entry)));
}

void EventWriter::image(int64_t step, std::string_view tag, const PngImage& png) {
  const std::string message = number_field(kImageHeight, static_cast<uint64_t>(png.height)) +
                              number_field(kImageWidth, static_cast<uint64_t>(png.width)) +
                              number_field(kImageColorspace, kRgb) +
                              bytes_field(kImageEncoded, png.file);
  const std::string entry = bytes_field(kTag, tag) + bytes_field(kImage, message);
  write_event(step, bytes_field(kSummary, bytes_field(kSummaryValue, entry)));
}

void EventWriter::write_event(int64_t step, std::string_view what) {
  const std::string event = (double_field(kWallTime, seconds_since_epoch()) +
                             number_field(kStepField, static_cast<uint64_t>(step)))
                                .append(what);
  const std::string length = integer_bytes(static_cast<uint64_t>(event.size()), ByteOrder::kLittle);
  file_ << length << integer_bytes(masked_crc(length), ByteOrder::kLittle) << event
        << integer_bytes(masked_crc(event), ByteOrder::kLittle);
  file_.flush();
  if (!file_) throw Error("{}: cannot write: {}", path_.string(), std::strerror(errno));
}

}  // namespace dalle
