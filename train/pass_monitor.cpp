// Local letters: Q chosen queries of one row, n rows that one expert is given.
#include "train/pass_monitor.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>

#include "core/profile.h"
#include "core/sizes.h"
#include "kernels/precision.h"
#include "model/geometry.h"

namespace braid {
namespace {

KeyRange of_queries(const KeyRange& range, int64_t row, const at::Tensor& queries) {
  const auto chosen = [&](const at::Tensor& numbers_BS) {
    return numbers_BS.select(0, row).index_select(0, queries).unsqueeze(0);
  };
  return {chosen(range.first_BS), chosen(range.end_BS)};
}

SeenEntries of_queries(const SeenEntries& seen, int64_t row, const at::Tensor& queries) {
  const auto& chosen = seen.chosen_BSK;
  return {of_queries(seen.range, row, queries),
          chosen.defined() ? chosen.select(0, row).index_select(0, queries).unsqueeze(0) : chosen};
}

Weight matrix_of(const ExpertLinear& experts, int64_t index) {
  const auto& weights = experts.weights();
  return weights.quantized() ? weights.present().each()[static_cast<std::size_t>(index)]
                             : Weight(weights.stack().select(0, index));
}

// What w1 or w3 of one expert makes of its rows, its adapter included.
at::Tensor product_of(const at::Tensor& x_nD,
                      const ExpertLinear& matrices,
                      const ExpertWeights& a_ErD,
                      const ExpertWeights& b_EFr,
                      double scale,
                      int64_t expert) {
  const auto y_nF = project(x_nD, matrix_of(matrices, expert));
  if (!a_ErD.defined()) {
    return y_nF;
  }
  const auto z_nr = project(x_nD, a_ErD.stack().select(0, expert)) * scale;
  return y_nF + project(z_nr, b_EFr.stack().select(0, expert));
}

double as_number(const at::Tensor& scalar) {
  return scalar.item<double>();
}

}  // namespace

PassMonitor::PassMonitor(const ModelConfig& config, MonitorSet monitors, int64_t tokens)
    : config_(config), monitors_(monitors), most_tokens_(tokens) {}

bool PassMonitor::is_needed(MonitorSet monitors) {
  return monitors.contains(Monitor::kAttention) || monitors.contains(Monitor::kSwiglu) ||
         monitors.contains(Monitor::kResidual);
}

void PassMonitor::begin(const Geometry& geometry) {
  const ProfileScope scope("monitors", ProfileKind::kStep);
  const auto& documents = geometry.documents;
  const auto real = (documents.number_T < documents.count).nonzero().flatten();
  const int64_t count = std::min(most_tokens_, real.numel());
  // The middles of `count` equal parts.
  const auto places = ((2 * at::arange(count, real.options()) + 1) * real.numel())
                          .div(2 * std::max<int64_t>(count, 1), "floor");
  tokens_ = real.index_select(0, places);
  sequence_ = geometry.raw.begin()->second.visible.first_BS.size(1);
  composite_TMM_.reset();
}

std::string PassMonitor::kind_of_layer(int64_t layer) const {
  return enum_name(layer < config_.num_hidden_layers ? config_.layer(layer).attention
                                                     : config_.mtp_layer().attention);
}

void PassMonitor::attention(int64_t layer,
                            const AttentionTeacher& inputs,
                            const SeenEntries& seen) {
  if (!monitors_.contains(Monitor::kAttention)) {
    return;
  }
  const ProfileScope scope("monitors", ProfileKind::kStep);
  const at::NoGradGuard no_grad;
  // So many queries that their scores take 64 MiB.
  constexpr int64_t kScores = 1 << 24;
  const int64_t keys = inputs.kv_BUH.size(1) + inputs.compressed_BCH.size(1);
  const int64_t at_once = std::max<int64_t>(1, kScores / (inputs.sink_N.numel() * (keys + 1)));
  const auto kind = kind_of_layer(layer);
  for (int64_t row = 0; row < inputs.q_BSNH.size(0); ++row) {
    const auto in_row = tokens_.div(sequence_, "floor") == row;
    const auto queries = tokens_.masked_select(in_row) - row * sequence_;
    for (int64_t first = 0; first < queries.numel(); first += at_once) {
      add_attention(kind,
                    inputs,
                    seen,
                    row,
                    queries.slice(0, first, std::min(first + at_once, queries.numel())));
    }
  }
}

void PassMonitor::add_attention(const std::string& kind,
                                const AttentionTeacher& inputs,
                                const SeenEntries& seen,
                                int64_t row,
                                const at::Tensor& queries) {
  const auto q_QNH = widened(inputs.q_BSNH.select(0, row).index_select(0, queries));
  const auto [Q, N, H] = sizes<3>(q_QNH);
  const auto keys = at::cat(
      {widened(inputs.kv_BUH.select(0, row)), widened(inputs.compressed_BCH.select(0, row))});
  const int64_t raw = inputs.kv_BUH.size(1), entries = inputs.compressed_BCH.size(1);
  const auto sees = at::cat({mask_of(of_queries(inputs.window, row, queries), raw),
                             mask_of(of_queries(seen, row, queries), entries)},
                            2)
                        .view({Q, 1, raw + entries});
  seen_.add_squares("attention_rms." + kind + ".query",
                    as_number(q_QNH.to(at::kDouble).square().sum()),
                    static_cast<double>(q_QNH.numel()));
  // Of pairs of a query and a key, which are the same however queries are divided among ranks.
  const auto squares = keys.to(at::kDouble).square().sum(-1);
  seen_.add_squares("attention_rms." + kind + ".key",
                    as_number((squares * sees).sum()),
                    as_number(sees.sum()) * static_cast<double>(H));
  const auto logits =
      (at::matmul(q_QNH.reshape({Q * N, H}), keys.transpose(0, 1)) * inputs.scale)
          .view({Q, N, raw + entries})
          .masked_fill(sees.logical_not(), -std::numeric_limits<double>::infinity());
  const auto sink = inputs.sink_N.detach().to(logits.scalar_type()).view({1, N, 1});
  const auto all = at::cat({logits, sink.expand({Q, N, 1})}, -1);
  seen_.raise("attention_logit_max." + kind, as_number(all.max()));
  const auto share = all.softmax(-1);
  const auto distributions = static_cast<double>(share.numel() / share.size(-1));
  const auto add_mass = [&](const char* what, int64_t first, int64_t count) {
    seen_.add("attention_mass." + kind + what,
              as_number(share.narrow(-1, first, count).sum(at::kDouble)),
              distributions);
  };
  add_mass(".window", 0, raw);
  if (kind == "csa" || kind == "hca") {
    add_mass(".compressed", raw, entries);
  }
  add_mass(".sink", raw + entries, 1);
}

void PassMonitor::residual(int64_t layer, const at::Tensor& mix_BSMM) {
  if (!monitors_.contains(Monitor::kResidual) || layer >= config_.num_hidden_layers) {
    return;  // the MTP block's streams do not go on from the trunk's
  }
  const ProfileScope scope("monitors", ProfileKind::kStep);
  const at::NoGradGuard no_grad;
  // Streams become mix^T X: a row of H = mix^T is a column of mix.
  const auto mix_TMM = mix_BSMM.flatten(0, 1).index_select(0, tokens_).to(at::kDouble);
  if (mix_TMM.numel() == 0) {
    return;
  }
  seen_.raise("residual_error.rows", as_number((mix_TMM.sum(-2) - 1).abs().max()));
  seen_.raise("residual_error.columns", as_number((mix_TMM.sum(-1) - 1).abs().max()));
  if (config_.residual == ResidualKind::kMhc) {
    const auto entropy =
        -at::xlogy(mix_TMM, mix_TMM).sum(-2) / std::log(static_cast<double>(mix_TMM.size(-1)));
    seen_.add("residual_entropy", as_number(entropy.sum()), static_cast<double>(entropy.numel()));
  }
  composite_TMM_ = composite_TMM_.defined() ? at::matmul(composite_TMM_, mix_TMM) : mix_TMM;
}

void PassMonitor::routed_experts(int64_t /*layer*/,
                                 const at::Tensor& x_TD,
                                 const at::Tensor& experts_TK,
                                 const ExpertLinears& experts,
                                 int64_t first_expert) {
  if (!monitors_.contains(Monitor::kSwiglu)) {
    return;
  }
  const ProfileScope scope("monitors", ProfileKind::kStep);
  const at::NoGradGuard no_grad;
  const auto x_QD = x_TD.index_select(0, tokens_);
  const auto chosen_QK = experts_TK.index_select(0, tokens_) - first_expert;
  const auto& adapters = experts.adapters;
  const auto visited = std::get<0>(at::_unique(chosen_QK.flatten())).cpu();
  const int64_t local = experts.w1.weights().sizes()[0];
  for (int64_t i = 0; i < visited.numel(); ++i) {
    const int64_t expert = visited.const_data_ptr<int64_t>()[i];
    if (expert < 0 || expert >= local) {
      continue;  // another rank has it, and shows what its own tokens make of its own experts
    }
    const auto x_nD = x_QD.index_select(0, (chosen_QK == expert).any(1).nonzero().flatten());
    const auto product = [&](const ExpertLinear& matrices, const ExpertWeights& b_EFr) {
      return product_of(x_nD, matrices, adapters.a13_ErD, b_EFr, adapters.scale13, expert);
    };
    add_swiglu(
        "routed", product(experts.w1, adapters.b1_EFr), product(experts.w3, adapters.b3_EFr));
  }
}

void PassMonitor::shared_expert(int64_t /*layer*/,
                                const at::Tensor& gate_TF,
                                const at::Tensor& up_TF) {
  if (!monitors_.contains(Monitor::kSwiglu)) {
    return;
  }
  const ProfileScope scope("monitors", ProfileKind::kStep);
  const at::NoGradGuard no_grad;
  add_swiglu("shared", gate_TF.index_select(0, tokens_), up_TF.index_select(0, tokens_));
}

void PassMonitor::add_swiglu(const std::string& experts,
                             const at::Tensor& gate,
                             const at::Tensor& up) {
  if (gate.numel() == 0) {
    return;
  }
  // A gate far below zero is not clamped: silu makes it zero.
  const auto clamped = (gate > config_.swiglu_limit).logical_or(up.abs() > config_.swiglu_limit);
  seen_.add(
      "swiglu_clamped." + experts, as_number(clamped.sum()), static_cast<double>(clamped.numel()));
  seen_.raise("swiglu_max." + experts, as_number(at::maximum(gate.abs().max(), up.abs().max())));
}

void PassMonitor::finish(Tally& tally) {
  if (composite_TMM_.defined()) {
    const auto add_gain = [&](const std::string& name, const at::Tensor& sums_TM) {
      const auto gain_T = sums_TM.abs().amax(-1);
      seen_.add(name, as_number(gain_T.sum()), static_cast<double>(gain_T.numel()));
      seen_.raise(name + "_max", as_number(gain_T.max()));
    };
    add_gain("residual_gain.forward", composite_TMM_.sum(-2));
    add_gain("residual_gain.backward", composite_TMM_.sum(-1));
    composite_TMM_.reset();
  }
  tally.add(seen_);
  seen_ = {};
}

}  // namespace braid
