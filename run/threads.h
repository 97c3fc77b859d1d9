#pragma once
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "core/machine.h"
#include "parallel/communicator.h"

namespace braid {

/// LibTorch starts as many threads as it is told, at once; far more than this stop a machine.
inline constexpr int64_t kMostThreads = 1024;

/// How many threads a process computes with, and why.
struct Threads {
  int64_t count = 1;
  /// What decided: "train.threads", "OMP_NUM_THREADS", "affinity", "cgroup quota", "all cores".
  std::string decided_by;
  int64_t ranks_here = 1;  ///< processes of the run on this machine
  std::string warning;     ///< where these are more threads than there are cores; else empty

  /// "2 threads (affinity)", of several ranks on this machine "1 thread each (all cores)".
  std::string text() const;
};

/// The choice: `configured` (train.threads) unless it is 0; else `environment`, the value of
/// OMP_NUM_THREADS; else the cores that affinity and the cgroups' quota leave, rounded down, at
/// least one. Of the processes of the run on this machine, whose cores are `here`, those that may
/// use a core share it, and all share the quota; `own` is this process's place among them. Never
/// more than kMostThreads; throws ConfigError where train.threads asks for more.
Threads chosen_threads(int64_t configured,
                       const std::optional<std::string>& environment,
                       const std::vector<Cores>& here,
                       std::size_t own = 0);

/// Has LibTorch use what chosen_threads() says. Without a communicator the other processes that
/// were started on this machine are taken to have the same cores; with one they are asked.
Threads use_threads(int64_t configured = 0);
Threads use_threads(int64_t configured, Communicator& ranks);

}  // namespace braid
