#include "data/image/image_file.h"

#include <algorithm>
#include <array>
#include <string>
#include <utility>

#include "core/ascii.h"
#include "core/bytes.h"
#include "core/error.h"
#include "data/image/file_kind.h"

namespace dalle {
namespace {

using namespace std::string_view_literals;

constexpr std::string_view kExifPrefix = "Exif\0\0"sv;

/// Reads integers and bytes of an image file; reads past the end report that the file is truncated.
class Fields {
 public:
  Fields(ImageFileKind kind, std::string_view bytes, ByteOrder order)
      : kind_(kind), bytes_(bytes), order_(order) {}

  uint32_t at(uint64_t offset, int width) const {
    const auto value = read_integer(bytes_, offset, width, order_);
    if (!value) throw truncated();
    return *value;
  }

  std::string_view text(uint64_t offset, uint64_t length) const {
    if (offset > bytes_.size() || bytes_.size() - offset < length) throw truncated();
    return bytes_.substr(offset, length);
  }

  Error truncated() const {
    return Error("{} image: truncated: ends after {} bytes, in the middle of its data",
                 to_string(kind_), bytes_.size());
  }

  Error corrupt(std::string_view what) const {
    return Error("{} image: corrupt: {}", to_string(kind_), what);
  }

 private:
  ImageFileKind kind_;
  std::string_view bytes_;
  ByteOrder order_;
};

void require_plausible_size(const ImageFile& file) {
  const std::string_view name = to_string(file.kind);
  if (file.width == 0 || file.height == 0)
    throw Error("{} image: claims {} x {} pixels", name, file.width, file.height);
  if (file.width > kMaxImagePixels / file.height)
    throw Error("{} image: claims {} x {} pixels, more than the limit of {} million", name,
                file.width, file.height, kMaxImagePixels / 1'000'000);
}

bool is_start_of_frame(uint32_t marker) {
  return marker >= 0xc0 && marker <= 0xcf && marker != 0xc4 && marker != 0xc8 && marker != 0xcc;
}

/// Whether a marker has neither length nor content: stuffing, TEM, a restart or a second start.
bool stands_alone(uint32_t marker) {
  return marker <= 0x01 || (marker >= 0xd0 && marker <= 0xd8);
}

/// Reads the marker segments before the first scan. Skips stray bytes between them, like libjpeg.
/// Source: ITU-T T.81, annex B
ImageFile inspect_jpeg(std::string_view bytes) {
  const Fields fields(ImageFileKind::kJpeg, bytes, ByteOrder::kBig);
  ImageFile file{.kind = ImageFileKind::kJpeg};
  constexpr uint32_t kStartOfScan = 0xda, kEndOfImage = 0xd9, kApplication1 = 0xe1;
  for (uint64_t offset = 2;;) {
    const size_t found = bytes.find('\xff', offset);
    if (found == std::string_view::npos) throw fields.truncated();
    offset = found + 1;
    const uint32_t marker = fields.at(offset, 1);
    if (marker == 0xff) continue;  // a fill byte before the marker
    ++offset;
    if (marker == kStartOfScan || marker == kEndOfImage) return file;
    if (stands_alone(marker)) continue;
    const uint64_t length = std::max(2U, fields.at(offset, 2));  // includes its own two bytes
    const std::string_view content = fields.text(offset + 2, length - 2);
    if (is_start_of_frame(marker)) {
      file.height = fields.at(offset + 3, 2);
      file.width = fields.at(offset + 5, 2);
    } else if (marker == kApplication1 && content.starts_with(kExifPrefix) && file.exif.empty()) {
      file.exif = content.substr(kExifPrefix.size());
    }
    offset += length;
  }
}

/// Source: W3C, Portable Network Graphics (third edition), chapter 5
ImageFile inspect_png(std::string_view bytes) {
  const Fields fields(ImageFileKind::kPng, bytes, ByteOrder::kBig);
  ImageFile file{.kind = ImageFileKind::kPng};
  if (fields.text(12, 4) != "IHDR") throw fields.corrupt("its first chunk is not IHDR");
  file.width = fields.at(16, 4);
  file.height = fields.at(20, 4);
  for (uint64_t offset = 8;;) {
    const uint64_t length = fields.at(offset, 4);
    const std::string_view type = fields.text(offset + 4, 4);
    const std::string_view content = fields.text(offset + 8, length);
    fields.text(offset + 8 + length, 4);  // the checksum is verified by the decoder
    if (type == "IEND") return file;
    if (type == "eXIf") file.exif = content;
    offset += 12 + length;
  }
}

/// The size of a WebP image is that of its first chunk. Another chunk must not say otherwise,
/// because decoders might believe that one.
/// Source: Google, WebP container specification; RFC 6386, section 9.1
ImageFile inspect_webp(std::string_view bytes) {
  const Fields fields(ImageFileKind::kWebp, bytes, ByteOrder::kLittle);
  ImageFile file{.kind = ImageFileKind::kWebp};
  const auto set_size = [&](int64_t width, int64_t height) {
    if (file.width != 0 && (width != file.width || height != file.height))
      throw fields.corrupt(fmt::format("it is both {} x {} and {} x {} pixels large", file.width,
                                       file.height, width, height));
    file.width = width;
    file.height = height;
  };
  const uint64_t end = 8 + uint64_t{fields.at(4, 4)};
  if (end > bytes.size()) throw fields.truncated();
  for (uint64_t offset = 12; offset + 8 <= end;) {
    const std::string_view type = fields.text(offset, 4);
    const uint64_t length = fields.at(offset + 4, 4);
    const uint64_t start = offset + 8;
    const std::string_view content = fields.text(start, length);
    if (type == "VP8X") {
      if (fields.at(start, 1) & 0x02) throw Error("WebP image: animated, expected a still image");
      set_size(int64_t{fields.at(start + 4, 3)} + 1, int64_t{fields.at(start + 7, 3)} + 1);
    } else if (type == "VP8 ") {
      set_size(fields.at(start + 6, 2) & 0x3fff, fields.at(start + 8, 2) & 0x3fff);
    } else if (type == "VP8L") {
      const uint32_t sides = fields.at(start + 1, 4);
      set_size((sides & 0x3fff) + 1, (sides >> 14 & 0x3fff) + 1);
    } else if (type == "EXIF") {
      file.exif = content.starts_with(kExifPrefix) ? content.substr(kExifPrefix.size()) : content;
    }
    offset = start + length + length % 2;
  }
  return file;
}

/// Source: Microsoft, BITMAPFILEHEADER and BITMAPINFOHEADER
ImageFile inspect_bmp(std::string_view bytes) {
  const Fields fields(ImageFileKind::kBmp, bytes, ByteOrder::kLittle);
  ImageFile file{.kind = ImageFileKind::kBmp};
  const bool is_core = fields.at(14, 4) == 12;
  file.width = is_core ? fields.at(18, 2) : fields.at(18, 4);
  const auto height = static_cast<int32_t>(is_core ? fields.at(20, 2) : fields.at(22, 4));
  file.height = std::abs(int64_t{height});  // negative: rows from the top
  const uint64_t bits_per_pixel = is_core ? fields.at(24, 2) : fields.at(28, 2);
  const uint32_t compression = is_core ? 0 : fields.at(30, 4);
  require_plausible_size(file);
  constexpr uint32_t kRgb = 0, kBitFields = 3;
  if (compression == kRgb || compression == kBitFields) {
    if (bits_per_pixel > 32) throw fields.corrupt(fmt::format("{} bits per pixel", bits_per_pixel));
    const uint64_t row_bytes = (static_cast<uint64_t>(file.width) * bits_per_pixel + 31) / 32 * 4;
    if (fields.at(10, 4) + row_bytes * static_cast<uint64_t>(file.height) > bytes.size())
      throw fields.truncated();
  }
  return file;
}

bool is_bmp(std::string_view bytes) {
  constexpr std::array<uint32_t, 7> kHeaderSizes = {12, 40, 52, 56, 64, 108, 124};
  const auto header_size = read_integer(bytes, 14, 4, ByteOrder::kLittle);
  return bytes.starts_with("BM") && header_size &&
         std::ranges::find(kHeaderSizes, *header_size) != kHeaderSizes.end();
}

/// Names the kind of an ISO base media file.
/// Source: ISO/IEC 14496-12, section 4.3
std::string_view media_kind(std::string_view brand) {
  if (brand == "avif" || brand == "avis") return "AVIF";
  if (brand.starts_with("hei") || brand.starts_with("hev") || brand == "mif1" || brand == "msf1")
    return "HEIC";
  return "a video";
}

/// Names the kind of a file that is not a supported image; empty if unknown.
std::string_view unsupported_kind(std::string_view bytes) {
  constexpr std::pair<std::string_view, std::string_view> kImages[] = {
      {"GIF8"sv, "GIF"},
      {"II*\0"sv, "TIFF"},
      {"MM\0*"sv, "TIFF"},
      {"\xff\x0a"sv, "JPEG XL"},
      {"\0\0\0\x0cJXL "sv, "JPEG XL"},
      {"\0\0\0\x0cjP  "sv, "JPEG 2000"},
      {"8BPS"sv, "a Photoshop file"},
      {"<svg"sv, "SVG"}};
  for (const auto& [signature, kind] : kImages)
    if (bytes.starts_with(signature)) return kind;
  if (bytes.size() >= 12 && bytes.substr(4, 4) == "ftyp") return media_kind(bytes.substr(8, 4));
  const std::string_view head = bytes.substr(0, kFileKindBytes);
  if (const std::string_view kind = file_kind(head); !kind.empty()) return kind;
  const auto is_printable = [](char letter) {
    return (letter >= ' ' && letter <= '~') || letter == '\n' || letter == '\r' || letter == '\t';
  };
  return std::ranges::all_of(head, is_printable) ? "text" : "";
}

ImageFile inspect(std::string_view bytes) {
  if (bytes.starts_with("\xff\xd8"sv)) return inspect_jpeg(bytes);
  if (bytes.starts_with("\x89PNG\r\n\x1a\n"sv)) return inspect_png(bytes);
  if (bytes.size() >= 12 && bytes.starts_with("RIFF") && bytes.substr(8, 4) == "WEBP")
    return inspect_webp(bytes);
  if (is_bmp(bytes)) return inspect_bmp(bytes);
  std::string found(unsupported_kind(bytes));
  if (found.empty()) {
    found = "a file that begins with";
    for (const char byte : bytes.substr(0, 8))
      found += fmt::format(" {:02x}", static_cast<uint8_t>(byte));
  }
  throw Error("expected a JPEG, PNG, WebP or BMP image, found {}", found);
}

}  // namespace

bool is_image_extension(std::string_view extension) {
  constexpr std::array<std::string_view, 6> kExtensions = {"jpg", "jpeg", "jfif",
                                                           "png", "webp", "bmp"};
  return std::ranges::find(kExtensions, lower_case(extension)) != kExtensions.end();
}

ImageFile inspect_image_file(std::string_view bytes) {
  if (bytes.empty()) throw Error("the image file is empty");
  if (bytes.size() > kMaxImageFileBytes)
    throw Error("the image file has {} bytes, more than the limit of {}", bytes.size(),
                kMaxImageFileBytes);
  const ImageFile file = inspect(bytes);
  require_plausible_size(file);
  return file;
}

}  // namespace dalle
