#include "serve/routes.h"

#include <algorithm>
#include <string_view>
#include <utility>
#include <vector>

#include <fmt/ranges.h>

#include "serve/api_error.h"

namespace dalle {

bool Routes::Entry::covers(const std::string& requested) const {
  if (!path.ends_with("/*")) return requested == path;
  const std::string_view folder = std::string_view(path).substr(0, path.size() - 1);
  return requested.starts_with(folder) && requested.size() > folder.size();
}

void Routes::add(const std::string& method, const std::string& path, Route route) {
  entries_.push_back({method, path, std::move(route)});
}

void Routes::answer(HttpRequest request, const std::shared_ptr<HttpReply>& reply) const {
  std::vector<std::string> allowed;
  for (const Entry& entry : entries_) {
    if (!entry.covers(request.path)) continue;
    if (entry.method == request.method) {
      const std::string id = request.id;
      return answer_errors(id, *reply, [&] { entry.route(std::move(request), reply); });
    }
    allowed.push_back(entry.method);
  }
  if (allowed.empty()) return reply->send(error_response(404, "no such route; see /openapi.json"));
  HttpResponse refusal = error_response(
      405, fmt::format("method not allowed; expected {}", fmt::join(allowed, " or ")));
  refusal.headers.emplace_back("allow", fmt::format("{}", fmt::join(allowed, ", ")));
  reply->send(std::move(refusal));
}

std::string Routes::path_of(const std::string& requested) const {
  const auto entry = std::ranges::find_if(
      entries_, [&](const Entry& candidate) { return candidate.covers(requested); });
  return entry == entries_.end() ? "" : entry->path;
}

}  // namespace dalle
