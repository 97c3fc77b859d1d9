#include "commands/room_check.h"

#include <iostream>
#include <map>
#include <optional>

#include "core/machine.h"
#include "formats/base_sizes.h"
#include "parallel/cuda_plugin.h"
#include "plan/room.h"
#include "run/run_folder.h"

namespace braid {
namespace {

// By name; of ranks in different cgroups of one machine the one with the least memory counts.
std::map<std::string, MachineRoom> machines_of(Communicator& ranks) {
  const auto names = ranks.all_gather(machine_name(), "machines");
  const auto memory = usable_memory();
  const auto all = ranks.all_gather(
      std::vector<int64_t>{memory.total, memory.available, memory.by_cgroup ? 1 : 0}, "memory");
  std::map<std::string, MachineRoom> machines;
  for (std::size_t r = 0; r < names.size(); ++r) {
    const Memory its{.total = all[r][0], .available = all[r][1], .by_cgroup = all[r][2] != 0};
    const auto [found, added] =
        machines.try_emplace(names[r], MachineRoom{names[r].substr(0, names[r].find(' ')), 0, its});
    auto& machine = found->second;
    ++machine.ranks;
    machine.memory = its.available < machine.memory.available ? its : machine.memory;
  }
  return machines;
}

// The one with the least memory.
std::optional<GpuRoom> gpu_of(at::Device device, Communicator& ranks) {
  if (!device.is_cuda()) {
    return std::nullopt;
  }
  const auto memory = cuda_plugin().memory(device.index());
  std::optional<GpuRoom> least;
  for (const auto& its :
       ranks.all_gather(std::vector<int64_t>{memory.total, memory.free}, "GPUs' memory")) {
    if (!least || its[1] < least->available) {
      least = {text(device), its[0], its[1]};
    }
  }
  return least;
}

std::vector<RoomProblem> problems_of(const RunConfig& config,
                                     const std::map<std::string, MachineRoom>& machines,
                                     const std::optional<GpuRoom>& gpu,
                                     int64_t ranks) {
  const auto plan = plan_training(config, ranks, bytes_of_codes(config.run.init_from));
  std::vector<RoomProblem> problems;
  const auto add = [&problems](const std::vector<RoomProblem>& more) {
    problems.insert(problems.end(), more.begin(), more.end());
  };
  for (const auto& [name, machine] : machines) {
    add(memory_problems(config, plan, machine));
  }
  if (gpu) {
    add(gpu_problems(config, plan, *gpu));
  }
  if (const auto free = free_disk(config.run_dir())) {
    add(disk_problems(config, plan, *free + disk_usage(RunPaths{config.run_dir()}.checkpoints())));
  }
  return problems;
}

}  // namespace

void check_room(const RunConfig& config, at::Device device, bool go_on, Communicator& ranks) {
  const auto machines = machines_of(ranks);
  const auto gpu = gpu_of(device, ranks);
  ranks.first_alone(
      [&] {
        for (const auto& [message, surely] : problems_of(config, machines, gpu, ranks.size())) {
          require(!surely || go_on, message, ". --ignore-room starts all the same");
          std::cout << "warning: " << message << std::endl;
        }
      },
      "whether there is room");
}

}  // namespace braid
