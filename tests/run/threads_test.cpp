#include "run/threads.h"

#include <gtest/gtest.h>

namespace braid {
namespace {

Cores cores(std::vector<int64_t> numbers, double quota = 0) {
  return {.numbers = std::move(numbers), .of_machine = 8, .quota = quota};
}
const Cores kAll = cores({0, 1, 2, 3, 4, 5, 6, 7});

TEST(Threads, AreAsManyAsTheProcessMayUse) {
  EXPECT_EQ(chosen_threads(0, {}, {kAll}).text(), "8 threads (all cores)");
  EXPECT_EQ(chosen_threads(0, {}, {cores({2})}).text(), "1 thread (affinity)");
  EXPECT_EQ(chosen_threads(0, {}, {cores(kAll.numbers, 2.5)}).text(), "2 threads (cgroup quota)");
  EXPECT_EQ(chosen_threads(0, {}, {cores({0, 1}, 4)}).text(), "2 threads (affinity)");
  EXPECT_EQ(chosen_threads(0, {}, {cores(kAll.numbers, 0.5)}).text(), "1 thread (cgroup quota)");
}

TEST(Threads, ArePreferablyThoseOfTheKeyThenOfTheEnvironment) {
  EXPECT_EQ(chosen_threads(3, "5", {kAll}).text(), "3 threads (train.threads)");
  EXPECT_EQ(chosen_threads(0, "5", {kAll}).text(), "5 threads (OMP_NUM_THREADS)");
  EXPECT_EQ(chosen_threads(0, "4,2", {kAll}).count, 4);
  for (const auto* wrong : {"", "0", "-1", "all", "2x"}) {
    EXPECT_EQ(chosen_threads(0, wrong, {kAll}).text(), "8 threads (all cores)") << wrong;
  }
}

TEST(Threads, AreNeverSoManyThatTheyStopTheMachine) {
  EXPECT_EQ(chosen_threads(0, "100000", {kAll}).count, kMostThreads);
  EXPECT_THROW(chosen_threads(kMostThreads + 1, {}, {kAll}), ConfigError);
}

TEST(Threads, OfRanksOnOneMachineShareItsCores) {
  EXPECT_EQ(chosen_threads(0, {}, {kAll, kAll}).text(), "4 threads each (all cores)");
  EXPECT_EQ(chosen_threads(0, {}, {kAll, kAll, kAll}).count, 2);
  const auto quota = cores(kAll.numbers, 4);
  EXPECT_EQ(chosen_threads(0, {}, {quota, quota}).text(), "2 threads each (cgroup quota)");
  // Bound by mpirun or Slurm, each to its own: nothing is divided twice.
  EXPECT_EQ(chosen_threads(0, {}, {cores({0, 1, 2, 3}), cores({4, 5, 6, 7})}, 1).text(),
            "4 threads each (affinity)");
  EXPECT_EQ(chosen_threads(0, {}, {cores({0, 1}), cores({0, 1, 2, 3})}, 1).count, 3);
}

TEST(Threads, BeyondTheCoresAreWarnedOf) {
  EXPECT_EQ(chosen_threads(8, {}, {kAll}).warning, "");
  const auto key = chosen_threads(16, {}, {cores({0, 1})}).warning;
  EXPECT_NE(key.find("16 threads (train.threads) on 2 cores"), std::string::npos) << key;
  const auto environment = chosen_threads(0, "16", {cores({0})}).warning;
  EXPECT_NE(environment.find("16 threads (OMP_NUM_THREADS) on 1 core:"), std::string::npos)
      << environment;
  const auto ranks = chosen_threads(0, {}, std::vector(4, cores({0, 1}))).warning;
  EXPECT_NE(ranks.find("4 ranks with 1 thread each share 2 cores"), std::string::npos) << ranks;
  EXPECT_EQ(chosen_threads(0, {}, {cores({0}), cores({1})}).warning, "");
  EXPECT_EQ(chosen_threads(0, {}, {cores({0}, 0.5)}).warning, "");  // it cannot be fewer
}

}  // namespace
}  // namespace braid
