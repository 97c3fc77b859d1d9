#pragma once
// What the `optimizer` and `schedule` sections hold.

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "core/config.h"
#include "core/parameter_names.h"
#include "kernels/newton_schulz.h"

namespace braid {

inline auto enum_names(OptimizerKind) {
  return std::array{EnumName{"muon", OptimizerKind::kMuon},
                    EnumName{"adamw", OptimizerKind::kAdamW},
                    EnumName{"none", OptimizerKind::kNone}};
}

/// Whether Muon sees the query up-projection as one matrix or as one per head.
enum class QuerySplit { kWhole, kPerHead };
inline auto enum_names(QuerySplit) {
  return std::array{EnumName{"whole", QuerySplit::kWhole},
                    EnumName{"per_head", QuerySplit::kPerHead}};
}

inline auto enum_names(GramForm) {
  return std::array{EnumName{"auto", GramForm::kAuto},
                    EnumName{"always", GramForm::kAlways},
                    EnumName{"never", GramForm::kNever},
                    EnumName{"true", GramForm::kAlways},  // as runs have it that began before
                    EnumName{"false", GramForm::kNever}};
}

struct MuonConfig {
  double momentum = 0.95;
  int64_t newton_schulz_steps = 8;
  int64_t newton_schulz_final_steps = 2;
  double update_rms = 0.18;
  GramForm newton_schulz_gram = GramForm::kAuto;
  bool bfloat16_products = false;
  bool idle_expert_damping = false;

  template <class Visitor>
  static void fields(Visitor& v) {
    v("momentum", &MuonConfig::momentum, "decay of the gradient sum per step", between(0, 1));
    v("newton_schulz_steps",
      &MuonConfig::newton_schulz_steps,
      "iterations that lift small singular values",
      between(0, 1000));
    v("newton_schulz_final_steps",
      &MuonConfig::newton_schulz_final_steps,
      "iterations that settle singular values at 1",
      between(0, 1000));
    v("newton_schulz_gram",
      &MuonConfig::newton_schulz_gram,
      "iterations go two at a time on the product of a matrix with its own transpose: the same "
      "result but for rounding; auto = of matrices for which that is faster, those with one side "
      "1.5 times as long as the other");
    v("update_rms", &MuonConfig::update_rms, "RMS of an update at learning rate 1", more_than(0));
    v("bfloat16_products",
      &MuonConfig::bfloat16_products,
      "iterations multiply in bfloat16 and sum in float32, where the machine does so faster");
    v("idle_expert_damping",
      &MuonConfig::idle_expert_damping,
      "an expert that gets fewer tokens than it used to takes smaller steps; off = steps of full "
      "size, in its old direction, even without a token");
  }
};

struct AdamWConfig {
  double beta1 = 0.9;
  double beta2 = 0.95;
  double epsilon = 1e-20;

  template <class Visitor>
  static void fields(Visitor& v) {
    v("beta1", &AdamWConfig::beta1, "decay of the mean gradient per step", between(0, 0.999999));
    v("beta2",
      &AdamWConfig::beta2,
      "decay of the mean squared gradient per step",
      between(0, 0.999999));
    v("epsilon", &AdamWConfig::epsilon, "added to the root of the mean square", more_than(0));
  }
};

/// Overrides the default group of the parameters whose release name matches.
struct ParameterGroup {
  std::string match;
  OptimizerKind optimizer = OptimizerKind::kAdamW;
  double learning_rate_scale = 1;
  std::optional<double> weight_decay = {};

  template <class Visitor>
  static void fields(Visitor& v) {
    v("match",
      &ParameterGroup::match,
      "release names, * = any characters, ? = one; first match wins",
      required);
    v("optimizer", &ParameterGroup::optimizer, "what trains them");
    v("learning_rate_scale",
      &ParameterGroup::learning_rate_scale,
      "factor on the learning rate",
      at_least(0));
    v("weight_decay",
      &ParameterGroup::weight_decay,
      "their own weight decay",
      at_least(0),
      absent_as("default"));
  }
};

struct OptimizerConfig {
  double learning_rate = 2.7e-4;
  double weight_decay = 0.1;
  bool decay_vectors = true;
  std::optional<double> max_grad_norm = 1.0;
  MuonConfig muon = {};
  AdamWConfig adamw = {};
  QuerySplit query_split = QuerySplit::kWhole;
  int64_t zero_group = 0;
  std::vector<ParameterGroup> groups = {};

  template <class Visitor>
  static void fields(Visitor& v) {
    using C = OptimizerConfig;
    v("learning_rate", &C::learning_rate, "peak, for Muon and AdamW alike", more_than(0));
    v("weight_decay",
      &C::weight_decay,
      "decoupled: weights shrink by learning rate x this",
      at_least(0));
    v("decay_vectors", &C::decay_vectors, "whether norms, sinks and other vectors decay too");
    v("max_grad_norm",
      &C::max_grad_norm,
      "gradients are scaled down to this global L2 norm",
      more_than(0),
      absent_as("none"));
    v("muon", &C::muon, "matrices");
    v("adamw", &C::adamw, "embedding, head and vectors");
    v("query_split", &C::query_split, "how Muon cuts attn.wq_b into matrices");
    v("zero_group",
      &C::zero_group,
      "ranks that divide the state of what all ranks hold; 0 = as many as stay within 10 % "
      "imbalance of Muon's work",
      at_least(0));
    v("groups", &C::groups, "put before the default groups");
  }
};

/// What the learning rate does in a run that is continued with more steps than it was begun with.
enum class OnLonger { kStretch, kContinue };
inline auto enum_names(OnLonger) {
  return std::array{EnumName{"stretch", OnLonger::kStretch},
                    EnumName{"continue", OnLonger::kContinue}};
}

enum class ScheduleKind { kConstant, kCosine, kLinear, kSqrt };
inline auto enum_names(ScheduleKind) {
  return std::array{EnumName{"constant", ScheduleKind::kConstant},
                    EnumName{"cosine", ScheduleKind::kCosine},
                    EnumName{"linear", ScheduleKind::kLinear},
                    EnumName{"sqrt", ScheduleKind::kSqrt}};
}

/// A value that holds until a step.
struct RampStage {
  int64_t until_step = 0;
  int64_t value = 0;

  template <class Visitor>
  static void fields(Visitor& v) {
    v("until_step",
      &RampStage::until_step,
      "the first step with the next value",
      at_least(1),
      required);
    v("value", &RampStage::value, "the value before that step", at_least(1), required);
  }
};

/// All steps here are applied optimizer steps: one that was skipped does not count.
struct ScheduleConfig {
  ScheduleKind kind = ScheduleKind::kCosine;
  int64_t warmup_steps = 100;
  std::optional<double> warmup_share = {};
  double decay_start = 0;
  double min_ratio = 0.1;
  OnLonger on_longer = OnLonger::kStretch;
  std::vector<RampStage> global_batch_size = {};
  std::vector<RampStage> seq_len = {};
  int64_t dense_steps = 0;
  int64_t indexer_warmup_steps = 0;
  std::optional<double> indexer_warmup_learning_rate = {};
  int64_t qat_from_step = 0;

  template <class Visitor>
  static void fields(Visitor& v) {
    using C = ScheduleConfig;
    v("kind", &C::kind, "shape of the decay; sqrt = 1 - the root of its progress");
    v("warmup_steps", &C::warmup_steps, "steps of linear warm-up to the peak", at_least(0));
    v("warmup_share",
      &C::warmup_share,
      "the warm-up as a share of all steps, rounded up, in place of warmup_steps",
      between(0, 1),
      absent_as("off"));
    v("decay_start",
      &C::decay_start,
      "share of all steps before the decay (0 = after warm-up)",
      between(0, 1));
    v("min_ratio", &C::min_ratio, "learning rate at the end / peak", between(0, 1));
    v("on_longer",
      &C::on_longer,
      "when a run continues with more train.max_steps: stretch = the schedule spans them all and "
      "the rate may rise; continue = it spans those it had, and its last rate then stays");
    v("global_batch_size",
      &C::global_batch_size,
      "ramp: earlier values of train.global_batch_size, e.g. [{until_step: 100, value: 2}]");
    v("seq_len", &C::seq_len, "ramp: earlier values of data.seq_len");
    v("dense_steps",
      &C::dense_steps,
      "first steps in which CSA layers attend to all visible entries, not to a selection",
      at_least(0));
    v("indexer_warmup_steps",
      &C::indexer_warmup_steps,
      "steps after those that train nothing but the indexers, attention still dense",
      at_least(0));
    v("indexer_warmup_learning_rate",
      &C::indexer_warmup_learning_rate,
      "constant learning rate of these steps",
      more_than(0),
      absent_as("schedule"));
    v("qat_from_step",
      &C::qat_from_step,
      "steps before model.qat_experts and qat_indexer take part, in training and its validation; "
      "train.max_steps = only in the last validation (rounding after training)",
      at_least(0));
  }

  /// Throws ConfigError for what single fields cannot tell.
  void validate() const;
};

}  // namespace braid
