#pragma once
#include <chrono>
#include <string>

namespace braid {

/// Seconds that an exchange may take: what MpiWorld::set_timeout() was told.
double exchange_timeout();

/// That `what` took longer than `seconds`, with the step and what every other rank is at, whom it
/// asks for up to two seconds.
std::string overdue_exchange(const std::string& what, double seconds);

/// While it lives, other ranks that ask are answered that this rank waits for `what`.
class Waiting {
 public:
  explicit Waiting(std::string what);
  ~Waiting();
  Waiting(const Waiting&) = delete;
  Waiting& operator=(const Waiting&) = delete;

  double seconds() const;
  /// Throws Error that names the step, what was waited for and what every other rank is at, once
  /// it lasts longer than MpiWorld::set_timeout() allows.
  void require_in_time() const;

 private:
  std::string what_;
  double timeout_ = 0;
  std::chrono::steady_clock::time_point start_;
};

}  // namespace braid
