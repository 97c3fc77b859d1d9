#pragma once
#include <array>
#include <cstdint>

#include "core/config.h"

namespace braid {

/// In which type gradients travel between ranks.
enum class ReduceType {
  kMaster,    ///< as they are
  kBfloat16,  ///< rounded stochastically, summed in the master type: half the bytes
};
inline auto enum_names(ReduceType) {
  return std::array{EnumName{"master", ReduceType::kMaster},
                    EnumName{"bfloat16", ReduceType::kBfloat16}};
}

/// How the ranks that mpirun started divide the work. Without mpirun there is one rank.
struct ParallelSection {
  int64_t expert = 1;
  int64_t context = 1;
  int64_t expert_waves = 2;
  bool fixed_order = false;
  ReduceType reduce_dtype = ReduceType::kMaster;
  int64_t bucket_mib = 32;
  double timeout_seconds = 600;
  int64_t compare_every_steps = 100;

  template <class Visitor>
  static void fields(Visitor& v) {
    using P = ParallelSection;
    v("expert",
      &P::expert,
      "ranks that share one copy of the experts; divides the number of ranks and "
      "model.n_routed_experts",
      at_least(1));
    v("context",
      &P::context,
      "ranks that share one sequence; divides the number of ranks and the sequence lengths",
      at_least(1));
    v("expert_waves",
      &P::expert_waves,
      "groups of experts: the tokens of one travel while another computes",
      at_least(1));
    v("fixed_order",
      &P::fixed_order,
      "sum gradients by a tree over the step's micro-batches: the same bits on any number of "
      "data-parallel ranks; takes memory for some more copies of the gradients");
    v("reduce_dtype",
      &P::reduce_dtype,
      "gradients between ranks: master = as they are, bfloat16 = rounded stochastically");
    v("bucket_mib", &P::bucket_mib, "MiB of gradients that travel at once", at_least(1));
    v("timeout_seconds",
      &P::timeout_seconds,
      "an exchange between ranks that takes longer ends the run",
      more_than(0));
    v("compare_every_steps",
      &P::compare_every_steps,
      "compare the weights that ranks should have in common; 0 = never",
      at_least(0));
  }
};

}  // namespace braid
