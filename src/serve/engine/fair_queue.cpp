#include "serve/engine/fair_queue.h"

#include <tuple>

#include "core/error.h"

namespace dalle {

void FairQueue::add(const std::string& client, uint64_t request, int64_t images) {
  DALLE_CHECK(images > 0);
  const auto [entry, is_new] = clients_.try_emplace(client);
  if (is_new) entry->second.last_turn = ++turns_;
  entry->second.waiting.push_back({.request = request, .images = images});
}

std::optional<uint64_t> FairQueue::take() {
  Client* next = nullptr;
  const auto order = [](const Client& client) {
    return std::tuple(client.in_progress, client.last_turn);
  };
  for (auto& [name, client] : clients_)
    if (!client.waiting.empty() && (next == nullptr || order(client) < order(*next)))
      next = &client;
  if (next == nullptr) return std::nullopt;
  ++next->in_progress;
  next->last_turn = ++turns_;
  Waiting& first = next->waiting.front();
  const uint64_t request = first.request;
  if (--first.images == 0) next->waiting.pop_front();
  return request;
}

void FairQueue::release(const std::string& client) {
  const auto entry = clients_.find(client);
  DALLE_CHECK(entry != clients_.end() && entry->second.in_progress > 0);
  --entry->second.in_progress;
  forget_if_idle(entry);
}

void FairQueue::remove(const std::string& client, uint64_t request) {
  const auto entry = clients_.find(client);
  if (entry == clients_.end()) return;
  std::erase_if(entry->second.waiting, [&](const Waiting& w) { return w.request == request; });
  forget_if_idle(entry);
}

void FairQueue::forget_if_idle(Clients::iterator client) {
  if (client->second.waiting.empty() && client->second.in_progress == 0) clients_.erase(client);
}

}  // namespace dalle
