#pragma once
// The real program, run as its users run it.
#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include <sys/types.h>

namespace braid::testing {

struct Outcome {
  int status = 0;  ///< exit status; 128 + signal when a signal ended it, as a shell says
  std::string out, err;
};

/// One process of braid with one thread, in a folder of the caller's.
class Program {
 public:
  struct Options {
    /// No file may grow beyond this, as on a disk that is full; 0 = no limit.
    uint64_t largest_file = 0;
    int ranks = 0;           ///< as many processes under mpirun; 0 = one without it
    bool by_script = false;  ///< through scripts/mpirun.sh
    std::vector<std::string> environment = {};        ///< more variables, "NAME=value"
    std::vector<std::string> more_of_last_rank = {};  ///< arguments that the last rank alone has
    std::string output = {};                          ///< standard output instead of a file
    std::string input = {};                           ///< what standard input holds
    std::vector<int> closed = {};                     ///< descriptors that it starts without
    bool under_nohup = false;                         ///< SIGHUP ignored
    std::string folder_of_last_rank = {};             ///< where it starts, if it is another one
    std::string threads = "1";                        ///< OMP_NUM_THREADS; empty = not set
  };
  Program(const std::filesystem::path& folder,
          const std::vector<std::string>& arguments,
          const Options& options);
  /// Kills it if it still runs.
  ~Program();
  Program(const Program&) = delete;
  Program& operator=(const Program&) = delete;

  /// Waits until standard output holds `part` at least `times` times; fails the test if the program
  /// ends, or a minute passes, before that.
  void wait_for(const std::string& part, int times = 1) const;
  void send(int signal) const;
  void send_to_rank(int rank, int signal) const;
  /// From now on no file of that rank may grow beyond this.
  void limit_files_of_rank(int rank, uint64_t largest_file) const;
  /// Waits for the end.
  Outcome finish();

 private:
  pid_t process_of_rank(int rank) const;

  std::filesystem::path out_, err_;
  pid_t process_ = -1;
};

}  // namespace braid::testing
