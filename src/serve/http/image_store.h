#pragma once

#include <chrono>
#include <cstddef>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <unordered_map>

namespace dalle {

struct StoredImage {
  std::string bytes;  ///< of an image file
  std::string content_type;
};

/// Keeps encoded images in memory for a while, under ids that nobody can guess: whoever knows an id
/// may see the image. Thread-safe.
class ImageStore {
 public:
  using Clock = std::chrono::steady_clock;

  /// When an image is dropped: the oldest first.
  struct Limits {
    size_t bytes = 256 << 20;  ///< of all images
    std::chrono::seconds age = std::chrono::hours(1);
  };

  /// @param now  for tests
  explicit ImageStore(const Limits& limits, std::function<Clock::time_point()> now = Clock::now);

  /// @return  the id: 32 hexadecimal digits
  std::string add(std::string bytes, std::string content_type);

  /// @return  null if there is no such image, or not any more
  std::shared_ptr<const StoredImage> find(std::string_view id);

 private:
  struct Expiry {
    Clock::time_point time;
    std::string id;
  };

  void drop_expired();  // the caller holds the mutex

  const Limits limits_;
  const std::function<Clock::time_point()> now_;
  std::mutex mutex_;
  std::deque<Expiry> expiries_;  // the oldest first
  std::unordered_map<std::string, std::shared_ptr<const StoredImage>> images_;
  size_t bytes_ = 0;
};

}  // namespace dalle
