#include "tests/commands/program.h"

#include <chrono>
#include <csignal>
#include <sstream>
#include <thread>

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "core/error.h"
#include "core/file.h"

namespace braid::testing {
namespace {

int occurrences(const std::string& text, const std::string& part) {
  int count = 0;
  for (auto at = text.find(part); at != std::string::npos; at = text.find(part, at + part.size())) {
    ++count;
  }
  return count;
}

// Between fork and exec: system calls only.
[[noreturn]] void become(char* const* arguments,
                         char* const* environment,
                         const char* program,
                         const char* folder,
                         int in,
                         int out,
                         int err,
                         const Program::Options& options) {
  dup2(in, STDIN_FILENO);
  dup2(out, STDOUT_FILENO);
  dup2(err, STDERR_FILENO);
  if (options.largest_file > 0) {
    const rlimit limit = {options.largest_file, options.largest_file};
    setrlimit(RLIMIT_FSIZE, &limit);
  }
  if (options.under_nohup) {
    signal(SIGHUP, SIG_IGN);
  }
  for (const int descriptor : options.closed) {
    close(descriptor);
  }
  if (chdir(folder) == 0) {
    execve(program, arguments, environment);
  }
  _exit(127);
}

std::vector<char*> pointers(std::vector<std::string>& words) {
  std::vector<char*> result;
  for (auto& word : words) {
    result.push_back(word.data());
  }
  result.push_back(nullptr);
  return result;
}

}  // namespace

Program::Program(const std::filesystem::path& folder,
                 const std::vector<std::string>& arguments,
                 const Options& options)
    : out_(folder / "standard-output"), err_(folder / "standard-error") {
  std::vector<std::string> words = {"braid"};
  const auto add_ranks = [&](int ranks) {
    words.insert(words.end(), {"-n", std::to_string(ranks), BRAID_PROGRAM});
    words.insert(words.end(), arguments.begin(), arguments.end());
  };
  const auto& more = options.more_of_last_rank;
  const bool last_differs = !more.empty() || !options.folder_of_last_rank.empty();
  if (options.ranks == 0) {
    words.insert(words.end(), arguments.begin(), arguments.end());
  } else {
    words = {"mpirun", "--oversubscribe", "--bind-to", "none"};
    add_ranks(last_differs ? options.ranks - 1 : options.ranks);
  }
  if (last_differs) {
    words.emplace_back(":");
    if (!options.folder_of_last_rank.empty()) {
      words.insert(words.end(), {"-wdir", options.folder_of_last_rank});
    }
    add_ranks(1);
    words.insert(words.end(), more.begin(), more.end());
  }
  std::vector<std::string> environment = {"OMP_WAIT_POLICY=passive"};
  if (!options.threads.empty()) {
    environment.push_back("OMP_NUM_THREADS=" + options.threads);
  }
  environment.insert(environment.end(), options.environment.begin(), options.environment.end());
  if (options.ranks > 0) {
    environment.insert(environment.end(),
                       {"OMPI_ALLOW_RUN_AS_ROOT=1",
                        "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1",
                        // mpirun prints about itself first, as it and hwloc do on some machines.
                        "OMPI_MCA_plm_base_verbose=5",
                        "PATH=/usr/bin:/bin",
                        "HOME=/tmp"});
  }
  const auto argv = pointers(words), envp = pointers(environment);
  const auto& elsewhere = options.output;
  close(open(out_.c_str(), O_CREAT | O_TRUNC | O_WRONLY | O_CLOEXEC, 0644));
  const int out = open(elsewhere.empty() ? out_.c_str() : elsewhere.c_str(), O_WRONLY | O_CLOEXEC);
  const int err = open(err_.c_str(), O_CREAT | O_TRUNC | O_WRONLY | O_CLOEXEC, 0644);
  const auto input = options.input.empty() ? "/dev/null" : folder / "standard-input";
  if (!options.input.empty()) {
    write_file_atomically(input, options.input);
  }
  const int in = open(input.c_str(), O_RDONLY | O_CLOEXEC);
  require(in >= 0 && out >= 0 && err >= 0, folder.string(), ": cannot be written");
  process_ = fork();
  if (process_ == 0) {
    become(argv.data(),
           envp.data(),
           options.by_script   ? BRAID_SCRIPTS "/mpirun.sh"
           : options.ranks > 0 ? BRAID_MPIRUN
                               : BRAID_PROGRAM,
           folder.c_str(),
           in,
           out,
           err,
           options);
  }
  close(in);
  close(out);
  close(err);
  require(process_ > 0, "no process could be started");
}

Program::~Program() {
  if (process_ > 0) {
    send(SIGKILL);
    waitpid(process_, nullptr, 0);
  }
}

void Program::wait_for(const std::string& part, int times) const {
  const auto deadline = std::chrono::steady_clock::now() + std::chrono::minutes(1);
  while (occurrences(read_file(out_), part) < times) {
    siginfo_t ended = {};
    waitid(P_PID, static_cast<id_t>(process_), &ended, WEXITED | WNOHANG | WNOWAIT);
    ASSERT_EQ(ended.si_pid, 0) << "braid ended before it said '" << part << "' " << times
                               << " times:\n"
                               << read_file(out_) << read_file(err_);
    ASSERT_LT(std::chrono::steady_clock::now(), deadline) << "waited a minute for '" << part << "'";
    std::this_thread::sleep_for(std::chrono::milliseconds(2));
  }
}

void Program::send(int signal) const {
  kill(process_, signal);
}

void Program::send_to_rank(int rank, int signal) const {
  kill(process_of_rank(rank), signal);
}

void Program::limit_files_of_rank(int rank, uint64_t largest_file) const {
  const rlimit limit = {largest_file, largest_file};
  EXPECT_EQ(prlimit(process_of_rank(rank), RLIMIT_FSIZE, &limit, nullptr), 0);
}

pid_t Program::process_of_rank(int rank) const {
  // mpirun's children tell their rank in their environment; mpirun may be a script's child.
  const auto wanted = "OMPI_COMM_WORLD_RANK=" + std::to_string(rank);
  std::vector<pid_t> parents = {process_};
  while (!parents.empty()) {
    const auto parent = std::to_string(parents.back());
    parents.pop_back();
    std::istringstream children(read_file("/proc/" + parent + "/task/" + parent + "/children"));
    for (pid_t pid = 0; children >> pid;) {
      std::istringstream variables(read_file("/proc/" + std::to_string(pid) + "/environ"));
      for (std::string variable; std::getline(variables, variable, '\0');) {
        if (variable == wanted) {
          return pid;
        }
      }
      parents.push_back(pid);
    }
  }
  fail("there is no rank ", rank, " below process ", process_);
}

Outcome Program::finish() {
  int status = 0;
  waitpid(process_, &status, 0);
  process_ = -1;
  return {WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status),
          read_file(out_),
          read_file(err_)};
}

}  // namespace braid::testing
