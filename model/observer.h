#pragma once
// Who may look into the layers of a pass while it runs.
#include <cstdint>

#include <ATen/core/Tensor.h>

#include "kernels/indexer_kl.h"
#include "model/linear.h"

namespace braid {

struct Geometry;

/// Is shown what layers compute on their way and do not return (PassOptions::observer). It must
/// change nothing of it and add nothing to the graph; so the pass has the same bits with and
/// without one. Layers are numbered as in Observations. Where several ranks run a model together,
/// each shows what it has itself: its tokens, its experts. Of layers that are computed again in
/// the backward pass only the first time is shown.
class Observer {
 public:
  virtual ~Observer() = default;

  /// A pass begins, over the tokens of this geometry.
  virtual void begin(const Geometry& geometry) = 0;
  /// What the attention of a layer is computed from, and which entries it sees.
  virtual void attention(int64_t layer,
                         const AttentionTeacher& inputs,
                         const SeenEntries& seen) = 0;
  /// The mixing matrix of a sublayer's residual connection (kernels/mhc.h); not of plain ones.
  virtual void residual(int64_t layer, const at::Tensor& mix_BSMM) = 0;
  /// What the routed experts are given, before tokens travel to other ranks. `experts` are those
  /// of this rank, from `first_expert` on, as products read them.
  virtual void routed_experts(int64_t layer,
                              const at::Tensor& x_TD,
                              const at::Tensor& experts_TK,
                              const ExpertLinears& experts,
                              int64_t first_expert) = 0;
  /// The shared expert's two products of T tokens, before they are clamped.
  virtual void shared_expert(int64_t layer, const at::Tensor& gate_TF, const at::Tensor& up_TF) = 0;
};

/// A pass's observer, if it has one, beside the number of the layer that it is shown.
struct LayerObserver {
  Observer* observer = nullptr;
  int64_t layer = 0;
};

}  // namespace braid
