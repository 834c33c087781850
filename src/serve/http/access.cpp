#include "serve/http/access.h"

#include <algorithm>
#include <cstdlib>
#include <memory>
#include <optional>
#include <utility>

#include "core/ascii.h"
#include "core/base64.h"
#include "core/error.h"
#include "core/files.h"

namespace dalle {
namespace {

bool is_visible_ascii(std::string_view key) {
  return !key.empty() && std::ranges::all_of(key, [](char c) { return c > 0x20 && c < 0x7f; });
}

/// The words of `text` after the scheme: "abc" of "Bearer abc".
std::optional<std::string_view> credentials_of(std::string_view text, std::string_view scheme) {
  const size_t space = text.find(' ');
  if (space == text.npos || lower_case(text.substr(0, space)) != scheme) return std::nullopt;
  return trimmed(text.substr(space));
}

/// "127.0.0.1" of "127.0.0.1:8080", in lower case.
std::string host_without_port(std::string_view host) {
  const size_t bracket = host.starts_with('[') ? host.find(']') : 0;
  const size_t colon = host.find(':', bracket == host.npos ? 0 : bracket);
  return lower_case(host.substr(0, colon));
}

/// "example.org:8080" of "https://example.org:8080".
std::string_view host_of_origin(std::string_view origin) {
  const size_t slashes = origin.find("://");
  return slashes == origin.npos ? "" : origin.substr(slashes + 3);
}

/// @param origin  of the rules, not of the request
HttpResponse with_cors_headers(HttpResponse response, const std::string& origin) {
  response.headers.emplace_back("access-control-allow-origin", origin);
  response.headers.emplace_back("access-control-expose-headers", "*");
  response.headers.emplace_back("vary", "origin");
  return response;
}

/// Null if the rules do not permit the origin.
const std::string* permitted_origin(const AccessRules& rules, std::string_view origin) {
  const auto found = std::ranges::find(rules.origins, origin);
  return found == rules.origins.end() ? nullptr : &*found;
}

/// Adds the CORS headers to a reply.
class CorsReply : public HttpReply {
 public:
  CorsReply(std::shared_ptr<HttpReply> reply, std::string origin)
      : reply_(std::move(reply)), origin_(std::move(origin)) {}

  void send(HttpResponse response) override {
    reply_->send(with_cors_headers(std::move(response), origin_));
  }
  void begin_stream(HttpResponse head) override {
    reply_->begin_stream(with_cors_headers(std::move(head), origin_));
  }
  void write(std::string chunk) override { reply_->write(std::move(chunk)); }
  void end() override { reply_->end(); }
  void on_disconnect(std::function<void()> closed) override {
    reply_->on_disconnect(std::move(closed));
  }
  void note(std::string text) override { reply_->note(std::move(text)); }

 private:
  std::shared_ptr<HttpReply> reply_;
  std::string origin_;
};

bool is_preflight(const HttpRequest& request) {
  return request.method == "OPTIONS" && !request.header("access-control-request-method").empty();
}

HttpResponse preflight_response() {
  return {.status = 204,
          .content_type = "",
          .body = "",
          .headers = {{"access-control-allow-methods", "GET, POST"},
                      {"access-control-allow-headers", "*, authorization"},
                      {"access-control-max-age", "600"}}};
}

}  // namespace

ApiKeys::ApiKeys(std::span<const std::string> keys) {
  for (const std::string& key : keys) digests_.push_back(sha256(key));
}

bool ApiKeys::contains(std::string_view key) const {
  const std::string digest = sha256(key);
  bool is_found = false;
  for (const std::string& known : digests_) {
    int differences = 0;
    for (size_t i = 0; i < digest.size(); ++i) differences |= digest[i] ^ known[i];
    is_found |= differences == 0;
  }
  return is_found;
}

bool ApiKeys::accepts(const HttpRequest& request) const {
  if (is_empty()) return true;
  const std::string_view header = request.header("authorization");
  if (const auto key = credentials_of(header, "bearer")) return contains(*key);
  const auto basic = credentials_of(header, "basic");
  const std::optional<std::string> text = basic ? decode_base64(*basic) : std::nullopt;
  if (!text) return false;
  const size_t colon = text->find(':');
  const bool is_pair = contains(*text);
  return is_pair || (colon != text->npos && contains(std::string_view(*text).substr(colon + 1)));
}

std::vector<std::string> read_api_keys(const std::filesystem::path& file) {
  const std::string content = read_file(file);
  std::vector<std::string> keys;
  int number = 0;
  for (std::string_view rest = content; !rest.empty();) {
    const std::string_view line = rest.substr(0, rest.find('\n'));
    rest.remove_prefix(std::min(line.size() + 1, rest.size()));
    ++number;
    const std::string_view key = trimmed(line);
    if (key.empty() || key.starts_with('#')) continue;
    if (!is_visible_ascii(key))
      throw Error("{}:{}: expected an API key of printable ASCII characters without spaces",
                  file.string(), number);
    keys.emplace_back(key);
  }
  if (keys.empty()) throw Error("{}: found no API key, expected one per line", file.string());
  return keys;
}

std::vector<std::string> api_keys_of_variable(const char* name) {
  const char* const value = std::getenv(name);
  std::vector<std::string> keys = split_words(value == nullptr ? "" : value);
  if (!std::ranges::all_of(keys, is_visible_ascii))
    throw Error("{}: expected API keys of printable ASCII characters", name);
  return keys;
}

std::vector<std::string> loopback_hosts(const std::string& bound_host,
                                        std::span<const std::string> origins) {
  std::vector<std::string> hosts{"localhost", "127.0.0.1", "[::1]", lower_case(bound_host)};
  for (const std::string& origin : origins)
    hosts.push_back(host_without_port(host_of_origin(origin)));
  return hosts;
}

bool is_origin(std::string_view origin) {
  const std::string_view host = host_of_origin(origin);
  const bool has_scheme = origin.starts_with("http://") || origin.starts_with("https://");
  return has_scheme && is_visible_ascii(host) && host.find_first_of("/?#@*,") == host.npos;
}

std::optional<HttpResponse> answer_by_rules(const AccessRules& rules, const HttpRequest& head,
                                            const HttpRefusal& refusal) {
  const std::string_view host = head.header("host"), origin = head.header("origin");
  if (!rules.hosts.empty() && !host.empty() &&
      std::ranges::find(rules.hosts, host_without_port(host)) == rules.hosts.end())
    return refusal(
        403, "host: not a host name of this server; see --host, --public-url and --cors-origin");
  const std::string* const permitted = permitted_origin(rules, origin);
  if (!origin.empty() && permitted == nullptr &&
      lower_case(host_of_origin(origin)) != lower_case(host))
    return refusal(403, "origin: pages of this origin may not use the server; see --cors-origin");
  if (permitted != nullptr && is_preflight(head))
    return with_cors_headers(preflight_response(), *permitted);
  if ((rules.is_open && rules.is_open(head.path)) || rules.keys.accepts(head)) return std::nullopt;
  HttpResponse response = refusal(401, "authorization: expected a valid API key");
  response.headers.emplace_back("www-authenticate", "Bearer");
  // The page must be able to read the error.
  return permitted == nullptr ? response : with_cors_headers(std::move(response), *permitted);
}

HttpHandler with_access_rules(AccessRules rules, HttpHandler handler, HttpRefusal refusal) {
  return [rules = std::move(rules), handler = std::move(handler), refusal = std::move(refusal)](
             HttpRequest request, std::shared_ptr<HttpReply> reply) {
    if (auto response = answer_by_rules(rules, request, refusal))
      return reply->send(std::move(*response));
    if (const std::string* origin = permitted_origin(rules, request.header("origin")))
      reply = std::make_shared<CorsReply>(std::move(reply), *origin);
    handler(std::move(request), std::move(reply));
  };
}

}  // namespace dalle
