#include "commands/interrupt.h"

#include <atomic>
#include <cerrno>
#include <cstring>
#include <ctime>
#include <utility>

#include <unistd.h>

#include "core/error.h"
#include "core/interruption.h"

namespace braid {
namespace {

std::atomic<const char*> answer_to_interrupt = nullptr;
std::atomic<long long> first_milliseconds[NSIG];  // when a signal first came; 0 = not yet

// As all of the handler, nothing but what is safe at any moment.
void say(const char* words) {
  [[maybe_unused]] const auto written = ::write(STDERR_FILENO, words, std::strlen(words));
}

long long milliseconds_now() {
  timespec now = {};
  ::clock_gettime(CLOCK_MONOTONIC, &now);
  return now.tv_sec * 1000LL + now.tv_nsec / 1'000'000 + 1;
}

// Whoever asks again after this time means it; `timeout` and mpirun may send the same signal twice.
constexpr long long kAgain = 500;

extern "C" void ask_to_stop(int signal, siginfo_t* info, void*) {
  const int error = errno;
  if (signal == SIGPIPE && info->si_pid == ::getpid()) {
    return;  // the call that wrote fails; nobody asked to stop
  }
  const long long now = milliseconds_now();
  long long first = 0;
  if (first_milliseconds[signal].compare_exchange_strong(first, now)) {
    request_interruption(signal);
    if (const char* answer = answer_to_interrupt; signal == SIGINT && answer != nullptr) {
      say("braid: ");
      say(answer);
      say("; again = at once, without saving\n");
    }
  } else if ((signal == SIGINT || signal == SIGTERM) && now - first >= kAgain) {
    ::signal(signal, SIG_DFL);
    ::raise(signal);  // delivered when this handler returns
  }
  errno = error;
}

}  // namespace

InterruptGuard::InterruptGuard(const char* answer) {
  forget_interruption();
  answer_to_interrupt = answer;
  for (const int signal : {SIGINT, SIGTERM, SIGHUP, SIGUSR1, SIGPIPE}) {
    first_milliseconds[signal] = 0;
    struct sigaction action = {}, before = {};
    ::sigaction(signal, nullptr, &before);
    if (signal == SIGHUP && before.sa_handler == SIG_IGN) {
      continue;
    }
    action.sa_sigaction = ask_to_stop;
    action.sa_flags = SA_SIGINFO | SA_RESTART;  // interrupted system calls go on
    ::sigaction(signal, &action, nullptr);
    before_.emplace_back(signal, before);
  }
}

InterruptGuard::~InterruptGuard() {
  for (const auto& [signal, before] : before_) {
    ::sigaction(signal, &before, nullptr);
  }
  answer_to_interrupt = nullptr;
}

std::string signal_name(int signal) {
  for (const auto& [number, name] : {std::pair{SIGINT, "SIGINT"},
                                     {SIGTERM, "SIGTERM"},
                                     {SIGHUP, "SIGHUP"},
                                     {SIGUSR1, "SIGUSR1"},
                                     {SIGPIPE, "SIGPIPE"}}) {
    if (number == signal) {
      return name;
    }
  }
  return text("signal ", signal);
}

}  // namespace braid
