#pragma once

#include <cstddef>
#include <filesystem>
#include <functional>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "serve/http/http_exchange.h"

namespace dalle {

/// The API keys that a server accepts. Keeps only their hashes.
class ApiKeys {
 public:
  /// @param keys  none: no key is needed
  explicit ApiKeys(std::span<const std::string> keys = {});

  bool is_empty() const { return digests_.empty(); }

  /// Whether the header `authorization` has one of the keys: as `Bearer KEY`, or as the password of
  /// `Basic`, which browsers and clients of the A1111 dialect send; a key USER:PASSWORD is compared
  /// with both. Takes the same time for all keys of a length, whatever they are.
  bool accepts(const HttpRequest& request) const;

 private:
  bool contains(std::string_view key) const;

  std::vector<std::string> digests_;  // SHA-256
};

/// Reads one key per line. Blank lines and those that begin with # are skipped.
/// @throws dalle::Error naming the file if it has none, or the line whose key is not printable
///         ASCII without spaces
std::vector<std::string> read_api_keys(const std::filesystem::path& file);

/// The keys of a variable such as DALLE_API_KEY, separated by spaces.
/// @throws dalle::Error naming the variable if a key is not printable ASCII
std::vector<std::string> api_keys_of_variable(const char* name);

/// Who may use a server.
struct AccessRules {
  ApiKeys keys = ApiKeys();
  /// Web pages that may use the API in a browser, besides the server's own: "https://example.org".
  std::vector<std::string> origins = {};
  /// What the header `host` may name, without the port. Empty: anything.
  std::vector<std::string> hosts = {};
  /// Paths that need no key.
  std::function<bool(std::string_view path)> is_open = {};
};

/// Hosts by which a server is known that listens on a loopback address: a page whose domain was
/// made to resolve to 127.0.0.1 (DNS rebinding) names another one. Those of `origins` are included.
std::vector<std::string> loopback_hosts(const std::string& bound_host,
                                        std::span<const std::string> origins);

/// Whether it is of the form http://host[:port] or https://host[:port].
bool is_origin(std::string_view origin);

/// The answer to a request that the rules do not permit, or to a preflight request of a permitted
/// origin; nothing if the request may be answered. A browser's request from a page of any other
/// origin is refused, because it could use the server with the rights of its user.
/// @param head  the body is not used
std::optional<HttpResponse> answer_by_rules(const AccessRules& rules, const HttpRequest& head,
                                            const HttpRefusal& refusal);

/// A handler that passes on to `handler` only what the rules permit, and adds the CORS headers to
/// the replies to permitted origins.
HttpHandler with_access_rules(AccessRules rules, HttpHandler handler, HttpRefusal refusal);

}  // namespace dalle
