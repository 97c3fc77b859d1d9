#include "parallel/grid.h"

#include <numeric>
#include <set>
#include <string>
#include <utility>

#include "core/error.h"

namespace braid {
namespace {

// "1, 2, 4": what divides all of the numbers.
std::string common_divisors(int64_t a, int64_t b) {
  const int64_t largest = std::gcd(a, b);
  std::set<int64_t> divisors;
  for (int64_t d = 1; d <= largest / d; ++d) {
    if (largest % d == 0) {
      divisors.insert({d, largest / d});
    }
  }
  std::string result;
  for (const int64_t d : divisors) {
    result += text(result.empty() ? "" : ", ", d);
  }
  return result;
}

}  // namespace

GridPlace grid_place(const ParallelSection& config,
                     int64_t ranks,
                     int64_t rank,
                     int64_t num_experts) {
  if (ranks % config.expert != 0 || num_experts % config.expert != 0) {
    throw ConfigError("parallel.expert",
                      text("is ",
                           config.expert,
                           ", which must divide the number of ranks ",
                           ranks,
                           " and model.n_routed_experts ",
                           num_experts,
                           "; possible here: ",
                           common_divisors(ranks, num_experts)));
  }
  if (ranks % config.context != 0) {
    throw ConfigError("parallel.context",
                      text("is ",
                           config.context,
                           ", which does not divide the number of ranks ",
                           ranks,
                           "; possible here: ",
                           common_divisors(ranks, ranks)));
  }
  return {.ranks = ranks,
          .rank = rank,
          .data_size = ranks / config.context,
          .data = rank / config.context,
          .context_size = config.context,
          .context = rank % config.context,
          .expert_size = config.expert,
          .expert = rank % config.expert,
          .replica = rank / config.expert};
}

ProcessGrid::ProcessGrid(std::unique_ptr<Communicator> all, const GridPlace& its_place)
    : place(its_place),
      world(std::move(all)),
      experts(world->split(place.replica)),
      replicas(world->split(place.expert)),
      context(world->split(place.data)) {}

}  // namespace braid
