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

/// The number of channels of a PNG color type; 0 if there is no such type.
uint64_t png_channels(char color_type) {
  switch (color_type) {
    case 0:
      return 1;
    case 2:
    case 3:  // a palette of RGB
      return 3;
    case 4:
      return 2;
    case 6:
      return 4;
    default:
      return 0;
  }
}

/// The image's size is in the first chunk of a PNG, at a fixed offset.
/// Source: PNG specification, sections 5.2 and 11.2.2
std::string image_message(std::string_view tag, std::string_view png) {
  constexpr std::string_view kBegin("\x89PNG\r\n\x1a\n\0\0\0\rIHDR", 16);
  constexpr size_t kColorType = 25;
  if (!png.starts_with(kBegin) || png.size() <= kColorType || png_channels(png[kColorType]) == 0)
    throw Error("image {}: not a PNG file ({} bytes)", tag, png.size());
  return number_field(kImageHeight, *read_integer(png, 20, 4, ByteOrder::kBig)) +
         number_field(kImageWidth, *read_integer(png, 16, 4, ByteOrder::kBig)) +
         number_field(kImageColorspace, png_channels(png[kColorType])) +
         bytes_field(kImageEncoded, png);
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

void EventWriter::image(int64_t step, std::string_view tag, std::string_view png) {
  const std::string entry = bytes_field(kTag, tag) + bytes_field(kImage, image_message(tag, png));
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
