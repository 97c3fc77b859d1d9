// Synthetic tasks: what their documents hold, that distances are exact, that training and
// validation share no problem, and how a configuration says it.
#include "data/task_documents.h"

#include <algorithm>
#include <map>
#include <set>

#include "data/byte_tokenizer.h"
#include "data/config.h"
#include "data/loader.h"
#include "data/prepare.h"
#include "tests/loading/corpus.h"
#include "tests/support/compare.h"

namespace braid {
namespace {

using namespace testing;

class TaskDocumentsTest : public CorpusTest {
 protected:
  TaskDocuments documents(const TaskOptions& options, TaskSide side = TaskSide::kTraining) const {
    return {options, side, tokenizer_};
  }

  ByteTokenizer tokenizer_;
};

RecallOptions recall() {
  RecallOptions options;
  options.pairs = 16;
  options.distances = {32, 64, 128, 200};
  return options;
}

TEST_F(TaskDocumentsTest, RecallAsksForEachKeyOnceAtExactlyItsDistance) {
  const auto store = documents(recall());
  const std::vector<int64_t> distances = {32, 64, 128, 200};
  for (int64_t i = 0; i < 200; ++i) {
    const auto ids = store.tokens(i);
    ASSERT_EQ(ids.size(), 256u);
    const auto answers = store.answers(i);
    ASSERT_EQ(answers.size(), 16u);
    std::map<int64_t, int> asked;
    std::map<std::size_t, int> of_group;
    for (const auto& [begin, end, group] : answers) {
      ASSERT_EQ(end, begin + 1);
      const int64_t value = begin - distances[group];
      ASSERT_GE(value, 1);
      const auto at = [&](int64_t position) { return ids[static_cast<std::size_t>(position)]; };
      EXPECT_EQ(at(begin), at(value));
      EXPECT_EQ(at(begin - 1), at(value - 1)) << "the key stands before both";
      EXPECT_EQ(std::ranges::count(ids, at(begin - 1)), 2) << "and nowhere else";
      ++asked[at(begin - 1)];
      ++of_group[group];
    }
    EXPECT_EQ(asked.size(), 16u);
    EXPECT_EQ(of_group, (std::map<std::size_t, int>{{0, 4}, {1, 4}, {2, 4}, {3, 4}}));
  }
  EXPECT_EQ(
      store.answer_groups(),
      (std::vector<std::string>{"distance_32", "distance_64", "distance_128", "distance_200"}));
}

TEST_F(TaskDocumentsTest, RecallFindsRoomWhereverTheLengthIsAllowed) {
  RecallOptions options;
  options.pairs = 32;
  options.distances = {2, 3, 5, 90};
  options.length = 92 + 12 * 7 + 12 * 24;
  while (true) {  // the shortest that is allowed
    --options.length;
    try {
      TaskOptions(options).validate("");
    } catch (const ConfigError&) {
      ++options.length;
      break;
    }
  }
  const auto store = documents(options);
  for (int64_t i = 0; i < 500; ++i) {
    EXPECT_EQ(store.answers(i).size(), 32u);
  }
}

TEST_F(TaskDocumentsTest, OnlyAnswersAreTargetsAndNeverTheEndToken) {
  const auto store = documents(recall());
  const auto document = store.document(5);
  const auto answers = store.answers(5);
  ASSERT_EQ(document.targets.size(), answers.size());
  for (std::size_t i = 0; i < answers.size(); ++i) {
    EXPECT_EQ(document.targets[i].begin, answers[i].begin);
    EXPECT_EQ(document.targets[i].end, answers[i].end);
  }
  EXPECT_EQ(store.num_inputs(5), 256) << "a document of 256 tokens fits a row of 256";
}

TEST_F(TaskDocumentsTest, CopyingRepeatsItsSequenceAtTheDistance) {
  CopyingOptions options;
  options.sequence = 12;
  options.distances = {13, 50};
  const auto store = documents(options);
  std::set<int64_t> lengths;
  for (int64_t i = 0; i < 50; ++i) {
    const auto ids = store.tokens(i);
    lengths.insert(store.num_tokens(i));
    const auto answers = store.answers(i);
    ASSERT_EQ(answers.size(), 1u);
    const int64_t distance = options.distances[answers[0].group];
    EXPECT_EQ(answers[0].begin, distance);
    EXPECT_EQ(answers[0].end, static_cast<int64_t>(ids.size()));
    EXPECT_EQ(store.tokens(i, 0, 12), store.tokens(i, distance, distance + 12));
  }
  EXPECT_EQ(lengths, (std::set<int64_t>{25, 62}));
}

TEST_F(TaskDocumentsTest, NeedlesLieInEveryTenthOfTheHaystack) {
  NeedleOptions options;
  options.length = 2000;
  const auto store = documents(options, TaskSide::kValidation);
  std::set<std::size_t> tenths;
  for (int64_t i = 0; i < store.num_documents(); ++i) {
    const auto ids = store.tokens(i);
    ASSERT_EQ(ids.size(), 2000u);
    const auto answer = store.answers(i).at(0);
    EXPECT_EQ(answer.begin, 1996);
    EXPECT_EQ(answer.end, 2000);
    const std::vector<int64_t> asked(ids.end() - 8, ids.end());
    const auto needle = std::search(ids.begin(), ids.end() - 8, asked.begin(), asked.end());
    ASSERT_NE(needle, ids.end() - 8);
    const auto part = static_cast<std::size_t>((needle - ids.begin()) * 10 / 2000);
    EXPECT_LE(answer.group, part + 1);
    EXPECT_GE(answer.group + 1, part);
    tenths.insert(answer.group);
  }
  EXPECT_EQ(tenths.size(), 10u);
  EXPECT_EQ(store.answer_groups().front(), "depth_0");
  EXPECT_EQ(store.answer_groups().back(), "depth_90");
}

TEST_F(TaskDocumentsTest, NeedlesHideInATextAndAtExactDistances) {
  std::string words;
  for (int i = 0; i < 1000; ++i) {
    words += text("word number ", i, " of a text; ");
  }
  NeedleOptions options;
  options.filler = write("words.txt", words).string();
  options.length = 500;
  options.distances = {20, 400};
  const auto store = documents(options);
  for (int64_t i = 0; i < 30; ++i) {
    const auto answer = store.answers(i).at(0);
    const int64_t value = answer.begin - options.distances[answer.group];
    EXPECT_EQ(store.tokens(i, value - 4, value + 4), store.tokens(i, answer.begin - 4, answer.end));
    EXPECT_NE(tokenizer_.decode(store.tokens(i)).find(" of a text; "), std::string::npos);
  }
  options.length = 100000;
  expect_mentions(error_of([&] { documents(options); }), {"words.txt", "fewer than the 100000"});
}

TEST_F(TaskDocumentsTest, ArithmeticIsRight) {
  ArithmeticOptions options;
  options.operations = {
      ArithmeticOperation::kAdd, ArithmeticOperation::kSubtract, ArithmeticOperation::kMultiply};
  const auto store = documents(options);
  auto symbols = task_symbols(tokenizer_, 101, "test");
  std::erase_if(symbols,
                [&](int64_t id) { return tokenizer_.decode({id}).find_first_of("+-*=") == 0; });
  const auto number = [&](int64_t id) { return std::ranges::find(symbols, id) - symbols.begin(); };
  std::set<std::size_t> operations;
  for (int64_t i = 0; i < 300; ++i) {
    const auto ids = store.tokens(i);
    ASSERT_EQ(ids.size(), 5u);
    const int64_t a = number(ids[0]), b = number(ids[2]), c = number(ids[4]);
    const auto operation = store.answers(i).at(0).group;
    operations.insert(operation);
    const int64_t want = operation == 0 ? a + b : operation == 1 ? a - b + 97 : a * b;
    EXPECT_EQ(c, want % 97) << a << " " << store.answer_groups()[operation] << " " << b;
    EXPECT_EQ(tokenizer_.decode({ids[1], ids[3]}), std::string({"+-*"[operation], '='}));
  }
  EXPECT_EQ(operations.size(), 3u);
}

TEST_F(TaskDocumentsTest, NoProblemOfValidationIsTrainedWhateverTheSeeds) {
  ArithmeticOptions trained, validated;
  trained.seed = 7;
  trained.modulus = validated.modulus = 23;  // so few that all of them come
  const auto training = documents(trained),
             validation = documents(validated, TaskSide::kValidation);
  std::set<uint64_t> problems;
  for (int64_t i = 0; i < 20000; ++i) {
    problems.insert(training.problem(i));
  }
  EXPECT_GT(problems.size(), 23u * 23u * 8 / 10);
  for (int64_t i = 0; i < validation.num_documents(); ++i) {
    EXPECT_FALSE(problems.contains(validation.problem(i)));
  }
}

TEST_F(TaskDocumentsTest, DocumentsAreAFunctionOfOptionsSideAndNumber) {
  const auto a = documents(recall()), b = documents(recall());
  EXPECT_EQ(a.tokens(123456789), b.tokens(123456789));
  EXPECT_NE(a.tokens(1), a.tokens(2));
  EXPECT_EQ(a.sources_digest(), b.sources_digest());
  auto other = recall();
  other.seed = 2;
  EXPECT_NE(documents(other).tokens(1), a.tokens(1));
  EXPECT_NE(documents(other).sources_digest(), a.sources_digest());
  EXPECT_NE(documents(recall(), TaskSide::kValidation).sources_digest(), a.sources_digest());
}

TEST_F(TaskDocumentsTest, ValidationCountsItsTokensAndTargets) {
  auto options = recall();
  options.documents = 10;
  const auto store = documents(options, TaskSide::kValidation);
  EXPECT_EQ(store.num_documents(), 10);
  EXPECT_EQ(store.num_tokens(), 2560);
  EXPECT_EQ(store.num_targets(), 160);
  EXPECT_EQ(store.text_bytes(), 160);
  EXPECT_FALSE(store.is_endless());
}

TEST_F(TaskDocumentsTest, RefusesMoreSymbolsThanTheTokenizerHas) {
  auto options = recall();
  options.symbols = 200;
  expect_mentions(error_of([&] { documents(options); }),
                  {"task recall", "needs 408 different tokens", "'bytes' has 256"});
}

TEST_F(TaskDocumentsTest, TheLoaderMixesThemWithTextsAndContinuesAnywhere) {
  DataSection section;
  section.train = {DataSource(write("a.txt", std::string(3000, 'a')).string(), 0.5),
                   DataSource(TaskOptions(recall()), 0.5)};
  section.validation_fraction = 0;
  const auto data =
      prepare_data(section, tokenizer_, {folder_ / "stores", folder_ / "validation.jsonl"});
  Loader whole(data.sources(), {.seed = 3}), stopped(data.sources(), {.seed = 3});
  int64_t answers = 0;
  for (int step = 0; step < 6; ++step) {
    Loader continued(data.sources(), {.seed = 3});
    EXPECT_TRUE(continued.restore(stopped.state()).empty());
    const auto want = whole.next({4, 256}), got = continued.next({4, 256});
    stopped.next({4, 256});
    expect_bitwise_equal("ids", got.ids_BS, want.ids_BS);
    expect_bitwise_equal("targets", got.targets_BS, want.targets_BS);
    answers += want.num_targets;
  }
  EXPECT_GT(answers, 6 * 2 * 16) << "two rows of each four are of the task, the others of text";
  EXPECT_EQ(whole.state(), stopped.state());
}

class TaskConfigTest : public ::testing::Test {
 protected:
  static DataSection read(const std::string& yaml) {
    auto section = parse_config<DataSection>(yaml, "run.yaml");
    section.validate();
    return section;
  }
  static std::string error(const std::string& yaml) {
    return error_of([&] { read(yaml); });
  }
};

TEST_F(TaskConfigTest, ATaskStandsInPlaceOfAPath) {
  const auto section = read(
      "{train: [{task: recall, pairs: 4, distances: [32, 64], weight: 2}, {path: a.txt, weight: "
      "1}], "
      "validation: {far: {task: recall, pairs: 4, distances: [200]}, text: b.txt}}");
  ASSERT_TRUE(section.train[0].task);
  EXPECT_EQ(section.train[0].weight, 2);
  const auto& options = std::get<RecallOptions>(section.train[0].task->variant());
  EXPECT_EQ(options.pairs, 4);
  EXPECT_EQ(options.distances, (std::vector<int64_t>{32, 64}));
  EXPECT_EQ(section.train[1].path, "a.txt");
  EXPECT_EQ(section.validation.all()[0].task->name(), "recall");
  EXPECT_EQ(section.validation.all()[1].paths, (std::vector<std::string>{"b.txt"}));
  EXPECT_EQ(dump_config(read(dump_config(section))), dump_config(section));
}

TEST_F(TaskConfigTest, WithoutValidationEachTrainedTaskIsValidated) {
  const auto sets = read(
                        "{train: [{task: arithmetic, weight: 1}, {task: arithmetic, modulus: 7, "
                        "weight: 1}, {path: a, weight: 1}]}")
                        .validation_sets();
  EXPECT_EQ(sets.names(), (std::vector<std::string>{"arithmetic", "arithmetic-2"}));
  EXPECT_TRUE(
      read("{train: [{task: arithmetic}], validation_fraction: 0}").validation_sets().empty());
}

TEST_F(TaskConfigTest, MistakesAreNamedWithTheirKey) {
  expect_mentions(error("{train: [{task: recal}]}"), {"train[0].task", "got 'recal'", "copying"});
  expect_mentions(error("{train: [{task: recall, pears: 4}]}"), {"train[0]", "pears", "pairs"});
  expect_mentions(error("{train: [{tsak: recall}]}"), {"train[0]", "tsak", "task"});
  expect_mentions(error("{train: [{task: copying, pairs: 4}]}"), {"train[0]", "pairs"});
  expect_mentions(error("{train: [{task: recall, pairs: 33}]}"),
                  {"data.train[0].pairs", "32 different keys"});
  expect_mentions(error("{train: [{task: recall, length: 70}]}"),
                  {"data.train[0].length", "need 150"});
  expect_mentions(error("{train: [{task: recall}], seq_len: 128}"),
                  {"data.train[0]", "256 tokens", "data.seq_len 128"});
  expect_mentions(error("{train: [{task: recall}, {task: copying}]}"),
                  {"data.train[0]", "has no weight"});
  expect_mentions(error("{train: [{task: copying, sequence: 16, distances: [16]}]}"),
                  {"data.train[0].distances[0]", "at least 17"});
  expect_mentions(error("{train: [{task: needle, length: 200, distances: [4]}]}"),
                  {"data.train[0].distances[0]", "expected 9 to 191"});
  expect_mentions(
      error("{train: [{task: recall}], validation: {r: {task: recall, held_out: 0.2}}}"),
      {"data.validation.r.held_out", "would be trained"});
  expect_mentions(error("{train: [a], validation: {task: recall}}"), {"validation", "a name"});
  expect_mentions(error("{train: [a], validation: {r: {task: recall, weight: 1}}}"), {"weight"});
}

}  // namespace
}  // namespace braid
