#pragma once
#include <vector>

#include "optim/param_groups.h"
#include "parallel/grid.h"
#include "run/config.h"
#include "run/regime.h"

namespace braid {

/// What each rank has to do with the others in one optimizer step, known from shapes alone. Where
/// ranks differ, the numbers are the largest of any.
struct RanksPlan {
  GridPlace grid;                      ///< rank 0's
  int64_t zero_group = 1;              ///< ranks that divide the dense optimizer state
  int64_t matrices = 0;                ///< whole dense matrices that one rank orthogonalizes
  double newton_schulz_imbalance = 1;  ///< of dense matrices: the fullest rank over the mean
  double experts_imbalance = 1;        ///< the same of experts, within their shards
  double state_padding = 0;            ///< more bytes, if every rank's state were the largest
  double forward_backward_flops = 0;   ///< per step, tokens spread evenly over the experts
  double newton_schulz_flops = 0;      ///< per step
  double optimizer_bytes = 0;          ///< of state
  double gradients_sent_bytes = 0;     ///< per step
  double weights_sent_bytes = 0;       ///< per step
  double experts_sent_bytes = 0;       ///< per step: tokens to experts and back, and gradients
  double context_sent_bytes = 0;       ///< per step: keys and entries of divided sequences
};

/// What one rank holds of the groups: its share of the experts.
std::vector<GroupedParameter> groups_of_rank(std::vector<GroupedParameter> groups,
                                             const GridPlace& grid);

/// `groups` of one rank; `per_token_flops` forward and backward. Bytes are those that GradientSync
/// and exchanged_experts() send: of gradients each element once to its owner, and of what a rank
/// owns the sum once to every other owner group; of weights each rank's share to the others of its
/// owner group; of the exchange, for each token and choice whose expert another rank has, a row and
/// a weight there and a row back, and their gradients; with recomputation the forward pass twice.
/// Of divided sequences, each of one document: raw keys and compressor rows that those on the right
/// see, entries to all, and their gradients; of the balance loss the experts' visits.
RanksPlan planned_ranks(const RunConfig& config,
                        const std::vector<GroupedParameter>& groups,
                        const Regime& regime,
                        const GridPlace& grid,
                        double per_token_flops);

}  // namespace braid
