#pragma once
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include <sys/types.h>

namespace braid {

/// A program that runs beside this one: in a process group of its own, so that a terminal's Ctrl-C
/// reaches only its parent, and with an empty standard input.
class ChildProcess {
 public:
  /// `arguments[0]` is the program, looked up in PATH where it has no '/'. What it prints, on
  /// standard output and error, is added to the file `output`. `stop_signal` asks it to save and
  /// end; it also gets it when this process ends, however that ends, as long as the thread that
  /// constructs it was the last to live. Throws Error where it cannot be started.
  ChildProcess(std::vector<std::string> arguments,
               const std::filesystem::path& output,
               int stop_signal);
  /// Kills it where it still runs, and waits.
  ~ChildProcess();
  ChildProcess(const ChildProcess&) = delete;
  ChildProcess& operator=(const ChildProcess&) = delete;

  /// The exit status as shells have it (128 + signal), once it has ended. Never waits.
  std::optional<int> poll();
  void ask_to_stop() const;

 private:
  pid_t process_ = -1;
  int stop_signal_;
};

}  // namespace braid
