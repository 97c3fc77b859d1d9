#include "sweep/sweep_run.h"

#include <algorithm>
#include <map>
#include <tuple>

#include "core/config_edit.h"
#include "core/error.h"
#include "formats/base_model.h"
#include "formats/base_sizes.h"

namespace braid {
namespace {

// What a process of braid takes that computes nothing: LibTorch, its threads, MPI.
constexpr double kProcessBytes = 300e6;

// One choice for every axis of a grid.
struct GridPoint {
  std::string name;  // "-learning_rate-0.001"
  ConfigNode tree = ConfigNode::mapping({});
};

std::string in_a_name(const std::string& text) {
  std::string result;
  for (const char c : text) {
    const bool is_good = std::isalnum(static_cast<unsigned char>(c)) != 0 || c == '.' || c == '-' ||
                         c == '+' || c == '_';
    result += is_good ? c : '_';
  }
  return result;
}

// "-learning_rate-0.001"; a list or a long value by its number among the values.
std::string choice_name(const std::string& key,
                        const std::vector<ConfigNode>& values,
                        std::size_t i) {
  constexpr std::size_t kLongest = 24;
  const auto& value = values[i];
  const bool is_short = value.kind == ConfigNode::Kind::kScalar && value.scalar.size() <= kLongest;
  return text('-',
              in_a_name(key.substr(key.rfind('.') + 1)),
              '-',
              is_short ? in_a_name(value.scalar) : text("value", i + 1));
}

std::vector<GridPoint> points_of(const RunGrid& grid) {
  std::vector<GridPoint> points(1);
  for (const auto& [key, values] : grid.axes) {
    std::vector<GridPoint> more;
    for (const auto& point : points) {
      for (std::size_t i = 0; i < values.size(); ++i) {
        auto& added = more.emplace_back(point);
        added.name += choice_name(key, values, i);
        merge_config(added.tree, tree_with(key, values[i]));
      }
    }
    points = std::move(more);
  }
  return points;
}

ConfigNode merged_files(const ConfigFileList& list) {
  auto tree = ConfigNode::mapping({});
  for (const auto& file : list.files) {
    merge_config(tree, read_config_tree(file.path, {}));
  }
  return tree;
}

void set_key(ConfigNode& tree, const std::string& key, const std::string& value) {
  auto node = ConfigNode::text(value);
  node.place = "the sweep";
  merge_config(tree, tree_with(key, std::move(node)));
}

RunConfig config_of_run(const SweepConfig& sweep,
                        const SweepArm& arm,
                        const std::string& name,
                        std::optional<std::size_t> value,
                        std::size_t seed_index) {
  auto tree = arm.tree;
  if (value) {
    merge_config(tree, tree_with(arm.tune.key, arm.tune.values()[*value]));
  }
  set_key(tree, "run.name", name);
  set_key(tree, "run.output_dir", runs_folder(sweep).string());
  try {
    auto loaded = config_of<RunConfig>(tree);
    auto& config = loaded.value;
    constexpr int64_t kApart = 1000;
    config.run.seed = sweep.seeds.seeds[seed_index] +
                      (sweep.paired ? 0 : kApart * static_cast<int64_t>(arm.index));
    config.train.threads =
        sweep.threads.value_or(config.train.threads > 0 ? config.train.threads : 1);
    return validated_on_base(std::move(loaded));
  } catch (const Error& error) {
    fail("arm ", arm.name, ": ", error.what());
  }
}

RunCost cost_of(const RunConfig& config, int64_t ranks, const PlannedSpeed& speed) {
  const auto plan = plan_training(config, ranks, bytes_of_codes(config.run.init_from));
  RunCost cost{
      .seconds = planned_time(plan, speed).run,
      .memory_bytes = static_cast<double>(ranks) * (plan.memory.total_bytes() + kProcessBytes),
      .cores = ranks * config.train.threads,
      .steps = config.train.max_steps};
  for (const auto& stage : plan.stages) {
    cost.flops += stage.flops();
    cost.tokens += stage.tokens();
  }
  return cost;
}

}  // namespace

std::filesystem::path runs_folder(const SweepConfig& sweep) {
  return std::filesystem::path(sweep.output) / "runs";
}

std::vector<SweepArm> sweep_arms(const SweepConfig& sweep) {
  auto sections = sweep.arms.arms;
  const bool has_arms = !sections.empty();
  if (!has_arms) {
    sections.emplace_back("", ArmSection{});
  }
  std::vector<SweepArm> arms;
  for (const auto& [name, section] : sections) {
    for (const auto& point : points_of(sweep.grid)) {
      auto& arm = arms.emplace_back();
      arm.index = arms.size() - 1;
      arm.name = name + point.name;
      arm.name.erase(0, has_arms || arm.name.empty() ? 0 : 1);  // the grid's '-'
      arm.name = arm.name.empty() ? "run" : arm.name;
      arm.tree = merged_files(sweep.config);
      merge_config(arm.tree, sweep.set.tree);
      merge_config(arm.tree, merged_files(section.overlays));
      merge_config(arm.tree, section.set.tree);
      merge_config(arm.tree, point.tree);
      arm.tune = section.own_tune.value_or(sweep.tune);
    }
  }
  std::vector<std::string> names;
  std::ranges::transform(arms, std::back_inserter(names), &SweepArm::name);
  require(sweep.base_arm.empty() || std::ranges::count(names, sweep.base_arm) > 0,
          "base_arm: there is no arm '",
          sweep.base_arm,
          "'; the arms are: ",
          joined(names, " | "));
  for (const auto& name : names) {
    require(std::ranges::count(names, name) == 1, "two arms are called '", name, "'");
  }
  try {
    require_arms_of(sweep.criteria, names, sweep.base_arm.empty() ? names.front() : sweep.base_arm);
  } catch (const ConfigError& error) {
    throw sweep.places.located(error);
  }
  return arms;
}

std::vector<SweepRun> sweep_runs(const SweepConfig& sweep,
                                 const std::vector<SweepArm>& arms,
                                 const PlannedSpeed& speed) {
  std::vector<SweepRun> runs;
  for (const auto& arm : arms) {
    const std::size_t values = arm.tune.is_on() ? arm.tune.values().size() : 1;
    for (std::size_t v = 0; v < values; ++v) {
      const auto value = arm.tune.is_on() ? std::optional(v) : std::nullopt;
      std::optional<RunCost> cost;  // the same for every seed
      for (std::size_t s = 0; s < sweep.seeds.seeds.size(); ++s) {
        auto& run = runs.emplace_back();
        run.arm = arm.index;
        run.value = value;
        run.seed_index = s;
        const auto choice = value ? choice_name(arm.tune.key, arm.tune.values(), v) : "";
        const auto name = text(arm.name, choice, "-seed", sweep.seeds.seeds[s]);
        run.config = config_of_run(sweep, arm, name, value, s);
        run.name = name;
        cost = cost ? cost : cost_of(run.config, sweep.ranks, speed);
        run.cost = *cost;
      }
    }
  }
  std::ranges::stable_sort(runs, {}, [&arms](const SweepRun& run) {
    return std::tuple(run.tunes(arms[run.arm]) ? 0 : 1, run.seed_index, run.arm, run.value);
  });
  std::map<std::string, int> names;
  for (const auto& run : runs) {
    require(names[run.name]++ == 0,
            "two runs would be called '",
            run.name,
            "'; give the arms names that differ more");
  }
  return runs;
}

}  // namespace braid
