#include "data/image/image_file.h"
#include "data/image/png_text.h"
#include "fuzz/fuzz.h"

namespace dalle {

/// Text that is added to an intact PNG leaves it intact, and everything else in it as it was.
void fuzz(std::string_view input) {
  ImageFile before;
  std::string with_text;
  if (!accepts([&] {
        before = inspect_image_file(input);
        with_text = add_png_text(input, {{"prompt", std::string(input.substr(0, 64))}});
      }))
    return;
  const ImageFile after = inspect_image_file(with_text);
  DALLE_CHECK(after.width == before.width && after.height == before.height);
  DALLE_CHECK(after.exif == before.exif);
}

}  // namespace dalle
