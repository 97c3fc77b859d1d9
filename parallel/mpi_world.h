#pragma once
#include <memory>
#include <string>

#include "parallel/communicator.h"

namespace braid {

/// The processes that one mpirun (or srun) started. There is one object of it in a process.
///
/// No rank waits for ever: an operation that takes longer than the timeout throws an Error that
/// says what every other rank is doing, which a thread of each rank answers even while its main
/// thread computes. The same thread moves operations on while they are awaited by no one.
class MpiWorld {
 public:
  /// Whether this process was started as one of several, or as one under mpirun.
  static bool was_launched();

  /// Starts MPI. Throws Error when it cannot be used by several threads.
  MpiWorld();
  /// Ends MPI; not after an error, for then other ranks may be waiting: see abort().
  ~MpiWorld();
  MpiWorld(const MpiWorld&) = delete;
  MpiWorld& operator=(const MpiWorld&) = delete;

  std::unique_ptr<Communicator> communicator() const;

  /// Seconds that a collective operation may take.
  static void set_timeout(double seconds);
  /// What this rank is doing, for other ranks' messages ("step 12").
  static void set_activity(const std::string& activity);

  /// For errors that all ranks may have at once: ranks other than 0 wait a moment, so that rank 0
  /// reports the error and its exit ends them before they report it again. Needs no MPI.
  static void wait_for_rank_0_to_report();
  /// Ends all ranks with this exit status, after wait_for_rank_0_to_report() and `report`.
  [[noreturn]] static void abort(int status, const std::function<void()>& report);
  /// Waits to be ended by the rank that failed; ends all itself when that takes 10 seconds.
  [[noreturn]] static void await_abort(int status);

 private:
  struct Control;
  std::unique_ptr<Control> control_;
};

/// Rank and number of processes as the launcher's environment has them, before MPI has started:
/// {0, 1, 1, 0} without a launcher.
struct LaunchedAs {
  int64_t rank = 0, size = 1;
  int64_t on_this_machine = 1;       ///< processes
  int64_t rank_on_this_machine = 0;  ///< this one's number among them
};
LaunchedAs launched_as();

}  // namespace braid
