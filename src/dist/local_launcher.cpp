#include "dist/local_launcher.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <chrono>
#include <csignal>
#include <cstdlib>
#include <cstring>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "core/error.h"
#include "dist/rank_info.h"
#include "dist/rank_lost.h"

namespace dalle {
namespace {

constexpr auto kGrace = std::chrono::seconds(30);  // for the others to exit after a rank has failed

constexpr std::array kSignals{SIGINT, SIGTERM, SIGUSR1, SIGHUP};  // relayed to the ranks

std::atomic<int> g_signal = 0;
static_assert(std::atomic<int>::is_always_lock_free);  // so that a signal handler may store to it

/// A socket that listens on the loopback, at a port chosen by the system.
class ListeningSocket {
 public:
  ListeningSocket() : number_(::socket(AF_INET, SOCK_STREAM, 0)) {
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t size = sizeof address;
    auto* generic = reinterpret_cast<sockaddr*>(&address);
    if (number_ < 0 || ::bind(number_, generic, size) != 0 || ::listen(number_, SOMAXCONN) != 0 ||
        ::getsockname(number_, generic, &size) != 0)
      throw Error("--ranks: cannot listen on 127.0.0.1: {}", std::strerror(errno));
    port_ = ntohs(address.sin_port);
  }
  ~ListeningSocket() { ::close(number_); }
  ListeningSocket(const ListeningSocket&) = delete;
  ListeningSocket& operator=(const ListeningSocket&) = delete;

  int number() const { return number_; }
  uint16_t port() const { return port_; }

 private:
  int number_;
  uint16_t port_ = 0;
};

void set_variable(const char* name, const std::string& value) {
  ::setenv(name, value.c_str(), /*overwrite=*/1);
}

/// Turns the child process into rank `rank`. Returns only on failure.
void become_rank(int64_t rank, int64_t ranks, const ListeningSocket& socket, char** arguments) {
  ::setpgid(0, 0);  // so that Ctrl-C reaches it only once, through the launcher
  ::prctl(PR_SET_PDEATHSIG, SIGTERM);
  set_variable("RANK", fmt::format("{}", rank));
  set_variable("LOCAL_RANK", fmt::format("{}", rank));
  set_variable("WORLD_SIZE", fmt::format("{}", ranks));
  set_variable("LOCAL_WORLD_SIZE", fmt::format("{}", ranks));
  set_variable("MASTER_ADDR", "127.0.0.1");
  set_variable("MASTER_PORT", fmt::format("{}", socket.port()));
  set_variable(kStoreSocketVariable, fmt::format("{}", socket.number()));
  if (rank != 0) ::close(socket.number());
  // If torchrun started this launcher as its only process, its store is not for these ranks. They
  // keep TORCHELASTIC_RESTART_COUNT, by which a restarted job knows that it must resume.
  ::unsetenv("TORCHELASTIC_USE_AGENT_STORE");
  ::execv("/proc/self/exe", arguments);
}

int status_of(int wait_status) {
  return WIFEXITED(wait_status) ? WEXITSTATUS(wait_status) : 128 + WTERMSIG(wait_status);
}

void send(const std::vector<pid_t>& processes, int signal) {
  for (const pid_t process : processes) ::kill(process, signal);
}

/// Waits for all processes, relays signals, and kills the others some time after one has failed.
int wait_for_all(std::vector<pid_t> running) {
  using Clock = std::chrono::steady_clock;
  int status = 0;
  bool stopping = false;  // then each may take as long as its checkpoint takes
  Clock::time_point deadline = Clock::time_point::max();
  while (!running.empty()) {
    if (const int signal = g_signal.exchange(0); signal != 0) {
      stopping = true;
      send(running, signal);
    }
    int wait_status = 0;
    const pid_t ended = ::waitpid(-1, &wait_status, WNOHANG);
    if (ended <= 0) {
      if (Clock::now() > deadline) send(running, SIGKILL);
      std::this_thread::sleep_for(std::chrono::milliseconds(20));
      continue;
    }
    std::erase(running, ended);
    const int own_status = status_of(wait_status);
    // A rank's own failure is more informative than the others' loss of that rank.
    if (status == 0 || (status == kExitRankLost && own_status != 0)) status = own_status;
    if (own_status != 0 && !stopping) deadline = std::min(deadline, Clock::now() + kGrace);
  }
  return status;
}

void relay_signals() {
  struct sigaction action {};
  action.sa_handler = [](int signal) { g_signal = signal; };
  for (const int signal : kSignals) {
    struct sigaction previous {};
    ::sigaction(signal, nullptr, &previous);
    if (signal == SIGHUP && previous.sa_handler == SIG_IGN)
      continue;  // under nohup; the ranks ignore it too
    ::sigaction(signal, &action, nullptr);
  }
}

}  // namespace

int launch_local_ranks(int64_t ranks, char** arguments) {
  relay_signals();
  std::vector<pid_t> running;
  std::optional<ListeningSocket> socket(std::in_place);
  for (int64_t rank = 0; rank < ranks; ++rank) {
    const pid_t process = ::fork();
    if (process == 0) {
      become_rank(rank, ranks, *socket, arguments);
      std::_Exit(127);
    }
    if (process < 0) {
      send(running, SIGKILL);
      throw Error("--ranks: cannot start rank {}: {}", rank, std::strerror(errno));
    }
    running.push_back(process);
  }
  socket.reset();  // rank 0 has it; if open here too, it would hide that rank 0 is gone
  return wait_for_all(running);
}

}  // namespace dalle
