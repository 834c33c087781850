#include <memory>
#include <string>
#include <string_view>
#include <utility>

#include "serve/api_routes.h"
#include "serve/http/revalidation.h"
#include "serve/page_files.h"

namespace dalle {
namespace {

/// Only what this server itself serves is loaded, and nothing may embed the page.
constexpr std::string_view kContentSecurityPolicy =
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; "
    "connect-src 'self'; form-action 'none'; frame-ancestors 'none'; base-uri 'none'";

std::string_view content_type_of(std::string_view name) {
  if (name.ends_with(".html")) return "text/html; charset=utf-8";
  if (name.ends_with(".css")) return "text/css; charset=utf-8";
  return "text/javascript; charset=utf-8";
}

}  // namespace

void add_page_routes(Routes& routes) {
  for (const PageFile& file : page_files()) {
    const std::string path = file.name == "index.html" ? "/" : "/" + std::string(file.name);
    routes.add("GET", path,
               [file](const HttpRequest& request, const std::shared_ptr<HttpReply>& reply) {
                 HttpResponse response{
                     .content_type = std::string(content_type_of(file.name)),
                     .body = std::string(file.content),
                     .headers = {{"content-security-policy", std::string(kContentSecurityPolicy)},
                                 {"referrer-policy", "no-referrer"}}};
                 reply->send(revalidated(request, std::move(response)));
               });
  }
}

}  // namespace dalle
