#include "sweep/child_process.h"

#include <cerrno>
#include <csignal>
#include <cstring>

#include <fcntl.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "core/error.h"

namespace braid {
namespace {

// Between fork and exec: system calls only. The error number of a failure goes through `report`.
[[noreturn]] void become(
    char* const* arguments, int input, int output, int report, pid_t parent, int stop_signal) {
  ::setpgid(0, 0);
  ::prctl(PR_SET_PDEATHSIG, stop_signal);
  if (::getppid() != parent) {  // it ended before that was said
    ::_exit(1);
  }
  ::dup2(input, STDIN_FILENO);
  ::dup2(output, STDOUT_FILENO);
  ::dup2(output, STDERR_FILENO);
  ::execvp(arguments[0], arguments);
  const int error = errno;
  [[maybe_unused]] const auto written = ::write(report, &error, sizeof error);
  ::_exit(127);
}

int opened(const std::filesystem::path& path, int flags) {
  const int descriptor = ::open(path.c_str(), flags | O_CLOEXEC, 0644);
  require(descriptor >= 0, path.string(), ": cannot be opened: ", std::strerror(errno));
  return descriptor;
}

}  // namespace

ChildProcess::ChildProcess(std::vector<std::string> arguments,
                           const std::filesystem::path& output,
                           int stop_signal)
    : stop_signal_(stop_signal) {
  std::vector<char*> pointers;
  for (auto& argument : arguments) {
    pointers.push_back(argument.data());
  }
  pointers.push_back(nullptr);
  const int out = opened(output, O_CREAT | O_WRONLY | O_APPEND);
  const int in = opened("/dev/null", O_RDONLY);
  int report[2] = {-1, -1};
  const bool has_pipe = ::pipe2(report, O_CLOEXEC) == 0;
  const pid_t parent = ::getpid();
  process_ = has_pipe ? ::fork() : -1;
  if (process_ == 0) {
    become(pointers.data(), in, out, report[1], parent, stop_signal);
  }
  const int fork_error = errno;
  ::close(in);
  ::close(out);
  ::close(report[1]);
  require(process_ > 0, "no process could be started: ", std::strerror(fork_error));
  int error = 0;
  ssize_t got = 0;
  do {
    got = ::read(report[0], &error, sizeof error);  // ends when the program has begun
  } while (got < 0 && errno == EINTR);
  ::close(report[0]);
  if (got == sizeof error) {
    ::waitpid(process_, nullptr, 0);
    process_ = -1;
    fail(arguments.front(), ": cannot be started: ", std::strerror(error));
  }
}

ChildProcess::~ChildProcess() {
  if (process_ > 0) {
    ::kill(process_, SIGKILL);
    ::waitpid(process_, nullptr, 0);
  }
}

std::optional<int> ChildProcess::poll() {
  int status = 0;
  if (process_ <= 0 || ::waitpid(process_, &status, WNOHANG) != process_) {
    return std::nullopt;
  }
  process_ = -1;
  return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

void ChildProcess::ask_to_stop() const {
  if (process_ > 0) {
    ::kill(process_, stop_signal_);
  }
}

}  // namespace braid
