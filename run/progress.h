#pragma once
#include <chrono>
#include <cstdint>
#include <string>

namespace braid {

/// Shows on standard error how far a long command is and how long it will still take: on a terminal
/// one line that is rewritten and removed at the end, elsewhere a line every half minute.
class Progress {
 public:
  explicit Progress(std::string what);
  ~Progress();
  Progress(const Progress&) = delete;
  Progress& operator=(const Progress&) = delete;

  void update(int64_t done, int64_t total);

 private:
  using Clock = std::chrono::steady_clock;

  std::string what_;
  bool terminal_;
  Clock::time_point start_ = Clock::now(), shown_ = start_;
};

}  // namespace braid
