#include <array>
#include <optional>
#include <stdexcept>
#include <string>
#include <vector>

#include "core/config.h"
#include "tests/fuzz/scratch_folder.h"
#include "tests/fuzz/targets.h"

namespace braid::testing {
namespace {

enum class Kind { kWindow, kCsa };
auto enum_names(Kind) {
  return std::array{EnumName{"window", Kind::kWindow}, EnumName{"csa", Kind::kCsa}};
}

struct Source {
  static constexpr const char* kScalarKey = "path";
  std::string path;
  std::optional<double> weight;

  template <class Visitor>
  static void fields(Visitor& v) {
    v("path", &Source::path, "where");
    v("weight", &Source::weight, "share", more_than(0));
  }
};

struct Model {
  int64_t hidden_size = 64;
  double epsilon = 1e-20;
  bool mtp = false;
  std::vector<Kind> kinds;
  std::vector<int64_t> ratios = {0, 4};
  std::optional<int64_t> topk;

  template <class Visitor>
  static void fields(Visitor& v) {
    v("hidden_size", &Model::hidden_size, "width", at_least(1));
    v("epsilon", &Model::epsilon, "floor", between(0, 1));
    v("mtp", &Model::mtp, "predict two tokens");
    v("kinds", &Model::kinds, "per layer");
    v("ratios", &Model::ratios, "per layer", at_least(0));
    v("topk", &Model::topk, "entries kept", at_least(1), absent_as("all"));
  }
};

/// A field of every kind that a run's configuration has.
struct Root {
  std::string name = "run";
  Model model;
  std::vector<Source> train;

  template <class Visitor>
  static void fields(Visitor& v) {
    v("name", &Root::name, "of the run");
    v("model", &Root::model, "the network");
    v("train", &Root::train, "text");
  }
};

std::vector<std::string> parts_of(std::string_view bytes) {
  std::vector<std::string> parts(1);
  for (const char c : bytes) {
    if (c == '\0') {
      parts.emplace_back();
    } else {
      parts.back() += c;
    }
  }
  return parts;
}

std::optional<Root> loaded(std::string_view bytes) {
  static const ScratchFolder folder;
  auto parts = parts_of(bytes);
  parts.resize(std::max<std::size_t>(parts.size(), 2));
  const auto path = folder.write("main.yaml", parts[0]);
  folder.write("base.yaml", parts[1]);
  try {
    return load_config<Root>(path.string(), {parts.begin() + 2, parts.end()}).value;
  } catch (const Error&) {
    return std::nullopt;
  }
}

}  // namespace

bool read_yaml(std::string_view bytes) {
  const auto config = loaded(bytes);
  if (!config) {
    return false;
  }
  const std::string dump = dump_config(*config);
  try {
    if (dump_config(parse_config<Root>(dump, "dump")) != dump) {
      throw std::logic_error("a dump does not load to what was dumped:\n" + dump);
    }
  } catch (const Error& error) {
    throw std::logic_error(text("a dump does not load: ", error.what(), "\n", dump));
  }
  return true;
}

}  // namespace braid::testing
