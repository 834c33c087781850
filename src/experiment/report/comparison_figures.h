#pragma once

#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

#include <nlohmann/json_fwd.hpp>

namespace dalle {

/// What a suite's section of the report shows above and below its table.
struct SuiteFigures {
  std::string title;
  std::string charts;
  std::string images;
};

/// The image that a results file names, or a note in its place if the file has been removed.
std::string stored_image(const std::filesystem::path& folder, const nlohmann::ordered_json& file,
                         std::string_view text);

/// Charts next to one another. Empty ones are left out.
std::string charts_of(std::vector<std::string> figures);

/// The suite frechet: shares next to those of the training images, and distances by blur radius.
SuiteFigures frechet_figures(const nlohmann::ordered_json& numbers);

/// The suite memorization: the generated images that are nearest to training images.
/// @param folder  of the stored images
SuiteFigures memorization_figures(const nlohmann::ordered_json& numbers,
                                  const std::filesystem::path& folder);

}  // namespace dalle
