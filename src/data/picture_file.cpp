#include "dalle/data/picture_file.h"

#include <algorithm>
#include <array>
#include <string>

#include "dalle/core/error.h"

#include "byte_order.h"

namespace dalle {
namespace {

using namespace std::string_view_literals;

constexpr std::string_view kExifPrefix = "Exif\0\0"sv;

/// Reads numbers of a file of one kind; reaching behind the end means that the file is cut short.
class Fields {
 public:
  Fields(PictureFileKind kind, std::string_view bytes, ByteOrder order)
      : kind_(kind), bytes_(bytes), order_(order) {}

  uint32_t at(uint64_t offset, int width) const {
    const auto value = read_integer(bytes_, offset, width, order_);
    if (!value) throw cut_short();
    return *value;
  }

  std::string_view text(uint64_t offset, uint64_t length) const {
    if (offset > bytes_.size() || bytes_.size() - offset < length) throw cut_short();
    return bytes_.substr(offset, length);
  }

  Error cut_short() const {
    return Error("{} picture: cut short: it ends after {} bytes, within its data",
                 picture_file_name(kind_), bytes_.size());
  }

  Error damaged(std::string_view what) const {
    return Error("{} picture: damaged: {}", picture_file_name(kind_), what);
  }

 private:
  PictureFileKind kind_;
  std::string_view bytes_;
  ByteOrder order_;
};

void require_plausible_size(const PictureFile& file) {
  const std::string_view name = picture_file_name(file.kind);
  if (file.width == 0 || file.height == 0)
    throw Error("{} picture: claims {} x {} pixels", name, file.width, file.height);
  if (file.width > kMaxPicturePixels / file.height)
    throw Error("{} picture: claims {} x {} pixels, more than the {} million that are allowed",
                name, file.width, file.height, kMaxPicturePixels / 1'000'000);
}

bool is_start_of_frame(uint32_t marker) {
  return marker >= 0xc0 && marker <= 0xcf && marker != 0xc4 && marker != 0xc8 && marker != 0xcc;
}

/// The marker segments in front of the first scan. Source: ITU-T T.81, annex B
PictureFile inspect_jpeg(std::string_view bytes) {
  const Fields fields(PictureFileKind::kJpeg, bytes, ByteOrder::kBig);
  PictureFile file{.kind = PictureFileKind::kJpeg};
  constexpr uint32_t kStartOfScan = 0xda, kEndOfImage = 0xd9, kApplication1 = 0xe1;
  for (uint64_t offset = 2;;) {
    if (fields.at(offset, 1) != 0xff)
      throw fields.damaged("no marker where a segment should start");
    const uint32_t marker = fields.at(offset + 1, 1);
    if (marker == 0xff) {  // a fill byte
      ++offset;
      continue;
    }
    if (marker == kStartOfScan || marker == kEndOfImage) return file;
    const uint32_t length = fields.at(offset + 2, 2);
    if (length < 2) throw fields.damaged("a segment of negative length");
    const std::string_view content = fields.text(offset + 4, length - 2);
    if (is_start_of_frame(marker)) {
      file.height = fields.at(offset + 5, 2);
      file.width = fields.at(offset + 7, 2);
    } else if (marker == kApplication1 && content.starts_with(kExifPrefix) && file.exif.empty()) {
      file.exif = content.substr(kExifPrefix.size());
    }
    offset += 2 + length;
  }
}

/// Source: W3C, Portable Network Graphics (third edition), chapter 5
PictureFile inspect_png(std::string_view bytes) {
  const Fields fields(PictureFileKind::kPng, bytes, ByteOrder::kBig);
  PictureFile file{.kind = PictureFileKind::kPng};
  if (fields.text(12, 4) != "IHDR") throw fields.damaged("its first chunk is no IHDR");
  file.width = fields.at(16, 4);
  file.height = fields.at(20, 4);
  file.bit_depth = fields.at(24, 1);
  const bool is_grey = fields.at(25, 1) == 0;
  for (uint64_t offset = 8;;) {
    const uint64_t length = fields.at(offset, 4);
    const std::string_view type = fields.text(offset + 4, 4);
    const std::string_view content = fields.text(offset + 8, length);
    fields.text(offset + 8 + length, 4);  // the checksum, which the decoder verifies
    if (type == "IEND") return file;
    if (type == "eXIf") file.exif = content;
    if (type == "tRNS" && is_grey) file.transparent_grey = fields.at(offset + 8, 2);
    offset += 12 + length;
  }
}

/// Source: Google, WebP container specification; RFC 6386, section 9.1
PictureFile inspect_webp(std::string_view bytes) {
  const Fields fields(PictureFileKind::kWebp, bytes, ByteOrder::kLittle);
  PictureFile file{.kind = PictureFileKind::kWebp};
  const uint64_t end = 8 + uint64_t{fields.at(4, 4)};
  if (end > bytes.size()) throw fields.cut_short();
  for (uint64_t offset = 12; offset + 8 <= end;) {
    const std::string_view type = fields.text(offset, 4);
    const uint64_t length = fields.at(offset + 4, 4);
    const uint64_t start = offset + 8;
    const std::string_view content = fields.text(start, length);
    if (type == "VP8X") {
      if (fields.at(start, 1) & 0x02)
        throw Error("WebP picture: animated, expected a single picture");
      file.width = fields.at(start + 4, 3) + 1;
      file.height = fields.at(start + 7, 3) + 1;
    } else if (type == "VP8 " && file.width == 0) {
      file.width = fields.at(start + 6, 2) & 0x3fff;
      file.height = fields.at(start + 8, 2) & 0x3fff;
    } else if (type == "VP8L" && file.width == 0) {
      const uint32_t sides = fields.at(start + 1, 4);
      file.width = (sides & 0x3fff) + 1;
      file.height = (sides >> 14 & 0x3fff) + 1;
    } else if (type == "EXIF") {
      file.exif = content.starts_with(kExifPrefix) ? content.substr(kExifPrefix.size()) : content;
    }
    offset = start + length + length % 2;
  }
  return file;
}

/// Source: Microsoft, BITMAPFILEHEADER and BITMAPINFOHEADER
PictureFile inspect_bmp(std::string_view bytes) {
  const Fields fields(PictureFileKind::kBmp, bytes, ByteOrder::kLittle);
  PictureFile file{.kind = PictureFileKind::kBmp};
  const bool is_core = fields.at(14, 4) == 12;
  file.width = is_core ? fields.at(18, 2) : fields.at(18, 4);
  const auto height = static_cast<int32_t>(is_core ? fields.at(20, 2) : fields.at(22, 4));
  file.height = std::abs(int64_t{height});  // negative: rows from the top
  const uint64_t bits_a_pixel = is_core ? fields.at(24, 2) : fields.at(28, 2);
  const uint32_t compression = is_core ? 0 : fields.at(30, 4);
  require_plausible_size(file);
  constexpr uint32_t kRgb = 0, kBitFields = 3;
  if (compression == kRgb || compression == kBitFields) {
    if (bits_a_pixel > 32) throw fields.damaged(fmt::format("{} bits a pixel", bits_a_pixel));
    const uint64_t row_bytes = (static_cast<uint64_t>(file.width) * bits_a_pixel + 31) / 32 * 4;
    if (fields.at(10, 4) + row_bytes * static_cast<uint64_t>(file.height) > bytes.size())
      throw fields.cut_short();
  }
  return file;
}

bool is_bmp(std::string_view bytes) {
  constexpr std::array<uint32_t, 7> kHeaderSizes = {12, 40, 52, 56, 64, 108, 124};
  const auto header_size = read_integer(bytes, 14, 4, ByteOrder::kLittle);
  return bytes.starts_with("BM") && header_size &&
         std::ranges::find(kHeaderSizes, *header_size) != kHeaderSizes.end();
}

PictureFile inspect(std::string_view bytes) {
  if (bytes.starts_with("\xff\xd8\xff"sv)) return inspect_jpeg(bytes);
  if (bytes.starts_with("\x89PNG\r\n\x1a\n"sv)) return inspect_png(bytes);
  if (bytes.starts_with("RIFF") && bytes.substr(8).starts_with("WEBP")) return inspect_webp(bytes);
  if (is_bmp(bytes)) return inspect_bmp(bytes);
  std::string beginning;
  for (const char byte : bytes.substr(0, 8))
    beginning += fmt::format(" {:02x}", static_cast<uint8_t>(byte));
  throw Error("not a picture: the file begins with{}, expected a JPEG, PNG, WebP or BMP",
              beginning);
}

}  // namespace

std::string_view picture_file_name(PictureFileKind kind) {
  switch (kind) {
    case PictureFileKind::kJpeg:
      return "JPEG";
    case PictureFileKind::kPng:
      return "PNG";
    case PictureFileKind::kWebp:
      return "WebP";
    case PictureFileKind::kBmp:
      return "BMP";
  }
  throw Error("picture file kind {} has no name", static_cast<int>(kind));
}

bool is_picture_extension(std::string_view extension) {
  constexpr std::array<std::string_view, 5> kExtensions = {"jpg", "jpeg", "png", "webp", "bmp"};
  std::string lower(extension);
  for (char& letter : lower)
    if (letter >= 'A' && letter <= 'Z') letter = static_cast<char>(letter - 'A' + 'a');
  return std::ranges::find(kExtensions, lower) != kExtensions.end();
}

PictureFile inspect_picture_file(std::string_view bytes) {
  if (bytes.empty()) throw Error("the picture file is empty");
  if (bytes.size() > kMaxPictureFileBytes)
    throw Error("the picture file has {} bytes, more than the {} that are allowed", bytes.size(),
                kMaxPictureFileBytes);
  const PictureFile file = inspect(bytes);
  require_plausible_size(file);
  return file;
}

}  // namespace dalle
