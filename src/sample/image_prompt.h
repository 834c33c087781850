#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

#include <ATen/core/Tensor.h>

#include "core/error.h"
#include "data/image/rgb_image.h"
#include "model/discrete_vae.h"
#include "sample/pixel_rectangle.h"

namespace dalle {

// An image prompt gives a part of an image, and the model generates the rest. Its parts:
//
//     kept pixels  [S, S] bool, of the image after cropping and scaling to S x S
//     kept codes   [h, w] bool: a code is kept if all pixels of its cell are

/// The upper part of the rows of pixels.
/// @param part  in [0, 1]
at::Tensor keep_upper_rows(double part, int64_t size);

/// @throws dalle::Error if the rectangle is empty or not inside the image
at::Tensor keep_rectangle(const PixelRectangle& rectangle, int64_t size);

/// Which pixels of a mask are kept. If any pixel is transparent (alpha below 1/2), opacity decides;
/// otherwise brightness does (light: the mean of red, green and blue is at least 128).
enum class MaskKeeps { kOpaqueOrLight, kTransparentOrDark };

/// The pixels that a mask keeps. The mask is cropped and scaled like the image; a scaled pixel is
/// kept if all of its source pixels are.
///
/// @param file      an image file as large as the image before or after cropping and scaling
/// @param original  the image before cropping and scaling
/// @throws dalle::Error if the mask has a different size or cannot be decoded
at::Tensor keep_masked(std::string_view file, const RgbImage& original, int64_t size,
                       MaskKeeps kept = MaskKeeps::kOpaqueOrLight);

/// @param pixels  [S, S] bool
/// @return        [grid, grid] bool
at::Tensor kept_codes(const at::Tensor& pixels, int64_t grid);

/// The kept codes that come after one that is not kept in raster order: the model cannot see them
/// when it generates that one.
int64_t count_unseen(const at::Tensor& kept_codes);

/// The image's most likely codes where they are kept, kFreeCode elsewhere. The encoder sees the
/// whole image, so codes at an edge of what is kept also depend on pixels beyond it.
/// @return  [h * w] int64 on the CPU
at::Tensor prompt_codes(DiscreteVae vae, const RgbImage& image, const at::Tensor& kept_codes);

/// What a user asks for: an image, and what to keep of it. Without `keep_rows`, `keep` and `mask`,
/// that is everything; at most one of them is given.
struct ImagePromptRequest {
  std::string image = {};  ///< the content of a file
  std::optional<double> keep_rows = {};
  std::optional<PixelRectangle> keep = {};
  std::optional<std::string> mask = {};  ///< the content of a file
  MaskKeeps mask_keeps = MaskKeeps::kOpaqueOrLight;
  std::optional<double> variation = {};  ///< fraction of the kept codes to generate again
  bool paste_original = false;
  bool strict = false;  ///< refuse to keep codes that come after generated ones
};

/// An error in a member of an ImagePromptRequest.
class ImagePromptError : public Error {
 public:
  ImagePromptError(std::string of_member, std::string_view reason)
      : Error("{}", reason), member(std::move(of_member)) {}

  std::string member;  ///< its name: image, keep_rows, keep, mask or strict
};

/// Calls `work` and rethrows its dalle::Error as one in a member of the request.
template <class Work>
auto blaming_member(const std::string& member, const Work& work) {
  try {
    return work();
  } catch (const Error& error) {
    throw ImagePromptError(member, error.what());
  }
}

/// What generation needs from an image prompt.
struct ImagePrompt {
  RgbImage image = {};          ///< cropped and scaled
  at::Tensor kept_pixels = {};  ///< [S, S] bool
  at::Tensor forced = {};       ///< as in CaptionImages
  double variation = 0;         ///< as in CaptionImages
  int64_t kept = 0;             ///< codes
  int64_t unseen = 0;           ///< kept codes that come after generated ones
};

/// Crops and scales the image like validation images, and finds the codes to keep.
///
/// @param size        pixels on a side of the model's images
/// @param background  gray level behind transparent pixels
/// @throws ImagePromptError: a file cannot be decoded, the rectangle or mask does not fit, no code
///         would be kept or, with `strict`, a kept code comes after a generated one
ImagePrompt prepare_image_prompt(const ImagePromptRequest& request, const DiscreteVae& vae,
                                 int64_t size, uint8_t background);

/// "... N of the kept codes come after generated ones, which cannot take them into account"
std::string describe_unseen(int64_t codes);

/// `generated` with the pixels of `original` where they are kept. Both are S x S.
RgbImage paste(const RgbImage& original, const at::Tensor& kept_pixels, const RgbImage& generated);

}  // namespace dalle
