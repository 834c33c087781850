#pragma once

#include <cstdint>
#include <deque>
#include <map>
#include <optional>
#include <string>

namespace dalle {

/// Decides whose image is next: of the clients with waiting images, the one with the fewest images
/// in progress; of equal ones, the one whose turn was longest ago, where a new client counts as
/// having just had a turn. So no client waits forever, and one that asks for many images does not
/// delay the others. The requests of one client are served in the order of their numbers.
class FairQueue {
 public:
  /// @param request  its number, larger than those before
  /// @param images   at least 1
  void add(const std::string& client, uint64_t request, int64_t images);

  /// Takes an image out of the queue, which is in progress from now on.
  /// @return  its request; nothing if no image waits
  std::optional<uint64_t> take();

  /// An image of the client is no longer in progress.
  void release(const std::string& client);

  /// Removes the images of a request that wait, if there are any.
  void remove(const std::string& client, uint64_t request);

 private:
  struct Waiting {
    uint64_t request;
    int64_t images;
  };
  struct Client {
    std::deque<Waiting> waiting;
    int64_t in_progress = 0;
    uint64_t last_turn = 0;
  };
  using Clients = std::map<std::string, Client>;

  void forget_if_idle(Clients::iterator client);

  Clients clients_;  ///< those with images that wait or are in progress
  uint64_t turns_ = 0;
};

}  // namespace dalle
