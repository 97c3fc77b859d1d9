#include "run/console.h"

#include <cmath>
#include <cstdio>
#include <iostream>

#include <unistd.h>

#include "core/error.h"
#include "core/output_place.h"
#include "run/progress.h"

namespace braid {

Console::Console(const std::filesystem::path& log_file, bool may_be_terminal)
    : enabled_(true), terminal_(may_be_terminal && is_smart_terminal(STDOUT_FILENO)) {
  require_file_or_absent(log_file);
  log_.open(log_file, std::ios::app);
  require(log_.good(), log_file.string(), ": cannot be written");
}

Console::~Console() {
  end_progress();
}

void Console::line(const std::string& text) {
  if (!enabled_) {
    return;
  }
  end_progress();
  std::cout << text << std::endl;
  log(text);
}

void Console::progress(const std::string& text, bool keep) {
  if (!enabled_) {
    return;
  }
  if (terminal_) {
    std::cout << "\r\033[K" << text << std::flush;
    progress_shown_ = true;
  }
  if (keep) {
    if (!terminal_) {
      std::cout << text << std::endl;
    }
    log(text);
  }
}

// A line that found no room is lost; the next one is tried again.
void Console::log(const std::string& text) {
  log_.clear();
  log_ << text << std::endl;
}

void Console::end_progress() {
  if (progress_shown_) {
    std::cout << std::endl;
    progress_shown_ = false;
  }
}

std::string duration_text(double seconds) {
  const auto total = static_cast<long long>(std::llround(seconds));
  char buffer[32];
  if (total >= 3600) {
    std::snprintf(buffer, sizeof buffer, "%lldh%02lldm", total / 3600, total % 3600 / 60);
  } else if (total >= 60) {
    std::snprintf(buffer, sizeof buffer, "%lldm%02llds", total / 60, total % 60);
  } else {
    std::snprintf(buffer, sizeof buffer, "%llds", total);
  }
  return buffer;
}

}  // namespace braid
