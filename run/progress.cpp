#include "run/progress.h"

#include <algorithm>
#include <cstdlib>
#include <iostream>
#include <memory>
#include <string_view>
#include <utility>

#include <unistd.h>

#include "core/error.h"
#include "run/console.h"
#include "run/memory.h"

namespace braid {

bool is_smart_terminal(int descriptor) {
  const char* kind = std::getenv("TERM");
  return isatty(descriptor) == 1 && kind != nullptr && std::string_view(kind) != "dumb" &&
         *kind != '\0';
}

Progress::Progress(std::string what, WorkUnit unit)
    : what_(std::move(what)), unit_(unit), terminal_(is_smart_terminal(STDERR_FILENO)) {}

Progress::~Progress() {
  if (terminal_ && shown_once_) {
    std::cerr << "\r\033[K" << std::flush;
  }
}

void Progress::update(int64_t done, int64_t total) {
  using std::chrono::milliseconds;
  constexpr milliseconds kQuick(2'000), kRewritten(200), kPlain(30'000);
  const auto now = Clock::now();
  if (done <= 0 || now - start_ < kQuick || now - shown_ < (terminal_ ? kRewritten : kPlain)) {
    return;
  }
  shown_ = now;
  shown_once_ = true;
  const auto amount = [this](int64_t value) {
    return unit_ == WorkUnit::kBytes ? bytes_text(value) : std::to_string(value);
  };
  std::string line = what_ + ": " + amount(done);
  if (total > 0) {
    const double seconds = std::chrono::duration<double>(now - start_).count();
    const double left = static_cast<double>(total - done) / static_cast<double>(done) * seconds;
    line += text(" of ", amount(total), " | ", duration_text(std::max(0.0, left)), " left");
  }
  std::cerr << (terminal_ ? "\r\033[K" + line : line + "\n") << std::flush;
}

void show_work() {
  static std::unique_ptr<Progress> shown;
  listen_to_work({.begin = [](const std::string& what,
                              WorkUnit unit) { shown = std::make_unique<Progress>(what, unit); },
                  .update = [](int64_t done, int64_t total) { shown->update(done, total); },
                  .end = [] { shown.reset(); }});
}

}  // namespace braid
