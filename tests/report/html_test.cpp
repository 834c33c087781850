#include "report/html.h"

#include <array>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace dalle {
namespace {

using testing::HasSubstr;
using testing::Not;

constexpr std::string_view kHostile = "</p><script>alert('\"&')</script>";
constexpr std::string_view kEscaped =
    "&lt;/p&gt;&lt;script&gt;alert(&#39;&quot;&amp;&#39;)&lt;/script&gt;";

TEST(HtmlTest, EveryElementEscapesItsText) {
  const std::string hostile(kHostile);
  EXPECT_EQ(html_text(hostile), kEscaped);
  const std::array facts = {Fact{hostile, hostile}};
  const std::array columns = {TableColumn{hostile}};
  const std::array rows = {std::vector<std::string>{hostile}};
  const std::array sections = {ReportSection{hostile, ""}, ReportSection{hostile, ""}};
  for (const std::string& html :
       {html_paragraph(hostile), html_code(hostile), html_facts(facts), html_table(columns, rows),
        html_image("png", hostile), html_figure("", hostile),
        html_verdict("", false, hostile, hostile), html_page(hostile, "", sections)}) {
    EXPECT_THAT(html, HasSubstr(kEscaped));
    EXPECT_THAT(html, Not(HasSubstr("<script")));
  }
}

TEST(HtmlTest, NumbersAreAlignedToTheRight) {
  const std::array columns = {TableColumn{"name"}, TableColumn{"value", true}};
  const std::array rows = {std::vector<std::string>{"psnr", "40.9"}};
  EXPECT_THAT(html_table(columns, rows),
              HasSubstr("<tr><td>psnr</td><td class=\"number\">40.9</td></tr>"));
}

TEST(HtmlTest, ImagesAreInlined) {
  EXPECT_EQ(html_image("foobar", "a red circle"),
            "<img src=\"data:image/png;base64,Zm9vYmFy\" alt=\"a red circle\">");
}

TEST(HtmlTest, ThePageRefersToNoOtherFile) {
  const std::string page = html_page("demo", html_paragraph("text"), {});
  EXPECT_THAT(page, HasSubstr("<!DOCTYPE html>"));
  EXPECT_THAT(page, HasSubstr("prefers-color-scheme: dark"));
  EXPECT_THAT(page, HasSubstr("width=device-width"));
  for (const char* reference : {"http://", "https://", "src=", "<link", "@import", "url("})
    EXPECT_THAT(page, Not(HasSubstr(reference)));
}

}  // namespace
}  // namespace dalle
