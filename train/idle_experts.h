#pragma once
#include <cstdint>
#include <string>
#include <vector>

#include <ATen/core/Tensor.h>

#include "core/named_tensor.h"
#include "model/config.h"

namespace braid {

/// Counts for how many steps each expert has been without a token: of the decoder layers, then the
/// MTP block.
class IdleExperts {
 public:
  explicit IdleExperts(const ModelConfig& config);

  /// Counts a step's tokens per expert, [E] float64 for each layer.
  void received(const std::vector<at::Tensor>& load_E);

  /// The experts of a layer without a token in at least the last `steps` steps.
  int64_t dead(std::size_t layer, int64_t steps) const;

  /// Steps without a token, int64 [E], under "layers.3.ffn.idle_steps" or "mtp.0.ffn.idle_steps".
  /// Copying into them restores a state.
  const std::vector<NamedTensor>& state() const { return idle_steps_E_; }

 private:
  std::vector<NamedTensor> idle_steps_E_;
};

}  // namespace braid
