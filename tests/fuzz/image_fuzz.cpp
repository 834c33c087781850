#include "data/image/exif.h"
#include "data/image/image_file.h"
#include "fuzz/fuzz.h"

namespace dalle {

/// Accepted images have a plausible size, and their EXIF data are a part of the file.
void fuzz(std::string_view input) {
  const std::string bytes(input);  // of its own, so that a read past its end is seen
  ImageFile file;
  if (!accepts([&] { file = inspect_image_file(bytes); })) return;
  DALLE_CHECK(file.width > 0 && file.height > 0 && file.width <= kMaxImagePixels / file.height);
  DALLE_CHECK(file.exif.empty() ||
              (file.exif.data() >= bytes.data() &&
               file.exif.data() + file.exif.size() <= bytes.data() + bytes.size()));
  const int orientation = exif_orientation(file.exif);
  DALLE_CHECK(orientation >= 1 && orientation <= 8);
}

}  // namespace dalle
