#include "parallel/grid.h"

#include <gtest/gtest.h>

namespace braid {
namespace {

std::string error_of(const ParallelSection& config, int64_t ranks, int64_t experts) {
  try {
    grid_place(config, ranks, 0, experts);
  } catch (const ConfigError& error) {
    return error.what();
  }
  return "";
}

TEST(GridPlace, NeighborsShareExpertsAndSequences) {
  const ParallelSection config{.expert = 4, .context = 2};
  for (int64_t rank = 0; rank < 8; ++rank) {
    const auto place = grid_place(config, 8, rank, 16);
    EXPECT_EQ(place.data_size, 4);
    EXPECT_EQ(place.data, rank / 2);
    EXPECT_EQ(place.context, rank % 2);
    EXPECT_EQ(place.replica, rank / 4);
    EXPECT_EQ(place.expert, rank % 4);
  }
}

TEST(GridPlace, RefusesWhatDoesNotDivideAndNamesWhatDoes) {
  EXPECT_EQ(error_of({.expert = 3}, 4, 6),
            "parallel.expert: is 3, which must divide the number of ranks 4 and "
            "model.n_routed_experts 6; possible here: 1, 2");
  EXPECT_EQ(error_of({.expert = 4}, 4, 6),
            "parallel.expert: is 4, which must divide the number of ranks 4 and "
            "model.n_routed_experts 6; possible here: 1, 2");
  EXPECT_EQ(error_of({.context = 4}, 6, 6),
            "parallel.context: is 4, which does not divide the number of ranks 6; possible here: "
            "1, 2, 3, 6");
  EXPECT_TRUE(error_of({.context = 3}, 1'000'000'000'000, 6).ends_with(", 1000000000000"));
}

}  // namespace
}  // namespace braid
