#pragma once

#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace dalle {

// The parts of a report: one HTML file that needs nothing else, neither scripts nor a network. A
// function that returns HTML returns whole elements; its arguments are plain text unless they are
// called `html`.

/// Plain text as HTML, also for attributes: & < > " and ' are escaped.
std::string html_text(std::string_view text);

/// <p class="CSS_CLASS">TEXT</p>
std::string html_paragraph(std::string_view text, std::string_view css_class = "");

/// A block of commands or other text whose lines and spaces are kept.
std::string html_code(std::string_view text);

/// Names and what they stand for, in two columns.
struct Fact {
  std::string name;
  std::string value;
};
std::string html_facts(std::span<const Fact> facts);

struct TableColumn {
  std::string title;
  bool is_number = false;  ///< aligned to the right
};

/// A table; on narrow screens it scrolls by itself.
/// @param rows  each has a cell of plain text for every column
std::string html_table(std::span<const TableColumn> columns,
                       std::span<const std::vector<std::string>> rows);

/// An image that is part of the file, as a data: URI.
/// @param png   the bytes of a PNG file
/// @param text  what it shows, for readers who do not see it
std::string html_image(std::string_view png, std::string_view text);

/// A figure with a caption below it.
std::string html_figure(std::string_view html, std::string_view caption,
                        std::string_view css_class = "");

/// A figure with the first words of its caption emphasized: green if it is right, else red.
std::string html_verdict(std::string_view html, bool is_right, std::string_view verdict,
                         std::string_view caption);

/// Elements next to one another, in as many columns as fit.
/// @param css_class  "charts", "images" for small images, or "pairs" for figures of two images
std::string html_grid(std::span<const std::string> html, std::string_view css_class);

struct ReportSection {
  std::string title;
  std::string html;
};

/// A whole file. Sections are listed under the summary if there are several.
/// @param summary_html  what stands between the title and the first section
std::string html_page(std::string_view title, std::string_view summary_html,
                      std::span<const ReportSection> sections);

}  // namespace dalle
