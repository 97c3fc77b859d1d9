#include "run/progress.h"

#include <iostream>
#include <utility>

#include <unistd.h>

#include "core/error.h"
#include "run/console.h"

namespace braid {

Progress::Progress(std::string what)
    : what_(std::move(what)), terminal_(isatty(STDERR_FILENO) == 1) {}

Progress::~Progress() {
  if (terminal_) {
    std::cerr << "\r\033[K" << std::flush;
  }
}

void Progress::update(int64_t done, int64_t total) {
  using std::chrono::milliseconds;
  const auto now = Clock::now();
  if (done <= 0 || now - shown_ < (terminal_ ? milliseconds(200) : milliseconds(30'000))) {
    return;
  }
  shown_ = now;
  const double seconds = std::chrono::duration<double>(now - start_).count();
  const auto left = static_cast<double>(total - done) / static_cast<double>(done) * seconds;
  const auto line = text(what_, ": ", done, " of ", total, " | ", duration_text(left), " left");
  std::cerr << (terminal_ ? "\r\033[K" + line : line + "\n") << std::flush;
}

}  // namespace braid
