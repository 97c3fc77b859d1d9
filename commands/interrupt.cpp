#include "commands/interrupt.h"

#include <csignal>

namespace braid {
namespace {

volatile std::sig_atomic_t received = 0;

extern "C" void remember_signal(int signal) {
  received = signal;
}

void handle(int signal, void (*handler)(int)) {
  struct sigaction action = {};
  action.sa_handler = handler;
  // Once: the next signal of this kind meets the default action. Interrupted system calls go on.
  action.sa_flags = SA_RESTART | (handler == SIG_DFL ? 0 : static_cast<int>(SA_RESETHAND));
  sigaction(signal, &action, nullptr);
}

}  // namespace

InterruptGuard::InterruptGuard() {
  received = 0;
  for (const int signal : {SIGINT, SIGTERM, SIGUSR1}) {
    handle(signal, remember_signal);
  }
}

InterruptGuard::~InterruptGuard() {
  for (const int signal : {SIGINT, SIGTERM, SIGUSR1}) {
    handle(signal, SIG_DFL);
  }
}

int InterruptGuard::signal() const {
  return received;
}

}  // namespace braid
