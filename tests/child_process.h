#pragma once

#include <sys/wait.h>
#include <unistd.h>

#include <exception>
#include <utility>

namespace dalle {

constexpr int kThrew = 99;

/// Runs `action` in a forked process and returns its exit status: 0 after a return, kThrew after an
/// exception. Its effects on the process (limits, rights, death) stay there.
template <class Action>
int exit_status_in_child(Action&& action) {
  const pid_t child = ::fork();
  if (child == 0) {
    try {
      std::forward<Action>(action)();
    } catch (const std::exception&) {
      ::_exit(kThrew);
    }
    ::_exit(0);
  }
  int status = 0;
  ::waitpid(child, &status, 0);
  return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

/// Permanently gives up root's right to write anywhere.
inline void become_nobody() {
  if (::getuid() == 0 && ::setuid(65534) != 0) ::_exit(98);
}

}  // namespace dalle
