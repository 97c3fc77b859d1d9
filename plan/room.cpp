#include "plan/room.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "run/memory.h"

namespace braid {
namespace {

std::string size_text(double bytes) {
  constexpr double kLargest = 9e18;
  return bytes_text(static_cast<int64_t>(std::min(bytes, kLargest)));
}

std::string ranks_text(int64_t ranks, double bytes) {
  return ranks > 1 ? text(" (", ranks, " ranks of ", size_text(bytes), ")") : std::string();
}

// What makes the largest parts of a rank's memory smaller, the ways that change no result first.
// `held`: what is too large are weights and state, so that smaller activations do not help.
std::string memory_advice(const RunConfig& config, const Plan& plan, int64_t ranks, bool held) {
  const auto& memory = plan.memory;
  constexpr double kWorthIt = 0.1;  // of the whole
  const auto matters = [&](double bytes) { return bytes > kWorthIt * memory.total_bytes(); };
  const bool activations = !held && matters(memory.activations_bytes);
  std::string ways;
  const auto add = [&ways](const std::string& way) { ways += text(ways.empty() ? "" : ", ", way); };
  if (matters(memory.resident_experts_bytes)) {
    add(text("a ",
             config.train.resident_gb ? "smaller " : "",
             "train.resident_gb (experts that stay on the GPU are ",
             size_text(memory.resident_experts_bytes),
             "; the others are copied to it)"));
  }
  if (memory.working_copies_bytes > 0 && (held || matters(memory.working_copies_bytes))) {
    add(text("train.working_copies: false (", size_text(memory.working_copies_bytes), ")"));
  }
  if (activations && config.train.micro_batch_size > 1) {
    add(text("a smaller train.micro_batch_size than ",
             config.train.micro_batch_size,
             " (activations are ",
             size_text(memory.activations_bytes),
             ")"));
  }
  if (activations && !config.train.recompute_sublayers) {
    add("train.recompute_sublayers: 2");
  }
  if (!held && !memory.on_gpu && matters(memory.snapshot_bytes)) {
    add(text("checkpoint.in_background: false (", size_text(memory.snapshot_bytes), ")"));
  }
  if (ranks > 1) {
    add("fewer ranks on this machine");
  }
  if (held || matters(memory.optimizer_bytes)) {
    add("ranks on more machines, which divide the optimizer's state");
  }
  if (held || matters(memory.weights_bytes)) {
    add("a larger parallel.expert, which divides the experts among ranks");
  }
  if (activations) {
    add("a shorter data.seq_len");
  }
  add("a smaller model");
  return text("Possible: ", ways);
}

// What a GPU's host has too much of.
std::string host_advice(const RunConfig& config, const MemoryPlan& memory) {
  std::string ways;
  if (memory.pinned_experts_bytes > 0) {
    ways = text("a ",
                config.train.pinned_gb ? "smaller " : "",
                "train.pinned_gb (experts in pinned memory are ",
                size_text(memory.pinned_experts_bytes),
                "; the others are read from the base's files), a larger train.resident_gb");
  }
  if (config.checkpoint.in_background) {
    ways += text(ways.empty() ? "" : ", ",
                 "checkpoint.in_background: false (",
                 size_text(memory.snapshot_bytes),
                 ")");
  }
  return text("Possible: ", ways);
}

}  // namespace

std::vector<RoomProblem> memory_problems(const RunConfig& config,
                                         const Plan& plan,
                                         const MachineRoom& machine) {
  const auto& [name, ranks, room] = machine;
  if (room.total == 0) {
    return {};
  }
  const auto& memory = plan.memory;
  const double sure = memory.on_gpu ? memory.pinned_experts_bytes
                                    : memory.weights_bytes - memory.base_weights_bytes +
                                          memory.optimizer_bytes,
               likely = memory.on_gpu ? memory.host_bytes()
                                      : memory.total_bytes() - memory.base_weights_bytes;
  const auto advice = [&](bool held) {
    return memory.on_gpu ? host_advice(config, memory) : memory_advice(config, plan, ranks, held);
  };
  const auto all = static_cast<double>(ranks);
  if (sure * all > static_cast<double>(room.total)) {
    return {
        {text(memory.on_gpu
                  ? "memory: experts in pinned memory take "
                  : "memory: the weights that are trained and the optimizer's state alone take ",
              size_text(sure * all),
              ranks_text(ranks, sure),
              ", machine ",
              name,
              " has ",
              bytes_text(room.total),
              room.by_cgroup ? " for this cgroup" : "",
              ". ",
              advice(/*held=*/true)),
         /*surely=*/true}};
  }
  if (likely * all > static_cast<double>(room.available)) {
    return {{text("memory: a step is estimated to take ",
                  size_text(likely * all),
                  ranks_text(ranks, likely),
                  ", machine ",
                  name,
                  " has ",
                  bytes_text(room.available),
                  " available",
                  room.by_cgroup ? " for this cgroup" : "",
                  ". ",
                  advice(/*held=*/false)),
             /*surely=*/false}};
  }
  return {};
}

std::vector<RoomProblem> gpu_problems(const RunConfig& config,
                                      const Plan& plan,
                                      const GpuRoom& gpu) {
  const auto& memory = plan.memory;
  const double held = memory.weights_bytes - memory.base_weights_bytes +
                      memory.working_copies_bytes + memory.optimizer_bytes +
                      memory.expert_buffers_bytes,
               likely = memory.device_bytes() - memory.base_weights_bytes;
  const bool surely = held > static_cast<double>(gpu.total);
  if (!surely && likely <= static_cast<double>(gpu.available)) {
    return {};
  }
  return {
      {text("GPU memory: ",
            surely ? "weights, their working copies, optimizer state and buffers of experts alone "
                     "take "
                   : "a step is estimated to take ",
            size_text(surely ? held : likely),
            " of each rank, ",
            gpu.name,
            " has ",
            bytes_text(surely ? gpu.total : gpu.available),
            surely ? ". " : " available. ",
            memory_advice(config, plan, /*ranks=*/1, /*held=*/surely)),
       surely}};
}

int64_t checkpoints_at_once(const RunConfig& config) {
  const auto& checkpoint = config.checkpoint;
  const int64_t steps = config.train.max_steps, validated = config.train.validate_every_steps,
                best = std::min(checkpoint.keep_best, validated > 0 ? steps / validated : 0);
  if (checkpoint.every_steps == 0) {
    return 1 + best;
  }
  const int64_t saved = steps / checkpoint.every_steps + (steps % checkpoint.every_steps > 0);
  const double both =
      checkpoint.keep_every_steps == 0
          ? 0
          : static_cast<double>(checkpoint.every_steps) /
                static_cast<double>(std::gcd(checkpoint.every_steps, checkpoint.keep_every_steps)) *
                static_cast<double>(checkpoint.keep_every_steps);
  const auto for_good = both > 0 && config.train.max_steps.is_known()
                            ? static_cast<int64_t>(static_cast<double>(steps) / both)
                            : int64_t{0};
  return best + std::min(saved, checkpoint.keep_last) +
         std::min(std::max<int64_t>(0, saved - checkpoint.keep_last), for_good + 1);
}

std::vector<RoomProblem> disk_problems(const RunConfig& config,
                                       const Plan& plan,
                                       int64_t available) {
  const int64_t count = checkpoints_at_once(config);
  const double one = plan.checkpoint_bytes, all = one * static_cast<double>(count);
  const bool surely = one > static_cast<double>(available);
  if (all <= static_cast<double>(available)) {
    return {};
  }
  return {{text("disk: ",
                surely ? text("one checkpoint takes ", size_text(one))
                       : text(count, " checkpoints of ", size_text(one), " take ", size_text(all)),
                ", ",
                config.run_dir().string(),
                " has room for ",
                bytes_text(available),
                surely ? ". Choose a run.output_dir on another disk, or make room"
                       : ". Lower checkpoint.keep_last or keep_best, or raise "
                         "checkpoint.keep_every_steps, or "
                         "choose a run.output_dir on another disk"),
           surely}};
}

}  // namespace braid
