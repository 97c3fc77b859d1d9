#pragma once
#include <map>
#include <string>
#include <vector>

#include <ATen/core/Tensor.h>

#include "core/named_tensor.h"
#include "optim/param_groups.h"

namespace braid {

/// How large Muon's steps for each expert are, by the tokens that the expert receives
/// (docs/equations.md (74)). The step of an orthogonalized momentum has the same size however
/// little there is in it, so that an expert without tokens goes on in its old direction; with this
/// factor on its learning rate it comes to rest as the tokens behind its momentum run out.
class ExpertDamping {
 public:
  /// Of the layers that have a router among `parameters`, in their order. `momentum` is Muon's.
  ExpertDamping(const std::vector<GroupedParameter>& parameters, double momentum);

  /// Counts one step's tokens per expert, [E] float64 for each layer in order: of all ranks, so
  /// that each has the same state.
  void received(const std::vector<at::Tensor>& load_E);

  /// The factor on the learning rate of an expert's weight, by its release name: 1 for one that
  /// receives what it used to or more, 0 for one that never received a token.
  double factor(const std::string& name) const;

  /// Running means of tokens, [2, E] float64 by layer (short, long), under
  /// "<layer>ffn.gate.weight/received". Copying into them restores a state.
  std::vector<NamedTensor> state() const;

 private:
  struct Layer {
    std::string block;
    at::Tensor received_2E;
  };

  double keep_short_, keep_long_;  // of the running means, a step
  std::vector<Layer> layers_;
  std::map<std::string, std::size_t, std::less<>> layer_of_block_;
};

}  // namespace braid
