#include "sweep/sweep_config.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <filesystem>
#include <set>

#include "core/config_edit.h"
#include "core/error.h"

namespace braid {
namespace {

namespace fs = std::filesystem;
using Kind = ConfigNode::Kind;

template <class T>
T read_as(const ConfigNode& node,
          const std::string& path,
          ConfigPlaces& places,
          const FieldRules& rules = {}) {
  T value{};
  config_detail::read_value(node, path, rules, places, value);
  return value;
}

void require_mapping(const ConfigNode& node, const std::string& path, const std::string& of) {
  if (node.kind != Kind::kMapping) {
    fail_at(path, node, "expected " + of + ", got " + described(node));
  }
}

// "sweep.yaml" of "sweep.yaml:12"; empty where a value comes from the command line.
fs::path file_of(const std::string& place) {
  const auto colon = place.rfind(':');
  return colon == std::string::npos ? fs::path() : fs::path(place.substr(0, colon));
}

// Names of arms are parts of folders' names, names of numbers titles of columns.
bool is_usable_name(const std::string& name) {
  constexpr std::size_t kLongest = 64;
  const auto is_good = [](unsigned char c) {
    return std::isalnum(c) != 0 || c == '_' || c == '-' || c == '.' || c == '+';
  };
  return !name.empty() && name.size() <= kLongest && std::ranges::all_of(name, is_good) &&
         std::isalnum(static_cast<unsigned char>(name.front())) != 0;
}

// These follow from the sweep.
void require_runs_own_key(const std::string& key, const ConfigNode& node, const std::string& path) {
  for (const auto& [reserved, instead] :
       {std::pair{"run.name", "runs are called after their arms and seeds"},
        std::pair{"run.output_dir", "runs lie in the sweep's `output`"},
        std::pair{"run.seed", "the sweep's `seeds` are for that"}}) {
    if (key == reserved) {
      fail_at(path, node, text("is not for a sweep to set: ", instead));
    }
  }
}

void require_runs_own_keys(const ConfigNode& tree, const std::string& path) {
  for (const auto* key : {"run.name", "run.output_dir", "run.seed"}) {
    if (const auto* node = node_at(tree, key)) {
      require_runs_own_key(key, *node, path + "." + key);
    }
  }
}

// Dotted keys of a mapping become mappings within it, at every level.
ConfigNode nested(const ConfigNode& node, const std::string& path) {
  if (node.kind != Kind::kMapping) {
    return node;
  }
  auto result = ConfigNode::mapping({});
  result.place = node.place;
  for (const auto& [key, value] : node.entries) {
    if (!is_key_path(key)) {
      fail_at(path, value, "'" + key + "' is no key; expected a.b, with a name on each side");
    }
    merge_config(result, tree_with(key, nested(value, path + "." + key)));
  }
  return result;
}

}  // namespace

ConfigFile ConfigFile::from_config(const ConfigNode& node, const std::string& path, ConfigPlaces&) {
  const fs::path name = read_text(node, path);
  const auto file = (file_of(node.place).parent_path() / name).lexically_normal();
  std::error_code unreadable;
  if (name.empty() || !fs::is_regular_file(file, unreadable)) {
    fail_at(
        path,
        node,
        text("no such file: ", file.string(), " (paths are relative to the file that names them)"));
  }
  return {file.string()};
}

ConfigFileList ConfigFileList::from_config(const ConfigNode& node,
                                           const std::string& path,
                                           ConfigPlaces& places) {
  return node.kind == Kind::kSequence
             ? ConfigFileList{read_as<std::vector<ConfigFile>>(node, path, places)}
             : ConfigFileList{{ConfigFile::from_config(node, path, places)}};
}

ConfigNode ConfigFileList::to_config() const {
  std::vector<ConfigNode> items;
  std::ranges::transform(files, std::back_inserter(items), &ConfigFile::to_config);
  return ConfigNode::sequence(std::move(items));
}

RunKeys RunKeys::from_config(const ConfigNode& node, const std::string& path, ConfigPlaces&) {
  require_mapping(node, path, "keys of a run with values, such as {model.residual: hc}");
  RunKeys keys{nested(node, path)};
  require_runs_own_keys(keys.tree, path);
  return keys;
}

RunGrid RunGrid::from_config(const ConfigNode& node, const std::string& path, ConfigPlaces&) {
  require_mapping(node, path, "keys of a run with lists of values");
  RunGrid grid;
  for (const auto& [key, values] : node.entries) {
    const auto where = path + "." + key;
    if (!is_key_path(key)) {
      fail_at(where, values, "is no key; expected a.b, such as optimizer.learning_rate");
    }
    require_runs_own_key(key, values, where);
    if (values.kind != Kind::kSequence || values.items.empty()) {
      fail_at(where, values, "expected a list of values, got " + described(values));
    }
    std::set<std::string> different;
    for (const auto& value : values.items) {
      if (!different.insert(inline_yaml_text(value)).second) {
        fail_at(where, value, inline_yaml_text(value) + " is there twice");
      }
    }
    grid.axes.emplace_back(key, values.items);
  }
  return grid;
}

ConfigNode RunGrid::to_config() const {
  std::vector<ConfigNode::Entry> entries;
  for (const auto& [key, values] : axes) {
    entries.push_back({key, ConfigNode::sequence(values)});
  }
  return ConfigNode::mapping(std::move(entries));
}

TuneSection TuneSection::from_config(const ConfigNode& node,
                                     const std::string& path,
                                     ConfigPlaces& places) {
  if (node.kind == Kind::kScalar && node.scalar == "none") {
    return {};
  }
  require_known_keys(node, path, {"key", "values", "seeds"});
  const auto *key = node.find("key"), *values = node.find("values"), *seeds = node.find("seeds");
  TuneSection tune;
  for (const auto& [name, found] : {std::pair{"key", key}, std::pair{"values", values}}) {
    if (found == nullptr) {
      fail_required(path, name, node);
    }
  }
  tune.key = read_text(*key, path + ".key");
  if (!is_key_path(tune.key)) {
    fail_at(path + ".key", *key, "is no key; expected a.b, such as optimizer.learning_rate");
  }
  tune.values_of =
      RunGrid::from_config(ConfigNode::mapping({{tune.key, *values}}), path + ".values", places);
  if (tune.values().size() < 2) {
    fail_at(path + ".values", *values, "is a single value; name the ones to choose from");
  }
  if (seeds != nullptr) {
    tune.seeds = read_integer(*seeds, path + ".seeds", at_least(1));
  }
  return tune;
}

ConfigNode TuneSection::to_config() const {
  if (!is_on()) {
    return ConfigNode::text("none");
  }
  std::vector<ConfigNode::Entry> entries;
  entries.push_back({"key", ConfigNode::text(key)});
  entries.push_back({"values", ConfigNode::sequence(values())});
  entries.push_back({"seeds", ConfigNode::plain(std::to_string(seeds))});
  return ConfigNode::mapping(std::move(entries));
}

ArmSection ArmSection::from_config(const ConfigNode& node,
                                   const std::string& path,
                                   ConfigPlaces& places) {
  ArmSection arm;
  if (node.kind == Kind::kNull) {
    return arm;  // `mhc:` alone, the configuration as it is
  }
  require_known_keys(node, path, {"overlays", "set", "tune"});
  if (const auto* overlays = node.find("overlays")) {
    arm.overlays = ConfigFileList::from_config(*overlays, path + ".overlays", places);
  }
  if (const auto* set = node.find("set")) {
    arm.set = RunKeys::from_config(*set, path + ".set", places);
  }
  if (const auto* tune = node.find("tune")) {
    arm.own_tune = TuneSection::from_config(*tune, path + ".tune", places);
  }
  return arm;
}

ConfigNode ArmSection::to_config() const {
  std::vector<ConfigNode::Entry> entries = {{"overlays", overlays.to_config()},
                                            {"set", set.to_config()}};
  if (own_tune) {
    entries.push_back({"tune", own_tune->to_config()});
  }
  return ConfigNode::mapping(std::move(entries));
}

ArmSections ArmSections::from_config(const ConfigNode& node,
                                     const std::string& path,
                                     ConfigPlaces& places) {
  require_mapping(node, path, "arms by name, such as {plain: {set: {model.residual: plain}}}");
  ArmSections sections;
  for (const auto& [name, value] : node.entries) {
    const auto where = path + "." + name;
    if (!is_usable_name(name)) {
      fail_at(path,
              value,
              "'" + name +
                  "' cannot be the name of an arm; expected 1 to 64 letters, digits, '-', '_', '+' "
                  "and '.', the first a letter or digit");
    }
    places.add(where, value.place);
    sections.arms.emplace_back(name, ArmSection::from_config(value, where, places));
  }
  return sections;
}

ConfigNode ArmSections::to_config() const {
  std::vector<ConfigNode::Entry> entries;
  for (const auto& [name, arm] : arms) {
    entries.push_back({name, arm.to_config()});
  }
  return ConfigNode::mapping(std::move(entries));
}

SeedList SeedList::from_config(const ConfigNode& node,
                               const std::string& path,
                               ConfigPlaces& places) {
  SeedList list{{}};
  if (node.kind != Kind::kSequence) {
    constexpr double kMost = 1000;
    const int64_t count = read_integer(node, path, between(1, kMost));
    for (int64_t seed = 1; seed <= count; ++seed) {
      list.seeds.push_back(seed);
    }
    return list;
  }
  FieldRules rules;
  rules.add(any_from(0));
  list.seeds = read_as<std::vector<int64_t>>(node, path, places, rules);
  const std::set<int64_t> different(list.seeds.begin(), list.seeds.end());
  if (list.seeds.empty() || different.size() != list.seeds.size()) {
    fail_at(path, node, list.seeds.empty() ? "names no seed" : "names a seed twice");
  }
  return list;
}

ConfigNode SeedList::to_config() const {
  std::vector<ConfigNode> items;
  for (const int64_t seed : seeds) {
    items.push_back(ConfigNode::plain(std::to_string(seed)));
  }
  return ConfigNode::sequence(std::move(items));
}

MemorySize MemorySize::from_config(const ConfigNode& node, const std::string& path, ConfigPlaces&) {
  const auto words = read_text(node, path);
  if (words == "auto") {
    return {};
  }
  constexpr std::array kUnits = {std::pair{"", 0},
                                 std::pair{"KiB", 10},
                                 std::pair{"MiB", 20},
                                 std::pair{"GiB", 30},
                                 std::pair{"TiB", 40}};
  double number = 0;
  const auto* end = words.data() + words.size();
  const auto [stopped, error] = std::from_chars(words.data(), end, number);
  std::string unit(stopped, end);
  unit.erase(0, unit.find_first_not_of(' '));
  const auto known = std::ranges::find(kUnits, unit, [](const auto& pair) { return pair.first; });
  if (error != std::errc() || known == kUnits.end() || !(number > 0) || number > 1e15) {
    fail_at(path, node, "expected auto, or a size such as 8GiB or 500MiB, got " + described(node));
  }
  return {static_cast<int64_t>(number * static_cast<double>(int64_t{1} << known->second))};
}

ConfigNode MemorySize::to_config() const {
  return bytes ? ConfigNode::plain(std::to_string(*bytes)) : ConfigNode::text("auto");
}

TargetValue TargetValue::from_config(const ConfigNode& node,
                                     const std::string& path,
                                     ConfigPlaces&) {
  if (node.kind == Kind::kScalar && (node.scalar == "none" || node.scalar == "base")) {
    return {.value = {}, .from_base = node.scalar == "base"};
  }
  return {.value = read_real(node, path, {})};
}

ConfigNode TargetValue::to_config() const {
  return value ? ConfigNode::plain(real_text(*value))
               : ConfigNode::text(from_base ? "base" : "none");
}

RunNumbers RunNumbers::from_config(const ConfigNode& node,
                                   const std::string& path,
                                   ConfigPlaces& places) {
  require_mapping(
      node, path, "numbers by name, such as {gain: {metric: residual_gain.forward_max}}");
  RunNumbers numbers;
  for (const auto& [name, value] : node.entries) {
    if (!is_usable_name(name)) {
      fail_at(path,
              value,
              "'" + name +
                  "' cannot be the name of a number; expected 1 to 64 letters, digits, '-', '_', "
                  "'+' and '.', the first a letter or digit");
    }
    numbers.all.push_back(read_as<RunNumber>(value, path + "." + name, places));
    numbers.all.back().name = name;
  }
  return numbers;
}

ConfigNode RunNumbers::to_config() const {
  std::vector<ConfigNode::Entry> entries;
  for (const auto& number : all) {
    entries.push_back({number.name, tree_of(number)});
  }
  return ConfigNode::mapping(std::move(entries));
}

Judge judge_of(const JudgeSection& section) {
  return {.set = section.validation,
          .key = section.metric,
          .higher_is_better =
              section.better == BetterWhen::kHigher ||
              (section.better == BetterWhen::kByName && higher_is_better(section.metric)),
          .best = section.at == JudgedAt::kBest,
          .target = section.target.value,
          .target_from_base = section.target.from_base};
}

void SweepConfig::validate() const {
  if (config.files.empty()) {
    throw ConfigError("config", "is required: the configuration of a run, such as ../minute.yaml");
  }
  const auto require_seeds = [this](const TuneSection& section, const std::string& path) {
    const auto count = static_cast<int64_t>(seeds.seeds.size());
    if (section.is_on() && section.seeds > count) {
      throw ConfigError(path,
                        text("asks for ",
                             section.seeds,
                             " seeds, but the sweep has ",
                             count,
                             "; arms are tuned over the first of them"));
    }
  };
  require_seeds(tune, "tune");
  for (const auto& [name, arm] : arms.arms) {
    if (arm.own_tune) {
      require_seeds(*arm.own_tune, text("arms.", name));
    }
  }
  std::vector<std::string> names;
  for (const auto& number : numbers.all) {
    number.validate("numbers." + number.name);
    names.push_back(number.name);
  }
  require_own_names(numbers.all, judge.metric);
  require_sound(criteria, names, judge.metric, judge.target.value || judge.target.from_base);
}

SweepConfig load_sweep_config(const std::string& path, const std::vector<std::string>& overrides) {
  auto loaded = load_config<SweepConfig>(path, overrides);
  auto& sweep = loaded.value;
  const auto name = fs::path(path).stem().string();
  sweep.title = sweep.title.empty() ? name : sweep.title;
  sweep.output = sweep.output.empty() ? (fs::path("sweeps") / name).string() : sweep.output;
  try {
    sweep.validate();
  } catch (const ConfigError& error) {
    throw loaded.located(error);
  }
  sweep.places = loaded;
  return std::move(sweep);
}

}  // namespace braid
