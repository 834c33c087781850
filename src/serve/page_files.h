#pragma once

#include <span>
#include <string_view>

namespace dalle {

/// A file of the folder src/serve/page, embedded by cmake/EmbedPage.cmake.
struct PageFile {
  std::string_view name;  ///< "page.css"
  std::string_view content;
};

std::span<const PageFile> page_files();

}  // namespace dalle
