#include "core/work.h"

#include <utility>

namespace braid {
namespace {

struct Part {
  bool open = false;
  int64_t done = 0, total = 0;
};
thread_local Part part_of_this_thread;

WorkListener& listener() {
  static WorkListener listener;
  return listener;
}

}  // namespace

Work::Work(const std::string& what, int64_t total, WorkUnit unit)
    : outermost_(!part_of_this_thread.open) {
  if (outermost_) {
    part_of_this_thread = {true, 0, total};
    if (listener().begin) {
      listener().begin(what, unit);
    }
  }
}

Work::~Work() {
  if (outermost_) {
    part_of_this_thread = {};
    if (listener().end) {
      listener().end();
    }
  }
}

void Work::did(int64_t amount) {
  auto& part = part_of_this_thread;
  part.done += amount;
  if (part.open && listener().update) {
    listener().update(part.done, part.total);
  }
}

void listen_to_work(WorkListener new_listener) {
  listener() = std::move(new_listener);
}

}  // namespace braid
