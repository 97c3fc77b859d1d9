#pragma once
// Floating-point operations of one training step, counted from the configuration.
//
// The rule: a multiply-add of a matrix product counts as two operations; nothing else counts (no
// norm, rotation, softmax, Sinkhorn iteration, pooling or embedding look-up), and nothing that is
// computed a second time for the backward pass. The backward pass of a product is two products of
// the same size. Scores and weighted sums of attention count for the pairs that are visible in a
// sequence that is one document, an upper bound for packed ones: a window layer sees w tokens, a
// CSA layer also its k chosen entries (its indexer scores all visible ones), an HCA layer also all
// entries; with dense attention a CSA layer sees all entries too. The forward pass of anticipatory
// routing, which chooses experts ahead, is counted beside them (StagePlan::look_ahead_flops).
#include <cstdint>

#include "model/config.h"
#include "optim/param_groups.h"

namespace braid {

/// Multiply-adds of the forward pass of one sequence, by part of the model. `mtp` is the MTP block
/// whole, its use of the head included.
struct ForwardProducts {
  double attention = 0;         ///< projections
  double attention_scores = 0;  ///< query times key and weight times value
  double compressor = 0;
  double indexer = 0;         ///< projections
  double indexer_scores = 0;  ///< query times key
  double router = 0;
  double routed_experts = 0;
  double shared_experts = 0;
  double mhc = 0;  ///< residual streams: mixing weights and mixing
  double head = 0;
  double mtp = 0;
};
ForwardProducts forward_products(const ModelConfig& config,
                                 int64_t seq_len,
                                 bool dense_attention = false);

/// Operations of Muon's Newton-Schulz iterations in one optimizer step (kernels/newton_schulz.h
/// counts those of one iteration) on one of the matrices of a parameter that has Muon, ...
double newton_schulz_flops_of_matrix(const GroupedParameter& grouped, const MuonConfig& config);
/// ... and on every matrix that a step of `parts` moves.
double newton_schulz_flops(const std::vector<GroupedParameter>& parameters,
                           const MuonConfig& config,
                           TrainedParts parts);

}  // namespace braid
