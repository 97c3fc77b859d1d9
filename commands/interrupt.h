#pragma once

namespace braid {

/// Makes SIGINT, SIGTERM and SIGUSR1 requests to save and stop while it lives. A second SIGINT or
/// SIGTERM ends the program at once.
class InterruptGuard {
 public:
  InterruptGuard();
  ~InterruptGuard();
  InterruptGuard(const InterruptGuard&) = delete;
  InterruptGuard& operator=(const InterruptGuard&) = delete;

  /// The signal that asked to stop; 0 while none did.
  int signal() const;
};

}  // namespace braid
