#pragma once
#include <cstdint>
#include <string>
#include <vector>

#include "core/machine.h"
#include "plan/plan.h"
#include "run/config.h"

namespace braid {

/// What speaks against starting a run here, with what to change.
struct RoomProblem {
  std::string message;  ///< one line that says which room is short of what
  bool surely = false;  ///< it cannot work; otherwise the estimate says so
};

/// One machine and the ranks that are on it.
struct MachineRoom {
  std::string name;
  int64_t ranks = 1;
  Memory memory;
};

/// Too large surely: trained weights and optimizer state alone, of all ranks here, exceed all
/// memory and swap. Probably: the whole estimate (plan/memory_plan.h), without what stays in a
/// base's files, exceeds what is available. A machine that does not tell its memory has no problem.
/// Of a run on GPUs what it has in the host's memory is compared: surely needed are experts in
/// pinned memory.
std::vector<RoomProblem> memory_problems(const RunConfig& config,
                                         const Plan& plan,
                                         const MachineRoom& machine);

/// A rank's GPU.
struct GpuRoom {
  std::string name;  ///< "cuda:0"
  int64_t total = 0, available = 0;
};

/// The same of what a rank has on its GPU. Surely needed are weights, frozen ones too, their
/// working copies, optimizer state and the buffers of experts.
std::vector<RoomProblem> gpu_problems(const RunConfig& config,
                                      const Plan& plan,
                                      const GpuRoom& gpu);

/// The checkpoints that lie on the disk at once, those that are kept and one that is being written,
/// against `available` bytes: the free ones and those of the run's present checkpoints. Surely too
/// large: one checkpoint alone.
std::vector<RoomProblem> disk_problems(const RunConfig& config,
                                       const Plan& plan,
                                       int64_t available);

/// How many checkpoints the run has at once, at most.
int64_t checkpoints_at_once(const RunConfig& config);

}  // namespace braid
