#include "serve/http/image_store.h"

#include <utility>

#include "serve/http/http_exchange.h"

namespace dalle {

ImageStore::ImageStore(const Limits& limits, std::function<Clock::time_point()> now)
    : limits_(limits), now_(std::move(now)) {}

std::string ImageStore::add(std::string bytes, std::string content_type) {
  const std::string id = random_id();
  const std::lock_guard lock(mutex_);
  bytes_ += bytes.size();
  images_.emplace(id, std::make_shared<const StoredImage>(
                          StoredImage{std::move(bytes), std::move(content_type)}));
  expiries_.push_back({.time = now_() + limits_.age, .id = id});
  drop_expired();
  return id;
}

std::shared_ptr<const StoredImage> ImageStore::find(std::string_view id) {
  const std::lock_guard lock(mutex_);
  drop_expired();
  const auto found = images_.find(std::string(id));
  return found == images_.end() ? nullptr : found->second;
}

void ImageStore::drop_expired() {
  const Clock::time_point now = now_();
  while (!expiries_.empty() && (expiries_.front().time <= now || bytes_ > limits_.bytes)) {
    const auto oldest = images_.find(expiries_.front().id);
    bytes_ -= oldest->second->bytes.size();
    images_.erase(oldest);
    expiries_.pop_front();
  }
}

}  // namespace dalle
