#include "core/config.h"

#include <array>
#include <filesystem>
#include <fstream>
#include <string>

#include <gtest/gtest.h>

namespace braid {
namespace {

enum class Kind { kPlain, kOff };
auto enum_names(Kind) {
  return std::array{EnumName{"plain", Kind::kPlain}, EnumName{"off", Kind::kOff}};
}

struct Group {
  std::string match;
  double scale = 1;
  bool operator==(const Group&) const = default;

  template <class Visitor>
  static void fields(Visitor& v) {
    v("match", &Group::match, "pattern", required);
    v("scale", &Group::scale, "factor", more_than(0.0));
  }
};

struct Model {
  int64_t hidden_size = 64;
  double epsilon = 1e-20;
  bool mtp = false;
  Kind kind = Kind::kPlain;
  std::vector<int64_t> ratios = {0, 4};
  std::vector<Kind> kinds;
  std::optional<int64_t> topk;
  bool operator==(const Model&) const = default;

  template <class Visitor>
  static void fields(Visitor& v) {
    v("hidden_size", &Model::hidden_size, "width", at_least(1));
    v("epsilon", &Model::epsilon, "floor", between(0.0, 1.0), formerly("eps"));
    v("mtp", &Model::mtp, "predict two tokens");
    v("kind", &Model::kind, "residual");
    v("ratios", &Model::ratios, "per layer", at_least(0));
    v("kinds", &Model::kinds, "per layer");
    v("topk", &Model::topk, "entries kept", at_least(1), absent_as("all"));
  }
};

struct Root {
  std::string name = "run";
  Model model;
  std::vector<Group> groups;
  bool operator==(const Root&) const = default;

  template <class Visitor>
  static void fields(Visitor& v) {
    v("name", &Root::name, "what the run is called");
    v("model", &Root::model, "the network");
    v("groups", &Root::groups, "of parameters");
  }
};

struct Source {
  static constexpr const char* kScalarKey = "path";
  std::string path;
  std::optional<double> weight;
  bool operator==(const Source&) const = default;

  template <class Visitor>
  static void fields(Visitor& v) {
    v("path", &Source::path, "where");
    v("weight", &Source::weight, "share", more_than(0));
  }
};

struct Sources {
  std::vector<Source> sources;
  bool operator==(const Sources&) const = default;

  template <class Visitor>
  static void fields(Visitor& v) {
    v("sources", &Sources::sources, "of text");
  }
};

class Config : public ::testing::Test {
 protected:
  Config() : folder_(std::filesystem::path(::testing::TempDir()) / unique_name()) {
    std::filesystem::create_directories(folder_);
  }
  ~Config() override { std::filesystem::remove_all(folder_); }

  std::string write(const std::string& name, const std::string& yaml) const {
    const auto path = folder_ / name;
    std::filesystem::create_directories(path.parent_path());
    std::ofstream(path) << yaml;
    return path.string();
  }

  LoadedConfig<Root> load(const std::string& yaml,
                          const std::vector<std::string>& overrides = {}) const {
    return load_config<Root>(write("x.yaml", yaml), overrides);
  }

  /// The message of the error, with the folder's name cut out.
  template <class Action>
  std::string error_of(Action action) const {
    try {
      action();
    } catch (const Error& error) {
      std::string message = error.what();
      const std::string prefix = folder_.string() + "/";
      for (auto at = message.find(prefix); at != std::string::npos; at = message.find(prefix)) {
        message.erase(at, prefix.size());
      }
      return message;
    }
    return "no error";
  }
  std::string load_error(const std::string& yaml,
                         const std::vector<std::string>& overrides = {}) const {
    return error_of([&] { load(yaml, overrides); });
  }

  std::filesystem::path folder_;

 private:
  static std::string unique_name() {
    const auto* info = ::testing::UnitTest::GetInstance()->current_test_info();
    return text("braid_config_", info->name());
  }
};

TEST_F(Config, ReadsEveryKindOfField) {
  const auto config = load(
      "name: 'a: b'  # comment\n"
      "model:\n"
      "  hidden_size: +8\n"
      "  epsilon: 1e-3\n"
      "  mtp: true\n"
      "  kind: off\n"
      "  ratios: [0, 4, 128]\n"
      "  kinds: [off, plain]\n"
      "  topk: 3\n"
      "groups:\n"
      "  - match: '*'\n"
      "  - {match: x, scale: .5}\n");
  Root want;
  want.name = "a: b";
  want.model = {8, 1e-3, true, Kind::kOff, {0, 4, 128}, {Kind::kOff, Kind::kPlain}, 3};
  want.groups = {{"*", 1}, {"x", 0.5}};
  EXPECT_EQ(config.value, want);
  EXPECT_EQ(load("model: {topk: all}").value.model.topk, std::nullopt);
  EXPECT_EQ(load("model: {}").value, Root{});
  EXPECT_EQ(load("name: 007").value.name, "007");
}

TEST_F(Config, UnknownKeyNamesPathLineAndNearestKey) {
  EXPECT_EQ(load_error("model:\n  mtp: true\n  hiden_size: 3\n"),
            "model.hiden_size (x.yaml:3): unknown key; did you mean 'hidden_size'?");
  EXPECT_EQ(load_error("train: 1\n"),
            "train (x.yaml:1): unknown key; known here: name, model, groups");
  EXPECT_EQ(load_error("groups:\n- match: a\n- mach: b\n"),
            "groups[1].mach (x.yaml:3): unknown key; did you mean 'match'?");
  EXPECT_EQ(load_error("name: a\n", {"model.topq=3"}),
            "model.topq (--set): unknown key; did you mean 'topk'?");
  EXPECT_EQ(load_error("model.mtp: true\n"),
            "model.mtp (x.yaml:1): unknown key; known here: name, model, groups");
}

TEST_F(Config, AKeyIsReadUnderTheNameThatItHadWhereItHadOne) {
  EXPECT_EQ(load("model: {eps: 0.5}").value.model.epsilon, 0.5);
  EXPECT_EQ(load("model: {eps: 0.5}", {"model.eps=0.25"}).value.model.epsilon, 0.25);
  EXPECT_EQ(load_error("model: {eps: 2}"), "model.epsilon (x.yaml:1): must be in [0, 1], got 2");
  EXPECT_EQ(load_error("model:\n  eps: 0.5\n", {"model.epsilon=1"}),
            "model.eps (x.yaml:2): is the former name of epsilon, which is there as well (--set); "
            "keep one of them");
  EXPECT_EQ(load_error("eps: 1\n"), "eps (x.yaml:1): unknown key; known here: name, model, groups");
}

TEST_F(Config, OverridesAloneAreAConfiguration) {
  EXPECT_EQ(config_of_overrides<Root>({}), Root{});
  EXPECT_EQ(config_of_overrides<Root>({"model.topk=3", "name=%"}).model.topk, 3);
  EXPECT_EQ(error_of([] { config_of_overrides<Root>({"model.topq=3"}); }),
            "model.topq (--set): unknown key; did you mean 'topk'?");
}

TEST_F(Config, RefusesDuplicateKeys) {
  EXPECT_EQ(load_error("name: a\nmodel:\n  mtp: true\n  mtp: false\n"),
            "x.yaml:4:3: duplicate key 'mtp', already given at x.yaml:3; keep one of them");
}

TEST_F(Config, RefusesWhatIsNotAWholeNumber) {
  const auto error = [&](const std::string& value) {
    return load_error("model:\n  hidden_size: " + value + "\n");
  };
  const std::string expected = "model.hidden_size (x.yaml:2): expected a whole number >= 1, got ";
  EXPECT_EQ(error("4.5"), expected + "'4.5'");
  EXPECT_EQ(error("1e3"), expected + "'1e3'; write all its digits");
  EXPECT_EQ(error("010"),
            expected + "'010'; leading zeros are not allowed (some readers take them for octal)");
  EXPECT_EQ(error("0x10"), expected + "'0x10'; write it in decimal");
  EXPECT_EQ(error("10_000"), expected + "'10_000'; write it without underscores");
  EXPECT_EQ(error("'8'"), expected + "\"8\"; remove the quotes");
  EXPECT_EQ(error("true"), expected + "'true'");
  EXPECT_EQ(error("[1]"), expected + "a list");
  EXPECT_EQ(error("{a: 1}"), expected + "a mapping");
  EXPECT_EQ(error(""), expected + "nothing");
  EXPECT_EQ(error("99999999999999999999"),
            expected + "'99999999999999999999'; it does not fit 64 bits");
  EXPECT_EQ(error("0"), "model.hidden_size (x.yaml:2): must be >= 1, got 0");
}

TEST_F(Config, RefusesWhatIsNotAFiniteNumber) {
  const auto error = [&](const std::string& value) {
    return load_error("model:\n  epsilon: " + value + "\n");
  };
  const std::string expected = "model.epsilon (x.yaml:2): expected a number in [0, 1], got ";
  EXPECT_EQ(error(".nan"), expected + "'.nan'; it must be finite");
  EXPECT_EQ(error("-.inf"), expected + "'-.inf'; it must be finite");
  EXPECT_EQ(error("1e999"), expected + "'1e999'; it does not fit 64 bits");
  EXPECT_EQ(error("+-1"), expected + "'+-1'");
  EXPECT_EQ(error("1e"), expected + "'1e'");
  EXPECT_EQ(error("1-2"), expected + "'1-2'");
  EXPECT_EQ(error("."), expected + "'.'");
  EXPECT_EQ(error("010.5"),
            expected + "'010.5'; leading zeros are not allowed (some readers take them for octal)");
  EXPECT_EQ(error("1.5"), "model.epsilon (x.yaml:2): must be in [0, 1], got 1.5");
  EXPECT_EQ(load_error("groups: [{match: a, scale: 0}]"),
            "groups[0].scale (x.yaml:1): must be > 0, got 0");
  EXPECT_EQ(load("model: {epsilon: 1e-20}").value.model.epsilon, 1e-20);
  EXPECT_EQ(load("model: {epsilon: 1.}").value.model.epsilon, 1);
}

TEST_F(Config, RefusesOtherWrongTypes) {
  EXPECT_EQ(load_error("model: {mtp: yes}"),
            "model.mtp (x.yaml:1): expected true or false, got 'yes'");
  EXPECT_EQ(load_error("model: {mtp: 1}"), "model.mtp (x.yaml:1): expected true or false, got '1'");
  EXPECT_EQ(load_error("model: {kind: mhc}"),
            "model.kind (x.yaml:1): expected one of plain, off, got 'mhc'");
  EXPECT_EQ(load_error("model: {ratios: 4}"),
            "model.ratios (x.yaml:1): expected a list, e.g. [a, b], got '4'");
  EXPECT_EQ(load_error("model:\n  ratios:\n  - 4\n  - -1\n"),
            "model.ratios[1] (x.yaml:4): must be >= 0, got -1");
  EXPECT_EQ(load_error("model: {topk: some}"),
            "model.topk (x.yaml:1): expected a whole number >= 1, got 'some'; all leaves it unset");
  EXPECT_EQ(load_error("name: [a]"),
            "name (x.yaml:1): expected text, got a list; text that begins with '- ' or '[' needs "
            "quotes");
  EXPECT_EQ(load_error("name: ~"),
            "name (x.yaml:1): expected text, got nothing (write '' for empty text)");
  EXPECT_EQ(load_error("model:\nname: a\n").substr(0, 47),
            "model (x.yaml:1): expected a mapping with keys ");
}

TEST_F(Config, RefusesFilesThatAreNotAMapping) {
  EXPECT_EQ(load_error(""), "x.yaml: is empty; expected sections such as 'model:'");
  EXPECT_EQ(load_error("# nothing\n"), "x.yaml: is empty; expected sections such as 'model:'");
  EXPECT_EQ(load_error("- a\n"), "x.yaml:1: expected a mapping ('key: value' lines), got a list");
  EXPECT_EQ(load_error("hello\n"),
            "x.yaml:1: expected a mapping ('key: value' lines), got 'hello'");
  EXPECT_NE(
      error_of([&] { load_config<Root>((folder_ / "none.yaml").string()); }).find("none.yaml"),
      std::string::npos);
  EXPECT_NE(error_of([&] { load_config<Root>(folder_.string()); }), "no error");
}

TEST_F(Config, RefusesBrokenYamlWithLineAndColumn) {
  EXPECT_EQ(load_error("name: a\nmodel: [1, 2\n").substr(0, 26), "x.yaml:3:1: broken YAML: a");
  EXPECT_EQ(load_error("name: a\n\tmodel: 1\n").substr(0, 24), "x.yaml:2:1: broken YAML:");
  EXPECT_EQ(load_error("name: a: b\n").substr(0, 24), "x.yaml:1:8: broken YAML:");
  EXPECT_EQ(load_error("name: &x a\n"),
            "x.yaml:1:7: YAML anchors (&name) are not supported; write the value out");
  EXPECT_EQ(load_error("name: !!str a\n"),
            "x.yaml:1:7: YAML tags ('tag:yaml.org,2002:str') are not supported; remove it");
  EXPECT_EQ(load_error("name: a\n---\nname: b\n"),
            "x.yaml:2:1: text after the end of the YAML document; expected one document of 'key: "
            "value' lines");
  EXPECT_NE(load_error("name: " + std::string(20000, '[')), "no error");
  EXPECT_EQ(load_error("[a, b]: c\n"), "x.yaml:1:1: a key must be a word, not a list");
}

// yaml-cpp 0.7 reads such a file without an error: one long name and no model.
TEST_F(Config, RefusesAnOpenQuoteThatSwallowsTheRest) {
  EXPECT_EQ(load_error("name: \"run\nmodel:\n  mtp: true\n"),
            "x.yaml:1:7: this quote (\") is never closed");
  EXPECT_EQ(load_error("name: 'it''s\nmodel:\n  mtp: true\n"),
            "x.yaml:1:7: this quote (') is never closed");
  EXPECT_EQ(load("\xEF\xBB\xBFname: \"say \\\"hi\\\"\"\r\n").value.name, "say \"hi\"");
  EXPECT_EQ(load("name: 'it''s'\n").value.name, "it's");
  EXPECT_EQ(load_error(std::string("name: a\0b", 9)),
            "x.yaml: is not UTF-8 text (it holds NUL bytes)");
}

TEST_F(Config, InheritsFromBaseAndKeepsPlaces) {
  write("models/tiny.yaml", "base: ../common.yaml\nmodel:\n  ratios: [4]\n  hidden_size: 16\n");
  write("common.yaml", "name: common\nmodel:\n  epsilon: 0.5\n  hidden_size: 1\n");
  const auto config = load("base: models/tiny.yaml\nmodel:\n  mtp: true\n  ratios: [0, 0]\n");
  EXPECT_EQ(config.value.name, "common");
  EXPECT_EQ(config.value.model.epsilon, 0.5);
  EXPECT_EQ(config.value.model.hidden_size, 16);
  EXPECT_EQ(config.value.model.ratios, (std::vector<int64_t>{0, 0}));
  EXPECT_TRUE(config.value.model.mtp);
  EXPECT_EQ(config.where("model.epsilon"), (folder_ / "common.yaml:3").string());
  EXPECT_EQ(config.where("model.hidden_size"), (folder_ / "models/tiny.yaml:4").string());
  EXPECT_EQ(config.where("model.ratios[1]"), (folder_ / "x.yaml:4").string());
  EXPECT_EQ(config.where("model.kind"), "default");
}

TEST_F(Config, RefusesABadBase) {
  EXPECT_EQ(load_error("base: nowhere.yaml\n"),
            "base (x.yaml:1): no such file: nowhere.yaml (paths are relative to the file that "
            "names them)");
  const std::string longest(300, 'a');  // more than a file name may have
  EXPECT_EQ(load_error("base: " + longest + "\n").substr(0, 36),
            "base (x.yaml:1): no such file: aaaaa");
  write("y.yaml", "base: ./x.yaml\n");
  EXPECT_EQ(load_error("base: y.yaml\n"),
            "base (y.yaml:1): x.yaml is being read already; files cannot inherit in a circle");
  EXPECT_EQ(load_error("base: [y.yaml]\n"),
            "base (x.yaml:1): expected the path of another YAML file, got a list");
}

TEST_F(Config, OverridesWinOverFiles) {
  const auto config = load("name: a\nmodel: {hidden_size: 2}\n",
                           {"model.hidden_size=3",
                            "model.ratios=[0,0,4]",
                            "name=b=c",
                            "model.hidden_size=4",
                            "model.topk=all"});
  EXPECT_EQ(config.value.model.hidden_size, 4);
  EXPECT_EQ(config.value.model.ratios, (std::vector<int64_t>{0, 0, 4}));
  EXPECT_EQ(config.value.name, "b=c");
  EXPECT_EQ(config.where("model.hidden_size"), "--set");
  EXPECT_EQ(load_error("name: a", {"model.hidden_size"}),
            "--set model.hidden_size: expected the form --set a.b=c, e.g. --set run.seed=1");
  EXPECT_EQ(load_error("name: a", {"model..mtp=1"}),
            "--set model..mtp=1: expected the form --set a.b=c, with a key's path before the '='");
  EXPECT_EQ(load_error("name: a", {"model.hidden_size=x"}),
            "model.hidden_size (--set): expected a whole number >= 1, got 'x'");
  EXPECT_EQ(load_error("name: a", {"model.hidden_size="}),
            "model.hidden_size (--set): expected a whole number >= 1, got nothing");
  EXPECT_EQ(load_error("name: a", {"model.ratios=[1"}).substr(0, 24), "--set model.ratios=[1:1:");
}

// These signs begin no value of one line in YAML; in a file they are explained.
TEST_F(Config, AnOverrideMayBeginWithAnySign) {
  for (const std::string value : {"%", "@", "`x", "#x", "&x", "*x", "!x", "|", ">", "---", "..."}) {
    EXPECT_EQ(load("name: a", {"name=" + value}).value.name, value);
  }
  EXPECT_EQ(load("name: a", {"name=\"a: b\""}).value.name, "a: b");
  EXPECT_EQ(load_error("name: a", {"name=a: b"}),
            "name (--set): expected text, got a mapping; text that holds ': ' needs quotes");
  EXPECT_EQ(load_error("name: @x\n"),
            "x.yaml:1:7: broken YAML: no text begins with '@' in YAML; put it in quotes");
}

TEST_F(Config, BrokenYamlIsToldInOurWords) {
  const auto expect = [&](const std::string& yaml, const std::string& part) {
    const auto error = load_error(yaml);
    EXPECT_NE(error.find(part), std::string::npos) << error;
  };
  expect("name: a\nmodel: [1, 2\n", "not closed");
  expect("model:\n\tmtp: true\n", "indent with spaces");
  expect("name: a: b\n", "put the text in quotes");
  expect("name: \"a\\qb\"\n", "double it, or use single quotes");
  expect("name: " + std::string(20000, '['), "nested too deeply");
  expect("name: a\nmodel:\n  mtp: \xff\n", "x.yaml:3: is not UTF-8 text");
}

TEST_F(Config, ATextIsOneLineOfUtf8) {
  const std::string expected = "name (x.yaml:1): expected one line of text, got ";
  EXPECT_EQ(load_error("name: \"a\\nb\"\n"), expected + "\"a\\x0ab\", which holds a line break");
  EXPECT_EQ(load_error("name: \"a\\0b\"\n"), expected + "\"a\\x00b\", which holds a NUL character");
  EXPECT_EQ(load_error("name: \"a\\eb\"\n"),
            expected + "\"a\\x1bb\", which holds the control character 27");
  EXPECT_NE(load_error("name: \"a\\u2028b\"\n").find("a line break"), std::string::npos);
  EXPECT_NE(load_error("name: a", {"name=a\xff"}).find("UTF-8"), std::string::npos);
  EXPECT_NE(load_error("name: a", {"name=%\xff"}).find("UTF-8"), std::string::npos);
  EXPECT_EQ(load("name: \"a\\tb\u00e9\"\n").value.name, "a\tb\u00e9");
}

TEST_F(Config, NumbersThatNothingCanUseAreRefused) {
  EXPECT_EQ(load_error("model: {hidden_size: 9223372036854775807}"),
            "model.hidden_size (x.yaml:1): is 9223372036854775807; at most 1000000000000000 is "
            "possible");
  EXPECT_EQ(
      load_error("groups: [{match: a, scale: 1e300}]"),
      "groups[0].scale (x.yaml:1): is 1e300; expected 0, or a number between 1e-30 and 1e+100 "
      "in size: float32 cannot divide by smaller ones");
  EXPECT_NE(load_error("model: {epsilon: 1e-300}").find("float32"), std::string::npos);
}

TEST_F(Config, ARequiredKeyIsNotLeftOut) {
  EXPECT_EQ(load_error("groups: [{scale: 2}]"),
            "groups[0] (x.yaml:1): lacks the key 'match'; got {scale: 2}");
  EXPECT_EQ(load_error("groups: [{match: ''}]"),
            "groups[0] (x.yaml:1): has an empty 'match'; got {match: \"\"}");
}

TEST_F(Config, LocatesValidationErrors) {
  const auto config = load("name: a\nmodel:\n  hidden_size: 3\n");
  EXPECT_EQ(
      error_of([&] { throw config.located(ConfigError("model.hidden_size", "must be even")); }),
      "model.hidden_size (x.yaml:3): must be even");
  EXPECT_EQ(error_of([&] { throw config.located(ConfigError("model.topk", "too large")); }),
            "model.topk (default): too large");
}

TEST_F(Config, DumpReloadsToAnEqualStruct) {
  Root config;
  EXPECT_EQ(load(dump_config(config)).value, config);
  config.name = "quote \" back\\slash\ttab # no: [x] ü";
  config.model = {7, 0.1 + 0.2, true, Kind::kOff, {}, {Kind::kOff}, 9};
  config.groups = {{"layers.*", 1.0 / 3.0}, {"~", 1e-30}, {"null", 1e100}, {"-1", 1}};
  EXPECT_EQ(load(dump_config(config)).value, config) << dump_config(config);
}

// Also of values that no key accepts: messages and --help-config show them.
TEST_F(Config, YamlTextParsesToTheSameScalars) {
  for (const std::string scalar : {"quote \" back\\slash\nline \x01", "", "null", "a: b", " x "}) {
    const auto node = ConfigNode::mapping({{"key", ConfigNode::text(scalar)}});
    EXPECT_EQ(parse_yaml(yaml_text(node), "x").find("key")->scalar, scalar);
  }
  for (const double value : {5e-324 * 4, 1e300, 0.1 + 0.2}) {
    EXPECT_EQ(std::strtod(real_text(value).c_str(), nullptr), value);
  }
}

TEST_F(Config, AScalarFillsTheDeclaredKeyOfAStruct) {
  const auto yaml = "sources:\n- a.txt\n- 7\n- {path: b, weight: 0.5}\n- {weight: 2}\n";
  const auto config = load_config<Sources>(write("x.yaml", yaml));
  const Sources want{{{"a.txt", {}}, {"7", {}}, {"b", 0.5}, {"", 2}}};
  EXPECT_EQ(config.value, want);
  EXPECT_EQ(config.where("sources[1]"), (folder_ / "x.yaml:3").string());
  EXPECT_EQ(config.where("sources[1].path"), (folder_ / "x.yaml:3").string());
  EXPECT_EQ(dump_config(want),
            "sources:\n"
            "  - a.txt\n"
            "  - \"7\"\n"
            "  - path: b\n"
            "    weight: 0.5\n"
            "  - path: \"\"\n"
            "    weight: 2\n");
  EXPECT_EQ(load_config<Sources>(write("y.yaml", dump_config(want))).value, want);
  EXPECT_EQ(dump_config(Sources{{{"a", {}}, {"b", {}}}}), "sources: [a, b]\n");
  EXPECT_EQ(load_config<Sources>(write("x.yaml", yaml), {"sources=[c]"}).value,
            (Sources{{{"c", {}}}}));
}

TEST_F(Config, AListOrNothingFillsNoScalarKey) {
  const auto error = [&](const std::string& item) {
    return error_of([&] { load_config<Sources>(write("x.yaml", "sources: [" + item + "]\n")); });
  };
  const std::string expected =
      "sources[0] (x.yaml:1): expected a mapping with keys from path, weight; got ";
  EXPECT_EQ(error("[a]"), expected + "a list");
  EXPECT_EQ(error("~"), expected + "nothing");
  EXPECT_EQ(error("{file: a}"),
            "sources[0].file (x.yaml:1): unknown key; known here: path, weight");
  EXPECT_EQ(error("{path: a, weight: 0}"),
            "sources[0].weight (x.yaml:1): must be > 0, got 0; none leaves it unset");
}

TEST_F(Config, DescribesAStructThatAScalarFills) {
  EXPECT_EQ(describe_config<Sources>(),
            "sources          = []    [text | mapping, ...]  of text\n"
            "sources[].path   = \"\"    text                   where\n"
            "sources[].weight = none  number > 0 | none      share\n");
}

TEST_F(Config, DumpIsReadableYaml) {
  Root config;
  config.groups = {{"a", 1}};
  EXPECT_EQ(dump_config(config),
            "name: run\n"
            "model:\n"
            "  hidden_size: 64\n"
            "  epsilon: 1e-20\n"
            "  mtp: false\n"
            "  kind: plain\n"
            "  ratios: [0, 4]\n"
            "  kinds: []\n"
            "  topk: all\n"
            "groups:\n"
            "  - match: a\n"
            "    scale: 1\n");
}

TEST_F(Config, DescribesEveryKey) {
  EXPECT_EQ(describe_config<Root>(),
            "name              = run       text                      what the run is called\n"
            "model.hidden_size = 64        whole number >= 1         width\n"
            "model.epsilon     = 1e-20     number in [0, 1]          floor\n"
            "model.mtp         = false     true | false              predict two tokens\n"
            "model.kind        = plain     plain | off               residual\n"
            "model.ratios      = [0, 4]    [whole number >= 0, ...]  per layer\n"
            "model.kinds       = []        [plain | off, ...]        per layer\n"
            "model.topk        = all       whole number >= 1 | all   entries kept\n"
            "groups            = []        [mapping, ...]            of parameters\n"
            "groups[].match    = required  text                      pattern\n"
            "groups[].scale    = 1         number > 0                factor\n");
}

TEST(Differences, NameTheKeyAndBothValues) {
  const auto of = [](const char* before, const char* now) {
    return differences(parse_yaml(before, "a"), parse_yaml(now, "b"));
  };
  using Lines = std::vector<std::string>;
  EXPECT_EQ(of("{a: {b: 1, c: [1, 2]}, d: x}", "{d: x, a: {c: [1, 3], b: 1}}"),
            Lines{"a.c was [1, 2], is [1, 3]"});
  EXPECT_EQ(of("{a: {b: 1}}", "{a: {b: 2}, e: 3}").size(), 2u);
  EXPECT_EQ(of("{a: 1}", "{a: 1}"), Lines{});
}

}  // namespace
}  // namespace braid
