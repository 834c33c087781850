#include "report/html.h"

#include <algorithm>
#include <array>
#include <utility>

#include <fmt/format.h>

#include "core/base64.h"
#include "core/error.h"

namespace dalle {
namespace {

constexpr std::string_view kStyle = R"css(
:root { color-scheme: light dark;
  --paper: #fdfdfc; --ink: #1f2328; --quiet: #667079; --rule: #dfe2e5; --wash: #f3f4f4;
  --series-0: #1f6fb4; --series-1: #c4561a; --series-2: #2b8a57; --series-3: #8250b8; }
@media (prefers-color-scheme: dark) { :root {
  --paper: #16181b; --ink: #dfe2e5; --quiet: #97a0a9; --rule: #33383d; --wash: #1f2226;
  --series-0: #5aa7e8; --series-1: #e98a52; --series-2: #5fbd8a; --series-3: #b48ce0; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--paper); color: var(--ink);
  font: 16px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, sans-serif; -webkit-text-size-adjust: 100%; }
main { max-width: 66rem; margin: 0 auto; padding: 2.5rem 1.25rem 4rem; }
h1 { font-size: 1.9rem; line-height: 1.2; font-weight: 650; margin: 0 0 .25rem; overflow-wrap: anywhere; }
h2 { font-size: 1.3rem; font-weight: 650; margin: 3rem 0 .5rem; padding-top: .75rem;
  border-top: 1px solid var(--rule); }
h3 { font-size: 1rem; font-weight: 650; margin: 1.75rem 0 .5rem; }
p { margin: .5rem 0; max-width: 46rem; }
.lead, .note { color: var(--quiet); }
nav { margin: 1.25rem 0 0; } nav a { margin-right: 1.25rem; white-space: nowrap; }
a { color: var(--series-0); text-decoration: none; } a:hover { text-decoration: underline; }
pre { margin: .75rem 0; padding: .7rem .9rem; background: var(--wash); border-radius: 6px;
  white-space: pre-wrap; overflow-wrap: anywhere;
  font: .82rem/1.5 ui-monospace, SFMono-Regular, Menlo, Consolas, monospace; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .2rem 1.25rem; margin: 1rem 0; font-size: .9rem; }
dt { color: var(--quiet); } dd { margin: 0; min-width: 0; overflow-wrap: anywhere; }
.table { overflow-x: auto; margin: .75rem 0; }
table { border-collapse: collapse; font-size: .9rem; font-variant-numeric: tabular-nums; }
th, td { padding: .35rem 1.1rem .35rem 0; text-align: left; vertical-align: baseline; }
th { font-weight: 500; color: var(--quiet); border-bottom: 1px solid var(--rule); white-space: nowrap; }
td { border-bottom: 1px solid var(--rule); } tr:last-child td { border-bottom: 0; }
th.number, td.number { text-align: right; white-space: nowrap; }
td:not(.number) { overflow-wrap: anywhere; } td:first-child { min-width: 7rem; }
td:last-child:not(.number) { min-width: 15rem; padding-right: 0; }
figure { margin: 0; min-width: 0; }
figcaption { font-size: .85rem; line-height: 1.4; color: var(--quiet); margin-top: .4rem; overflow-wrap: anywhere; }
.wide { margin: 1rem 0; } .wide img { width: auto; }
.charts { display: grid; gap: 1.75rem 2rem; margin: 1.25rem 0;
  grid-template-columns: repeat(auto-fill, minmax(min(19rem, 100%), 1fr)); }
.images { display: grid; gap: 1.25rem 1rem; margin: 1rem 0;
  grid-template-columns: repeat(auto-fill, minmax(8.5rem, 1fr)); }
.pairs { display: grid; gap: 1.25rem 1.5rem; margin: 1rem 0;
  grid-template-columns: repeat(auto-fill, minmax(min(16rem, 100%), 1fr)); }
.pairs img { width: calc(50% - .15rem); margin-right: .3rem; } .pairs img:last-of-type { margin-right: 0; }
img { display: inline-block; width: 100%; max-width: 100%; height: auto; image-rendering: pixelated;
  vertical-align: top; box-shadow: 0 0 0 1px var(--rule); }
.wrong figcaption b { color: var(--series-1); } .right figcaption b { color: var(--series-2); }
svg { display: block; width: 100%; height: auto; overflow: visible; }
svg text { font: 11px system-ui, -apple-system, "Segoe UI", Roboto, sans-serif; fill: var(--quiet);
  font-variant-numeric: tabular-nums; }
svg text.label { fill: var(--ink); } svg text.end { text-anchor: end; } svg text.middle { text-anchor: middle; }
svg .rule { stroke: var(--rule); stroke-width: 1; } svg .axis { stroke: var(--quiet); stroke-width: 1; }
svg .line { fill: none; stroke: var(--series); stroke-width: 1.6; stroke-linejoin: round; stroke-linecap: round; }
svg .dots { fill: var(--series); }
.series-0 { --series: var(--series-0); } .series-1 { --series: var(--series-1); }
.series-2 { --series: var(--series-2); } .series-3 { --series: var(--series-3); }
svg .whisker { stroke: var(--ink); stroke-width: 1.2; }
svg .reference { stroke: var(--series-1); stroke-width: 2; }
svg .bar, svg .cell { fill: var(--series-0); } svg .bar { fill-opacity: .55; }
svg .frame { fill: none; stroke: var(--rule); }
@media print { main { max-width: none; padding: 0; } }
)css";

/// ` class="NAME"`, or nothing.
std::string class_attribute(std::string_view css_class) {
  return css_class.empty() ? "" : fmt::format(" class=\"{}\"", css_class);
}

}  // namespace

std::string html_text(std::string_view text) {
  using Entity = std::pair<char, std::string_view>;
  static constexpr auto kEntities = std::to_array<Entity>(
      {{'&', "&amp;"}, {'<', "&lt;"}, {'>', "&gt;"}, {'"', "&quot;"}, {'\'', "&#39;"}});
  std::string html;
  for (const char letter : text)
    if (const auto found = std::ranges::find(kEntities, letter, &Entity::first);
        found != kEntities.end())
      html += found->second;
    else
      html += letter;
  return html;
}

std::string html_paragraph(std::string_view text, std::string_view css_class) {
  return fmt::format("<p{}>{}</p>\n", class_attribute(css_class), html_text(text));
}

std::string html_code(std::string_view text) {
  return fmt::format("<pre>{}</pre>\n", html_text(text));
}

std::string html_facts(std::span<const Fact> facts) {
  std::string html = "<dl>\n";
  for (const Fact& fact : facts)
    html += fmt::format("<dt>{}</dt><dd>{}</dd>\n", html_text(fact.name), html_text(fact.value));
  return html + "</dl>\n";
}

std::string html_table(std::span<const TableColumn> columns,
                       std::span<const std::vector<std::string>> rows) {
  const auto cell = [](std::string_view tag, const TableColumn& column, std::string_view text) {
    return fmt::format("<{0}{1}>{2}</{0}>", tag, class_attribute(column.is_number ? "number" : ""),
                       html_text(text));
  };
  std::string html = "<div class=\"table\"><table>\n<thead><tr>";
  for (const TableColumn& column : columns) html += cell("th", column, column.title);
  html += "</tr></thead>\n<tbody>\n";
  for (const std::vector<std::string>& row : rows) {
    DALLE_CHECK(row.size() == columns.size());
    html += "<tr>";
    for (size_t i = 0; i < row.size(); ++i) html += cell("td", columns[i], row[i]);
    html += "</tr>\n";
  }
  return html + "</tbody></table></div>\n";
}

std::string html_image(std::string_view png, std::string_view text) {
  return fmt::format("<img src=\"data:image/png;base64,{}\" alt=\"{}\">", base64(png),
                     html_text(text));
}

std::string html_figure(std::string_view html, std::string_view caption,
                        std::string_view css_class) {
  return fmt::format("<figure{}>{}<figcaption>{}</figcaption></figure>\n",
                     class_attribute(css_class), html, html_text(caption));
}

std::string html_verdict(std::string_view html, bool is_right, std::string_view verdict,
                         std::string_view caption) {
  return fmt::format("<figure class=\"{}\">{}<figcaption><b>{}</b><br>{}</figcaption></figure>\n",
                     is_right ? "right" : "wrong", html, html_text(verdict), html_text(caption));
}

std::string html_grid(std::span<const std::string> html, std::string_view css_class) {
  std::string grid = fmt::format("<div{}>\n", class_attribute(css_class));
  for (const std::string& element : html) grid += element;
  return grid + "</div>\n";
}

std::string html_page(std::string_view title, std::string_view summary_html,
                      std::span<const ReportSection> sections) {
  std::string links, content;
  for (size_t i = 0; i < sections.size(); ++i) {
    links += fmt::format("<a href=\"#part-{}\">{}</a> ", i, html_text(sections[i].title));
    content += fmt::format("<section id=\"part-{}\">\n<h2>{}</h2>\n{}</section>\n", i,
                           html_text(sections[i].title), sections[i].html);
  }
  // The policy lets the browser refuse whatever a mistake in this program might make it load.
  return fmt::format(
      "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n"
      "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n"
      "<meta http-equiv=\"Content-Security-Policy\" "
      "content=\"default-src 'none'; img-src data:; style-src 'unsafe-inline'\">\n"
      "<title>{0}</title>\n<style>{1}</style>\n</head>\n<body>\n<main>\n<h1>{0}</h1>\n{2}{3}{4}"
      "</main>\n</body>\n</html>\n",
      html_text(title), kStyle, summary_html,
      sections.size() > 1 ? fmt::format("<nav>{}</nav>\n", links) : "", content);
}

}  // namespace dalle
