#include "run/metrics.h"

#include <cmath>

#include "tests/loading/corpus.h"

namespace braid {
namespace {

using MetricsTest = testing::CorpusTest;

TEST_F(MetricsTest, WritesOneExactObjectALine) {
  const auto path = folder_ / "metrics.jsonl";
  Metrics metrics(path, 0);
  metrics.write(1, "", {{"tokens", 12.0}, {"loss", 0.1}, {"gradient_norm", std::nan("")}});
  metrics.write(1, "validation", {{"loss", 1.0 / 3}});
  EXPECT_EQ(read_file(path),
            "{\"step\":1,\"tokens\":12,\"loss\":0.1,\"gradient_norm\":null}\n"
            "{\"step\":1,\"split\":\"validation\",\"loss\":0.3333333333333333}\n");
}

TEST_F(MetricsTest, CutsOffLaterStepsAndAHalfLine) {
  const auto path = write("metrics.jsonl",
                          "{\"step\":1}\n{\"step\":2}\n{\"step\":2,\"split\":\"validation\"}\n"
                          "{\"step\":3}\n{\"step\":2");
  Metrics metrics(path, 2);
  metrics.write(3, "", {});
  EXPECT_EQ(read_file(path),
            "{\"step\":1}\n{\"step\":2}\n{\"step\":2,\"split\":\"validation\"}\n{\"step\":3}\n");
}

TEST_F(MetricsTest, AStepThatIsValidatedAgainLosesAllThatItsValidationWrote) {
  const auto path =
      write("metrics.jsonl",
            "{\"step\":1,\"split\":\"sample\"}\n{\"step\":2}\n"
            "{\"step\":2,\"split\":\"rollback\"}\n{\"step\":2,\"split\":\"validation\"}\n"
            "{\"step\":2,\"split\":\"sample\"}\n");
  Metrics metrics(path, 2, /*validated=*/false);
  EXPECT_EQ(read_file(path),
            "{\"step\":1,\"split\":\"sample\"}\n{\"step\":2}\n"
            "{\"step\":2,\"split\":\"rollback\"}\n");
}

TEST_F(MetricsTest, ADamagedLineTakesNoSoundOneWithIt) {
  const std::string sound =
      "{\"step\":1}\n{\"step\":1,\"split\":\"validation\",\"set\":\"a\"}\n"
      "{\"step\":1,\"split\":\"validation\",\"set\":\"b\"}\n{\"step\":2}\n{\"step\":3}\n";
  const std::string two = "{\"step\":2}\n";
  const auto at = sound.find(two);
  const std::vector<std::string> damages = {"{\"step\":2,\"lo\n",
                                            std::string(9, '\0') + "\n",
                                            "[]\n",
                                            "{\"step\":\"2\"}\n",
                                            "{\"step\":2,\"step\":2}\n",
                                            "{\"step\":2.5}\n",
                                            "{\"step\":-1}\n",
                                            "{\"step\":1}\n",
                                            "{\"step\":99}\n",
                                            "\n"};
  for (const auto& damaged : damages) {
    SCOPED_TRACE(damaged);
    auto lines = sound;
    const auto path = write("metrics.jsonl", lines.insert(at, damaged) + "{\"step\":4}\n");
    const Metrics metrics(path, 3);
    EXPECT_EQ(read_file(path), sound);
    EXPECT_EQ(metrics.damaged(), std::vector<int64_t>{4});
  }
}

TEST_F(MetricsTest, ANewRunStartsEmpty) {
  const auto path = write("metrics.jsonl", "{\"step\":1}\n");
  const Metrics metrics(path, 0);
  EXPECT_EQ(read_file(path), "");
}

TEST_F(MetricsTest, NamesTheFileThatCannotBeWritten) {
  testing::expect_mentions(testing::error_of([&] { Metrics(folder_ / "no/metrics.jsonl", 0); }),
                           {"no/metrics.jsonl", "cannot be written"});
}

TEST_F(MetricsTest, WhatWasWrittenIsReadInItsOrder) {
  const auto path = folder_ / "metrics.jsonl";
  Metrics metrics(path, 0);
  metrics.write(1, "", {{"tokens", 12.0}, {"loss", 0.1}});
  metrics.write(1, "validation", {{"loss", 1.0 / 3}});
  std::vector<std::string> lines;
  std::vector<bool> steps;
  read_metrics(path, [&](const nlohmann::ordered_json& record) {
    lines.push_back(record.dump() + "\n");
    steps.push_back(is_training_step(record));
  });
  EXPECT_EQ(steps, (std::vector<bool>{true, false}));
  ASSERT_EQ(lines.size(), 2u);
  EXPECT_EQ(lines[0] + lines[1], read_file(path));
}

TEST_F(MetricsTest, ReadingStopsAtTheFirstBadLineAndNamesIt) {
  const auto error = [&](const std::string& lines) {
    const auto path = write("metrics.jsonl", "{\"step\":1}\n" + lines);
    return testing::error_of([&] { read_metrics(path, [](const nlohmann::ordered_json&) {}); });
  };
  testing::expect_mentions(error("{\"step\":2"), {"metrics.jsonl:2", "cut off"});
  testing::expect_mentions(error("{\"step\":1}\n"), {"metrics.jsonl:2", "comes after step 1"});
  testing::expect_mentions(error("{\"step\":1.5}\n"), {"metrics.jsonl:2", "a whole number"});
}

}  // namespace
}  // namespace braid
