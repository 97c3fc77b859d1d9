#pragma once
#include <cstdint>
#include <memory>

#include "parallel/communicator.h"
#include "parallel/config.h"

namespace braid {

/// The coordinates of one rank. Ranks of one context group are neighbors, and so are those of one
/// expert group: rank = data * context size + context = replica * expert size + expert.
struct GridPlace {
  int64_t ranks = 1, rank = 0;
  int64_t data_size = 1, data = 0;        ///< which share of the step's sequences
  int64_t context_size = 1, context = 0;  ///< which share of each sequence's tokens
  int64_t expert_size = 1, expert = 0;    ///< which share of the experts
  int64_t replica = 0;                    ///< which copy of them
};

/// Throws ConfigError when that many ranks cannot form the grid, with sizes that work.
GridPlace grid_place(const ParallelSection& config,
                     int64_t ranks,
                     int64_t rank,
                     int64_t num_experts);

/// The groups of ranks that exchange something.
struct ProcessGrid {
  GridPlace place;
  std::unique_ptr<Communicator> world;
  std::unique_ptr<Communicator> experts;   ///< together one copy of the experts
  std::unique_ptr<Communicator> replicas;  ///< those with the same experts
  std::unique_ptr<Communicator> context;   ///< together one sequence

  ProcessGrid(std::unique_ptr<Communicator> all, const GridPlace& place);
};

}  // namespace braid
