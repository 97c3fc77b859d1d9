#pragma once
#include <csignal>
#include <string>
#include <vector>

namespace braid {

/// While it lives, SIGINT, SIGTERM, SIGHUP (unless it is ignored, as under nohup), SIGUSR1 and a
/// SIGPIPE from another process ask the program to stop, see core/interruption.h. SIGINT is
/// answered at once on standard error; it or SIGTERM again, half a second later or more, ends the
/// program without saving. A SIGPIPE of the program's own is left to whoever writes, as an error.
class InterruptGuard {
 public:
  /// `answer`: a literal, "stopping after this step"; null = none.
  explicit InterruptGuard(const char* answer = "stopping");
  /// Back to what was before; a request stays.
  ~InterruptGuard();
  InterruptGuard(const InterruptGuard&) = delete;
  InterruptGuard& operator=(const InterruptGuard&) = delete;

 private:
  std::vector<std::pair<int, struct sigaction>> before_;
};

/// "SIGTERM".
std::string signal_name(int signal);

/// The exit status of a program that a signal stopped, as shells have it.
inline int status_of_signal(int signal) {
  return 128 + signal;
}

}  // namespace braid
