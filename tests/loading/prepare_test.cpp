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
        config_, tokenizer_, {folder_ / "run/data", folder_ / "run/validation.txt"});
  }

  DataSection config_;
};

TEST_F(PrepareTest, WithoutWeightsAllDocumentsAreOneSource) {
  config_.train = {file("a.txt", 3), file("b.txt", 4)};
  const auto data = prepared();
  ASSERT_EQ(data.training.size(), 1u);
  EXPECT_EQ(data.training[0].store->num_documents(), 7);
  EXPECT_EQ(data.training[0].name, text(config_.train[0].path, ", ", config_.train[1].path));
  EXPECT_EQ(data.validation, nullptr);
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
                data.validation->num_documents(),
            200);
  EXPECT_GT(data.validation->num_documents(), 20);
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
