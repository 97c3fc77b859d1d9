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

TEST_F(MetricsTest, ANewRunStartsEmpty) {
  const auto path = write("metrics.jsonl", "{\"step\":1}\n");
  const Metrics metrics(path, 0);
  EXPECT_EQ(read_file(path), "");
}

TEST_F(MetricsTest, NamesTheFileThatCannotBeWritten) {
  testing::expect_mentions(testing::error_of([&] { Metrics(folder_ / "no/metrics.jsonl", 0); }),
                           {"no/metrics.jsonl", "cannot be written"});
}

}  // namespace
}  // namespace braid
