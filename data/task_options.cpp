#include "data/task_options.h"

#include <algorithm>
#include <numeric>

#include "core/config_value.h"
#include "data/task.h"

namespace braid {
namespace {

using config_detail::join_path;

template <class... Cases>
struct Overloaded : Cases... {
  using Cases::operator()...;
};
template <class... Cases>
Overloaded(Cases...) -> Overloaded<Cases...>;

/// As the configuration spells it.
template <class T>
std::string word(const T& value) {
  return inline_yaml_text(config_detail::node_of(value, {}));
}

template <class T>
std::string listed(const std::vector<T>& values) {
  std::vector<std::string> words;
  std::ranges::transform(values, std::back_inserter(words), word<T>);
  return joined(words);
}

void require_some(const std::string& path, bool some) {
  if (!some) {
    throw ConfigError(path, "is an empty list");
  }
}

// Pairs are placed longest distance first, where there is room. A pair placed before is two
// stretches of two tokens, each of which rules out at most three places for either stretch of the
// next one. With more places than that no document can fail.
int64_t needed_length(const RecallOptions& task) {
  std::vector<int64_t> distances = task.distances;
  std::ranges::sort(distances, std::greater<>());
  const auto kinds = static_cast<int64_t>(distances.size());
  const int64_t at_each = (task.pairs + kinds - 1) / kinds;
  int64_t needed = 0;
  for (int64_t i = 0; i < kinds; ++i) {
    const int64_t before = std::min(task.pairs, at_each * (i + 1)) - 1;
    needed = std::max(needed, distances[static_cast<std::size_t>(i)] + 2 + 12 * before);
  }
  return needed;
}

void check(const RecallOptions& task, const std::string& path) {
  require_some(join_path(path, "distances"), !task.distances.empty());
  if (task.pairs > task.symbols) {
    throw ConfigError(join_path(path, "pairs"),
                      text("is ",
                           task.pairs,
                           ", but there are ",
                           task.symbols,
                           " different keys (symbols); each is in a document once"));
  }
  if (const int64_t needed = needed_length(task); task.length < needed) {
    throw ConfigError(join_path(path, "length"),
                      text("is ",
                           task.length,
                           "; ",
                           task.pairs,
                           " pairs at distances ",
                           listed(task.distances),
                           " need ",
                           needed,
                           " tokens so that they always find room"));
  }
}

void check(const CopyingOptions& task, const std::string& path) {
  require_some(join_path(path, "distances"), !task.distances.empty());
  for (std::size_t i = 0; i < task.distances.size(); ++i) {
    if (task.distances[i] <= task.sequence) {
      throw ConfigError(text(join_path(path, "distances"), "[", i, "]"),
                        text("is ",
                             task.distances[i],
                             "; between a sequence of ",
                             task.sequence,
                             " tokens and its copy stands a mark, so expected at least ",
                             task.sequence + 1));
    }
  }
}

void check(const NeedleOptions& task, const std::string& path) {
  const int64_t needle = kNeedleKey + 1 + task.sequence;
  if (task.length < 2 * needle + 10) {
    throw ConfigError(join_path(path, "length"),
                      text("is ",
                           task.length,
                           "; the needle and the question alone have ",
                           2 * needle,
                           " tokens, so expected at least ",
                           2 * needle + 10));
  }
  for (std::size_t i = 0; i < task.distances.size(); ++i) {
    if (task.distances[i] < needle || task.distances[i] > task.length - needle) {
      throw ConfigError(text(join_path(path, "distances"), "[", i, "]"),
                        text("is ",
                             task.distances[i],
                             "; expected ",
                             needle,
                             " to ",
                             task.length - needle,
                             " in a document of ",
                             task.length,
                             " tokens"));
    }
  }
}

void check(const ArithmeticOptions& task, const std::string& path) {
  require_some(join_path(path, "operations"), !task.operations.empty());
}

}  // namespace

const AnyTaskOptions& TaskOptions::any() const {
  return std::visit([](const auto& task) -> const AnyTaskOptions& { return task; }, options_);
}

std::string TaskOptions::name() const {
  return std::visit([](const auto& task) { return word(task.kKind); }, options_);
}

std::string TaskOptions::described() const {
  const auto what = std::visit(
      Overloaded{
          [](const RecallOptions& task) {
            return braid::text(task.pairs, " pairs at distances ", listed(task.distances));
          },
          [](const CopyingOptions& task) {
            return braid::text(task.sequence, " tokens at distances ", listed(task.distances));
          },
          [](const NeedleOptions& task) {
            return braid::text(
                "in ", task.length, " tokens", task.filler.empty() ? "" : " of " + task.filler);
          },
          [](const ArithmeticOptions& task) {
            return braid::text(listed(task.operations), " modulo ", task.modulus);
          }},
      options_);
  return braid::text("task ", name(), " (", what, ")");
}

int64_t TaskOptions::longest() const {
  return std::visit(Overloaded{[](const RecallOptions& task) { return task.length; },
                               [](const CopyingOptions& task) {
                                 return task.sequence + *std::ranges::max_element(task.distances);
                               },
                               [](const NeedleOptions& task) { return task.length; },
                               [](const ArithmeticOptions&) { return kArithmeticTokens; }},
                    options_);
}

void TaskOptions::validate(const std::string& path) const {
  std::visit([&](const auto& task) { check(task, path); }, options_);
}

std::string TaskOptions::text() const {
  return std::visit([](const auto& task) { return word(task); }, options_);
}

bool is_task(const ConfigNode& node) {
  return node.kind == ConfigNode::Kind::kMapping && node.find("task") != nullptr;
}

WrittenTask read_task(const ConfigNode& node, const std::string& path, ConfigPlaces& places) {
  const auto read_as = [&]<class Options>(TaskEntry<Options> entry) -> WrittenTask {
    config_detail::read_value(node, path, {}, places, entry);
    return {TaskOptions(static_cast<const Options&>(entry)), entry.weight};
  };
  TaskKind kind{};
  config_detail::read_value(*node.find("task"), join_path(path, "task"), {}, places, kind);
  switch (kind) {
    case TaskKind::kRecall:
      return read_as(TaskEntry<RecallOptions>());
    case TaskKind::kCopying:
      return read_as(TaskEntry<CopyingOptions>());
    case TaskKind::kNeedle:
      return read_as(TaskEntry<NeedleOptions>());
    case TaskKind::kArithmetic:
      return read_as(TaskEntry<ArithmeticOptions>());
  }
  fail("unreachable: TaskKind");
}

ConfigNode to_config(const WrittenTask& task) {
  return std::visit(
      [&]<class Options>(const Options& options) {
        TaskEntry<Options> entry;
        static_cast<Options&>(entry) = options;
        entry.weight = task.weight;
        return config_detail::node_of(entry, {});
      },
      task.options.variant());
}

WrittenTask parse_task(const std::string& yaml, const std::string& source) {
  const auto node = parse_yaml(yaml, source);
  require(is_task(node),
          source,
          ": expected a task as data.train takes it, such as {task: recall, pairs: 8, distances: "
          "[64, 128]}; got ",
          described(node));
  ConfigPlaces places;
  auto task = read_task(node, "", places);
  try {
    task.options.validate("");
  } catch (const ConfigError& error) {
    throw places.located(error);
  }
  return task;
}

}  // namespace braid
