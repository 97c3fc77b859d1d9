#include "data/config.h"

#include <algorithm>
#include <utility>

#include "core/error.h"

namespace braid {

DataSource DataSource::from_config(const ConfigNode& node,
                                   const std::string& path,
                                   ConfigPlaces& places) {
  if (is_task(node)) {
    auto [options, weight] = read_task(node, path, places);
    return {std::move(options), weight};
  }
  if (node.kind == ConfigNode::Kind::kMapping) {
    config_detail::KeyCollector known;
    TextEntry::fields(known);
    known.keys.emplace_back("task");
    require_known_keys(node, path, known.keys, known.former_keys);
  }
  DataSource source;
  config_detail::read_value(node, path, {}, places, static_cast<TextEntry&>(source));
  return source;
}

ConfigNode DataSource::to_config() const {
  return task ? braid::to_config(WrittenTask{*task, weight})
              : config_detail::node_of(static_cast<const TextEntry&>(*this), {});
}

namespace {

// Answers of a document that is cut would lose what they follow from.
void validate_task(const TaskOptions& task,
                   const std::string& path,
                   const char* length_key,
                   int64_t length) {
  task.validate(path);
  if (task.longest() > length) {
    throw ConfigError(path,
                      text("is a ",
                           task.described(),
                           " whose documents have up to ",
                           task.longest(),
                           " tokens, more than ",
                           length_key,
                           " ",
                           length,
                           "; documents of tasks are never divided"));
  }
}

// By a hash of the problem, so one task has one share.
void require_equal_held_out(const TaskOptions& trained,
                            const TaskOptions& validated,
                            const std::string& path) {
  if (trained.name() == validated.name() && trained.any().held_out != validated.any().held_out) {
    throw ConfigError(config_detail::join_path(path, "held_out"),
                      text("is ",
                           validated.any().held_out,
                           ", but task ",
                           trained.name(),
                           " is trained with ",
                           trained.any().held_out,
                           "; problems that are validated on would be trained"));
  }
}

}  // namespace

ValidationSets DataSection::validation_sets() const {
  if (!validation.empty() || validation_fraction == 0) {
    return validation;
  }
  std::vector<ValidationSet> sets;
  for (const DataSource& source : train) {
    if (source.task) {
      const auto name = source.task->name();
      const auto same = std::ranges::count_if(
          sets, [&](const ValidationSet& set) { return set.task->name() == name; });
      sets.push_back({same == 0 ? name : text(name, "-", same + 1), {}, source.task});
    }
  }
  return ValidationSets(std::move(sets));
}

void DataSection::validate() const {
  for (std::size_t i = 0; i < train.size(); ++i) {
    const bool has_weight = train[i].weight.has_value();
    if (has_weight != train[0].weight.has_value()) {
      throw ConfigError(
          text("data.train[", i, "]"),
          text(has_weight ? "has a weight, but '" : "has no weight, but '",
               train[0].task ? train[0].task->described() : train[0].path,
               has_weight ? "' has none" : "' has one",
               "; give a weight to every source (shares of the samples), or to none (all "
               "documents are shuffled together)"));
    }
    if (!train[i].task) {
      continue;
    }
    if (train.size() > 1 && !has_weight) {
      throw ConfigError(text("data.train[", i, "]"),
                        "is a task beside other sources and has no weight; give each a weight "
                        "(its share of the samples)");
    }
    validate_task(*train[i].task, text("data.train[", i, "]"), "data.seq_len", seq_len);
  }
  const ValidationSets sets = validation_sets();
  for (const ValidationSet& set : sets.all()) {
    if (!set.task) {
      continue;
    }
    const bool is_written = !validation.empty();
    const std::string path =
        is_written && !set.name.empty() ? "data.validation." + set.name : "data.validation";
    validate_task(*set.task, path, "data.validation_seq_len", validation_seq_len);
    for (const DataSource& source : train) {
      if (source.task) {
        require_equal_held_out(*source.task, *set.task, path);
      }
    }
  }
}

}  // namespace braid
