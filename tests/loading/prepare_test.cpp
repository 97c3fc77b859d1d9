#include "data/prepare.h"

#include <gtest/gtest.h>

#include "tests/loading/corpus.h"

namespace braid::testing {
namespace {

class PrepareTest : public CorpusTest {
 protected:
  PrepareTest() {
    config_.document_separator = std::string(1, '%');
    config_.validation_fraction = 0;
  }

  std::string file(const std::string& name, int documents) const {
    std::string contents;
    for (int i = 0; i < documents; ++i) {
      contents += text(name, " number ", i, "\n%\n");
    }
    return write(name, contents).string();
  }
  PreparedData prepared() const {
    return prepare_data(
        config_, tokenizer_, {folder_ / "run/data", folder_ / "run/validation.jsonl"});
  }

  DataSection config_;
};

TEST_F(PrepareTest, WithoutWeightsAllDocumentsAreOneSource) {
  config_.train = {file("a.txt", 3), file("b.txt", 4)};
  const auto data = prepared();
  ASSERT_EQ(data.training.size(), 1u);
  EXPECT_EQ(data.training[0].store->num_documents(), 7);
  EXPECT_EQ(data.training[0].name, text(config_.train[0].path, ", ", config_.train[1].path));
  EXPECT_TRUE(data.validation.empty());
  EXPECT_EQ(data.texts.size(), 2u);
}

TEST_F(PrepareTest, WithWeightsEachPathIsASourceAndTheValidationIsShared) {
  config_.train = {{file("a.txt", 100), 2}, {file("b.txt", 100), 1}};
  config_.validation_fraction = 0.2;
  const auto data = prepared();
  ASSERT_EQ(data.training.size(), 2u);
  EXPECT_EQ(data.training[1].name, config_.train[1].path);
  EXPECT_EQ(data.sources()[0].weight, 2);
  EXPECT_EQ(&data.sources()[1].store, data.training[1].store.get());
  EXPECT_EQ(data.training[0].store->num_documents() + data.training[1].store->num_documents() +
                data.validation.at(0).store->num_documents(),
            200);
  EXPECT_GT(data.validation[0].store->num_documents(), 20);
}

TEST_F(PrepareTest, NamedValidationSetsHaveStoresAndTextsOfTheirOwn) {
  config_.train = {file("a.txt", 3)};
  config_.validation = ValidationSets(
      std::vector<ValidationSet>{{"prose", {file("p.txt", 2)}}, {"code", {file("c.txt", 4)}}});
  config_.validation_fraction = 0.2;  // sets of their own win
  const auto data = prepared();
  ASSERT_EQ(data.validation.size(), 2u);
  EXPECT_EQ(data.validation[0].name, "prose");
  EXPECT_EQ(data.validation[0].store->num_documents(), 2);
  EXPECT_EQ(data.validation[1].store->name(),
            (folder_ / "run/data/validation-code.tokens").string());
  EXPECT_EQ(data.validation[1].store->num_documents(), 4);
  EXPECT_TRUE(std::filesystem::exists(folder_ / "run/validation-prose.jsonl"));
  EXPECT_EQ(data.training[0].store->num_documents(), 3);
}

TEST_F(PrepareTest, AConfigurationOfAnEarlierRunIsRead) {
  const auto read = parse_config<DataSection>("on_bad_line: skip", "config.yaml");
  EXPECT_EQ(read.on_bad_sample, OnBadLine::kSkip);
  expect_mentions(error_of([] {
                    parse_config<DataSection>("on_bad_line: skip\non_bad_sample: error", "a.yaml");
                  }),
                  {"on_bad_line (a.yaml:1)", "former name of on_bad_sample", "a.yaml:2"});
}

TEST_F(PrepareTest, ValidationIsAListOrAMappingOfNames) {
  const auto read = [](const std::string& yaml) {
    return parse_config<DataSection>("validation: " + yaml, "run.yaml");
  };
  EXPECT_TRUE(read("[]").validation.empty());
  EXPECT_TRUE(read("[a, b]").validation.names().empty());
  EXPECT_EQ(read("[a, b]").validation.all().at(0).paths, (std::vector<std::string>{"a", "b"}));
  const auto named = read("{b: x.txt, a: [y.txt, z.txt]}");
  EXPECT_EQ(named.validation.names(), (std::vector<std::string>{"b", "a"}));
  EXPECT_EQ(named.validation.all()[1].paths, (std::vector<std::string>{"y.txt", "z.txt"}));
  for (const auto& section : {named, read("[a, b]"), read("[]")}) {
    const auto yaml = dump_config(section);
    EXPECT_EQ(dump_config(parse_config<DataSection>(yaml, "dump")), yaml);
  }
  expect_mentions(error_of([&] { read("a.txt"); }), {"validation (run.yaml:1)", "a list"});
  expect_mentions(error_of([&] { read("{a/b: x}"); }), {"validation (run.yaml:1)", "'a/b'"});
  expect_mentions(error_of([&] { read("{a: []}"); }), {"validation.a (run.yaml:1)", "no text"});
}

TEST_F(PrepareTest, RefusesNoTextAndWeightsForSomeOnly) {
  expect_mentions(error_of([&] { prepared(); }), {"data.train", "no text"});
  config_.train = {{"a", 0.5}, {"b"}};
  try {
    config_.validate();
    FAIL() << "expected a ConfigError";
  } catch (const ConfigError& error) {
    EXPECT_EQ(error.key(), "data.train[1]");
    expect_mentions(error.message(), {"no weight", "'a' has one", "to every source"});
  }
  config_.train[0].weight.reset();
  EXPECT_NO_THROW(config_.validate());
}

TEST_F(PrepareTest, NamesTheTextsThatChanged) {
  config_.train = {file("a.txt", 3), file("b.txt", 4)};
  const auto before = text_digests_of(to_yaml(prepared().texts), "checkpoint");
  EXPECT_TRUE(changes_of_texts(before, prepared().texts).empty());
  file("b.txt", 5);
  config_.train.push_back(file("c.txt", 1));
  const auto now = prepared().texts;
  const auto changes = changes_of_texts(before, now);
  ASSERT_EQ(changes.size(), 1u);
  expect_mentions(changes[0],
                  {"b.txt changed since the checkpoint", before[1].digest, now[1].digest});
}

}  // namespace
}  // namespace braid::testing
