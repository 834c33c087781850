#pragma once

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <chrono>
#include <cstdint>
#include <functional>
#include <thread>
#include <vector>

#include <gtest/gtest.h>

#include "dist/process_group.h"
#include "error_of.h"

namespace dalle {

/// A port of the loopback that is currently free.
inline uint16_t free_port() {
  const int socket = ::socket(AF_INET, SOCK_STREAM, 0);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t size = sizeof address;
  auto* generic = reinterpret_cast<sockaddr*>(&address);
  EXPECT_EQ(::bind(socket, generic, size), 0);
  EXPECT_EQ(::getsockname(socket, generic, &size), 0);
  ::close(socket);
  return ntohs(address.sin_port);
}

inline RankInfo info_of(int64_t rank, int64_t world_size, uint16_t port) {
  RankInfo info;
  info.rank = info.local_rank = rank;
  info.world_size = info.local_world_size = world_size;
  info.launcher = "this test";
  info.host = "127.0.0.1";
  info.port = port;
  return info;
}

/// Runs `body` as each rank of a group, in a thread per rank.
inline void on_ranks(int64_t world_size, const std::function<void(ProcessGroup&)>& body) {
  const uint16_t port = free_port();
  std::vector<std::thread> threads;
  for (int64_t rank = 0; rank < world_size; ++rank)
    threads.emplace_back([&, rank] {
      EXPECT_EQ(error_of([&] {
                  ProcessGroup group(info_of(rank, world_size, port), c10::kCPU,
                                     {.timeout = std::chrono::seconds(20)});
                  body(group);
                  group.barrier();
                }),
                "no error");
    });
  for (std::thread& thread : threads) thread.join();
}

}  // namespace dalle
