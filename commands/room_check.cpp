#include "commands/room_check.h"

#include <iostream>
#include <map>

#include "core/machine.h"
#include "formats/base_sizes.h"
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

std::vector<RoomProblem> problems_of(const RunConfig& config,
                                     const std::map<std::string, MachineRoom>& machines,
                                     int64_t ranks) {
  const auto plan = plan_training(config, ranks, bytes_of_codes(config.run.init_from));
  std::vector<RoomProblem> problems;
  const auto add = [&problems](const std::vector<RoomProblem>& more) {
    problems.insert(problems.end(), more.begin(), more.end());
  };
  if (config.train.device.kind == DeviceChoice::Kind::kCpu) {  // a GPU's memory is not compared
    for (const auto& [name, machine] : machines) {
      add(memory_problems(config, plan, machine));
    }
  }
  if (const auto free = free_disk(config.run_dir())) {
    add(disk_problems(config, plan, *free + disk_usage(RunPaths{config.run_dir()}.checkpoints())));
  }
  return problems;
}

}  // namespace

void check_room(const RunConfig& config, bool go_on, Communicator& ranks) {
  const auto machines = machines_of(ranks);
  ranks.first_alone(
      [&] {
        for (const auto& [message, surely] : problems_of(config, machines, ranks.size())) {
          require(!surely || go_on, message, ". --ignore-room starts all the same");
          std::cout << "warning: " << message << std::endl;
        }
      },
      "whether there is room");
}

}  // namespace braid
