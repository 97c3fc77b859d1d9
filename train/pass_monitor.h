#pragma once
#include <cstdint>

#include <ATen/core/Tensor.h>

#include "model/config.h"
#include "model/observer.h"
#include "run/monitor_config.h"
#include "train/tally.h"

namespace braid {

/// Measures one pass, at some of its tokens, spread evenly over those that are no padding.
/// Everything is computed anew from what layers were given, in plain LibTorch. Adds to a tally, for
/// the kinds of attention there are (window, csa, hca, full), and for "routed" and "shared"
/// experts:
///
///   attention_logit_max.<kind>  the largest logit before the softmax, the sink's included
///   attention_mass.<kind>.<sink | window | compressed>  mean share of the softmax, over tokens,
///                               heads and layers; "window" of a full layer is the whole sequence
///   attention_rms.<kind>.<query | key>  root mean square of what the products take: of all heads'
///                               queries, and of keys, each as often as a chosen token sees it
///   swiglu_clamped.<experts>    share of the hidden units whose gate or up value is clamped
///   swiglu_max.<experts>        the largest |gate| or |up| before it is
///   residual_error.<rows | columns>  the largest |sum - 1| of a mixing matrix H (X' = H X)
///   residual_entropy            of mHC: mean over rows of H of their entropy over ln M
///   residual_gain.<forward | backward>[_max]  of the product P of the decoder layers' H: max over
///                               rows of |sum of the row|, and over columns; mean over tokens, and
///                               the largest (Amax gain, arXiv:2512.24880, 3.1)
class PassMonitor : public Observer {
 public:
  PassMonitor(const ModelConfig& config, MonitorSet monitors, int64_t tokens);

  /// Whether any of the monitors looks into passes.
  static bool is_needed(MonitorSet monitors);

  void begin(const Geometry& geometry) override;
  void attention(int64_t layer, const AttentionTeacher& inputs, const SeenEntries& seen) override;
  void residual(int64_t layer, const at::Tensor& mix_BSMM) override;
  void routed_experts(int64_t layer,
                      const at::Tensor& x_TD,
                      const at::Tensor& experts_TK,
                      const ExpertLinears& experts,
                      int64_t first_expert) override;
  void shared_expert(int64_t layer, const at::Tensor& gate_TF, const at::Tensor& up_TF) override;

  /// Adds what the pass showed, and forgets it.
  void finish(Tally& tally);

 private:
  void add_attention(const std::string& kind,
                     const AttentionTeacher& inputs,
                     const SeenEntries& seen,
                     int64_t row,
                     const at::Tensor& queries);
  void add_swiglu(const std::string& experts, const at::Tensor& gate, const at::Tensor& up);
  std::string kind_of_layer(int64_t layer) const;

  ModelConfig config_;
  MonitorSet monitors_;
  int64_t most_tokens_;
  Tally seen_;
  at::Tensor tokens_;         // int64: the chosen tokens, of all rows
  int64_t sequence_ = 0;      // length of a row
  at::Tensor composite_TMM_;  // product of the mixing matrices so far, transposed; double
};

}  // namespace braid
