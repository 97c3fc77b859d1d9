#pragma once
#include <functional>
#include <vector>

#include <ATen/core/Tensor.h>

#include "core/named_tensor.h"
#include "model/transformer.h"

namespace braid {

struct ProbeOptions {
  bool gradients = false;
  bool streams = false;
  bool mtp = false;
  std::function<void(int64_t layer)> on_layer = {};  ///< called after each decoder layer, if set
};

/// The exact numbers of one pass, for comparison with any other implementation; names and shapes
/// are the contract of `braid probe` (docs/architecture.md). ids_BS int64; targets_BS int64, or
/// undefined for "the next id". Results are float64 for a float64 model and float32 otherwise.
std::vector<NamedTensor> probe(Transformer& model,
                               const at::Tensor& ids_BS,
                               const at::Tensor& targets_BS,
                               const ProbeOptions& options);

}  // namespace braid
