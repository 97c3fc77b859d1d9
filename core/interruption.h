#pragma once

namespace braid {

/// Leaves everything that is under way because a signal asked the process to stop. No
/// std::exception, so that nothing that handles errors takes it for one.
class Interrupted {
 public:
  explicit Interrupted(int signal) : signal_(signal) {}
  int signal() const { return signal_; }

 private:
  int signal_;
};

/// Asks the process to stop. Only the first request counts until forget_interruption(). Safe in a
/// signal handler.
void request_interruption(int signal) noexcept;
/// The signal that asked to stop; 0 while none did.
int interruption() noexcept;
void forget_interruption() noexcept;

/// Throws Interrupted once the process was asked to stop. Every long loop calls it at least once a
/// second. With several ranks only where an error of one rank reaches all: within
/// Communicator::all_or_none() or first_alone(), or behind Communicator::agree_on_interruption().
void stop_if_interrupted();

}  // namespace braid
