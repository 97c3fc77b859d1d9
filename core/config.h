#pragma once
// Configuration structs and strict YAML. A struct declares each key once, beside the member it
// fills:
//
//   struct ScheduleConfig {
//     int64_t warmup_steps = 100;
//     template <class Visitor>
//     static void fields(Visitor& v) {
//       v("warmup_steps", &ScheduleConfig::warmup_steps, "steps of linear warm-up", at_least(0));
//     }
//   };
//
// That table is what reading, checking, dumping and --help-config use. Members may be int64_t,
// double, bool, std::string, enums with an enum_names(E) beside them, structs with fields(),
// std::vector of these, and std::optional of the scalar ones. A struct may name the key that a bare
// scalar stands for, `static constexpr const char* kScalarKey = "path";`: then `a.txt` is read as
// `{path: a.txt}`, and written so when every other key has its default. A class with a spelling of
// its own has `static T from_config(node, path, places)`, `ConfigNode to_config() const` and
// `static constexpr const char* kConfigKind`, which --help-config prints; `kHasForms` and forms()
// make that print the keys of several mappings that a list's item may be.

#include <map>
#include <optional>
#include <string>
#include <type_traits>
#include <vector>

#include "core/config_tree.h"
#include "core/config_value.h"
#include "core/error.h"

namespace braid {

/// One YAML spelling of an enumerator. `enum_names(E)` returns a std::array of them for its enum.
template <class E>
struct EnumName {
  const char* name;
  E value;
};
template <class E>
EnumName(const char*, E) -> EnumName<E>;  // clang before 17 does not deduce it

/// The YAML spelling of an enumerator. Throws Error where enum_names() lacks it.
template <class E>
requires std::is_enum_v<E>
const char* enum_name(E value) {
  for (const auto& [name, enumerator] : enum_names(value)) {
    if (enumerator == value) {
      return name;
    }
  }
  fail("the value ", static_cast<int64_t>(value), " of an enum has no name in enum_names()");
}

/// Where each value of a configuration was written.
class ConfigPlaces {
 public:
  void add(const std::string& path, const std::string& place) { places_[path] = place; }
  /// "configs/x.yaml:12", "--set", or "default". Elements of lists are "a.b[2]".
  std::string where(const std::string& path) const;
  /// The same error with the place of its key: "model.o_groups (configs/x.yaml:12): message".
  Error located(const ConfigError& error) const;

 private:
  std::map<std::string, std::string> places_;
};

template <class Root>
struct LoadedConfig : ConfigPlaces {
  Root value;
};

/// One line of describe_config: "path = default  kind  help".
struct FieldDescription {
  std::string path, default_value, kind, help;
};
std::string aligned(const std::vector<FieldDescription>& fields);

namespace config_detail {

template <class T>
struct IsVector : std::false_type {};
template <class T>
struct IsVector<std::vector<T>> : std::true_type {};
template <class T>
struct IsOptional : std::false_type {};
template <class T>
struct IsOptional<std::optional<T>> : std::true_type {};
template <class T>
concept HasOwnSpelling = requires(const T& value) {
  T::kConfigKind;
  value.to_config();
};
template <class T>
inline constexpr bool is_struct =
    std::is_class_v<T> && !std::is_same_v<T, std::string> && !IsVector<T>::value &&
    !IsOptional<T>::value && !HasOwnSpelling<T>;
/// An item of a list with a spelling of its own that may be one of several mappings: `forms(use)`
/// calls use(suffix of the path, defaults) with each.
template <class T>
concept HasForms = requires {
  T::kHasForms;
};
template <class T>
concept HasScalarKey = requires {
  T::kScalarKey;
};

inline std::string join_path(const std::string& path, const std::string& key) {
  return path.empty() ? key : path + "." + key;
}

template <class... Rules>
FieldRules rules_of(const Rules&... rules) {
  FieldRules result;
  (result.add(rules), ...);
  return result;
}

template <class E>
std::vector<std::string> names_of() {
  std::vector<std::string> names;
  for (const auto& [name, value] : enum_names(E{})) {
    names.emplace_back(name);
  }
  return names;
}

/// The scalar as the mapping {key: scalar}, and back where all else equals the defaults.
ConfigNode from_scalar(const ConfigNode& scalar, const char* key);
ConfigNode as_scalar(ConfigNode mapping, const ConfigNode& defaults, const char* key);

template <class T>
void read_value(const ConfigNode& node,
                const std::string& path,
                const FieldRules& rules,
                ConfigPlaces& places,
                T& into);

template <class T>
bool lacks_value(const ConfigNode* node, const T& value) {
  if constexpr (std::is_same_v<T, std::string>) {
    return value.empty();
  }
  return node == nullptr;
}

/// Fills the members whose keys the mapping has and collects all keys.
template <class S>
struct Reader {
  const ConfigNode& mapping;
  const std::string& path;
  ConfigPlaces& places;
  S& object;

  template <class Owner, class T, class... Rules>
  void operator()(const char* key, T Owner::*member, const char*, const Rules&... rules) {
    const auto all_rules = rules_of(rules...);
    const auto* node = find_key(mapping, path, key, all_rules);
    if (node != nullptr) {
      read_value(*node, join_path(path, key), all_rules, places, object.*member);
    }
    if (all_rules.is_required && lacks_value(node, object.*member)) {
      fail_required(path, key, mapping);
    }
  }
};

struct KeyCollector {
  std::vector<std::string> keys, former_keys;

  template <class Owner, class T, class... Rules>
  void operator()(const char* key, T Owner::*, const char*, const Rules&... rules) {
    keys.emplace_back(key);
    if (const char* former = rules_of(rules...).former_name) {
      former_keys.emplace_back(former);
    }
  }
};

template <class T>
void read_value(const ConfigNode& node,
                const std::string& path,
                const FieldRules& rules,
                ConfigPlaces& places,
                T& into) {
  places.add(path, node.place);
  if constexpr (std::is_same_v<T, int64_t>) {
    into = read_integer(node, path, rules.bounds);
  } else if constexpr (std::is_same_v<T, double>) {
    into = read_real(node, path, rules.bounds);
  } else if constexpr (std::is_same_v<T, bool>) {
    into = read_bool(node, path);
  } else if constexpr (std::is_same_v<T, std::string>) {
    into = read_text(node, path);
  } else if constexpr (std::is_enum_v<T>) {
    into = enum_names(T{})[read_choice(node, path, names_of<T>())].value;
  } else if constexpr (HasOwnSpelling<T>) {
    into = T::from_config(node, path, places);
  } else if constexpr (IsOptional<T>::value) {
    if (node.kind == ConfigNode::Kind::kScalar && node.scalar == rules.absent) {
      into.reset();
    } else {
      try {
        read_value(node, path, rules, places, into.emplace());
      } catch (const Error& error) {
        fail(error.what(), "; ", rules.absent, " leaves it unset");
      }
    }
  } else if constexpr (IsVector<T>::value) {
    require_list(node, path);
    into.clear();
    for (std::size_t i = 0; i < node.items.size(); ++i) {
      read_value(node.items[i], text(path, "[", i, "]"), rules, places, into.emplace_back());
    }
  } else {
    if constexpr (HasScalarKey<T>) {
      if (node.kind == ConfigNode::Kind::kScalar) {
        read_value(from_scalar(node, T::kScalarKey), path, rules, places, into);
        return;
      }
    }
    KeyCollector known;
    T::fields(known);
    require_known_keys(node, path, known.keys, known.former_keys);
    Reader<T> reader{node, path, places, into};
    T::fields(reader);
  }
}

template <class T>
ConfigNode node_of(const T& value, const FieldRules& rules);

template <class S>
struct Writer {
  const S& object;
  std::vector<ConfigNode::Entry> entries;

  template <class Owner, class T, class... Rules>
  void operator()(const char* key, T Owner::*member, const char*, const Rules&... rules) {
    entries.push_back({key, node_of(object.*member, rules_of(rules...))});
  }
};

template <class T>
ConfigNode node_of(const T& value, const FieldRules& rules) {
  if constexpr (std::is_same_v<T, int64_t>) {
    return ConfigNode::plain(std::to_string(value));
  } else if constexpr (std::is_same_v<T, double>) {
    return ConfigNode::plain(real_text(value));
  } else if constexpr (std::is_same_v<T, bool>) {
    return ConfigNode::plain(value ? "true" : "false");
  } else if constexpr (std::is_same_v<T, std::string>) {
    return ConfigNode::text(value);
  } else if constexpr (std::is_enum_v<T>) {
    return ConfigNode::text(enum_name(value));
  } else if constexpr (HasOwnSpelling<T>) {
    return value.to_config();
  } else if constexpr (IsOptional<T>::value) {
    return value ? node_of(*value, rules) : ConfigNode::text(rules.absent);
  } else if constexpr (IsVector<T>::value) {
    std::vector<ConfigNode> items;
    for (const auto& item : value) {
      items.push_back(node_of(item, rules));
    }
    return ConfigNode::sequence(std::move(items));
  } else {
    Writer<T> writer{value, {}};
    T::fields(writer);
    auto node = ConfigNode::mapping(std::move(writer.entries));
    if constexpr (HasScalarKey<T>) {
      const T plain{};
      Writer<T> defaults{plain, {}};
      T::fields(defaults);
      return as_scalar(std::move(node), ConfigNode::mapping(defaults.entries), T::kScalarKey);
    }
    return node;
  }
}

template <class T>
std::string kind_of(const FieldRules& rules) {
  if constexpr (std::is_same_v<T, int64_t>) {
    return "whole number" + bounds_text(rules.bounds);
  } else if constexpr (std::is_same_v<T, double>) {
    return "number" + bounds_text(rules.bounds);
  } else if constexpr (std::is_same_v<T, bool>) {
    return "true | false";
  } else if constexpr (std::is_same_v<T, std::string>) {
    return "text";
  } else if constexpr (std::is_enum_v<T>) {
    return joined(names_of<T>(), " | ");
  } else if constexpr (HasOwnSpelling<T>) {
    return T::kConfigKind;
  } else if constexpr (IsOptional<T>::value) {
    return kind_of<typename T::value_type>(rules) + " | " + rules.absent;
  } else if constexpr (IsVector<T>::value) {
    return "[" + kind_of<typename T::value_type>(rules) + ", ...]";
  } else {
    return HasScalarKey<T> ? "text | mapping" : "mapping";
  }
}

template <class S>
struct Describer {
  const S& defaults;
  std::string path;
  std::vector<FieldDescription>& fields;

  template <class Owner, class T, class... Rules>
  void operator()(const char* key, T Owner::*member, const char* help, const Rules&... rules) {
    const auto field_path = join_path(path, key);
    if constexpr (is_struct<T>) {
      describe(defaults.*member, field_path);
    } else {
      const auto all_rules = rules_of(rules...);
      fields.push_back({field_path,
                        all_rules.is_required
                            ? "required"
                            : inline_yaml_text(node_of(defaults.*member, all_rules)),
                        kind_of<T>(all_rules),
                        help});
      if constexpr (IsVector<T>::value) {
        using Item = typename T::value_type;
        if constexpr (is_struct<Item>) {
          describe(Item{}, field_path + "[]");
        } else if constexpr (HasForms<Item>) {
          Item::forms(
              [&](const char* suffix, const auto& form) { describe(form, field_path + suffix); });
        }
      }
    }
  }

  template <class Inner>
  void describe(const Inner& inner, const std::string& inner_path) {
    Describer<Inner> describer{inner, inner_path, fields};
    Inner::fields(describer);
  }
};

}  // namespace config_detail

/// Reads `path` with its `base:` files, then the overlays, which are files like it, then the
/// overrides ("a.b=value"). Later wins. Throws Error with the key path, file and line for unknown,
/// duplicate, ill-typed and out-of-range keys.
template <class Root>
LoadedConfig<Root> load_config(const std::string& path,
                               const std::vector<std::string>& overrides = {},
                               const std::vector<std::string>& overlays = {}) {
  const auto tree = read_config_tree(path, overrides, overlays);
  LoadedConfig<Root> loaded;
  config_detail::read_value(tree, "", {}, loaded, loaded.value);
  return loaded;
}

/// The same from YAML text without `base:`; `source` stands for the file in messages.
template <class Root>
Root parse_config(const std::string& yaml, const std::string& source) {
  ConfigPlaces places;
  Root value;
  config_detail::read_value(parse_yaml(yaml, source), "", {}, places, value);
  return value;
}

/// The same from overrides alone ("a.b=value").
template <class Root>
Root config_of_overrides(const std::vector<std::string>& overrides) {
  ConfigPlaces places;
  Root value;
  config_detail::read_value(read_overrides(overrides), "", {}, places, value);
  return value;
}

/// Every key with its value, as YAML that loads to an equal struct.
template <class Root>
std::string dump_config(const Root& config) {
  return yaml_text(config_detail::node_of(config, {}));
}

/// "a.b was 1, is 2" for every key in which two configurations differ.
template <class Root>
std::vector<std::string> config_differences(const Root& before, const Root& now) {
  return differences(config_detail::node_of(before, {}), config_detail::node_of(now, {}));
}

/// One aligned line per key: path, default, what it accepts, help.
template <class Root>
std::string describe_config() {
  const Root defaults;
  std::vector<FieldDescription> fields;
  config_detail::Describer<Root> describer{defaults, "", fields};
  Root::fields(describer);
  return aligned(fields);
}

}  // namespace braid
