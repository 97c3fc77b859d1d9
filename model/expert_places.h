#pragma once
// Which frozen experts stay on a model's device, where not all fit.
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "kernels/weight.h"

namespace braid {

/// Bytes for the codes of frozen experts; where nothing is said, as many as there are.
struct ExpertRoom {
  std::optional<double> resident = {};  ///< on the model's device
  std::optional<double> pinned = {};    ///< of the others, in pinned memory of the host
};

/// The codes of a layer's experts, as far as one rank holds them.
struct ExpertLayer {
  std::string name;  ///< see layer_of_experts()
  double bytes = 0;
};

/// "layers.3.ffn" of the stack "layers.3.ffn.experts.*.w1.weight".
std::string layer_of_experts(const std::string& name);

/// The place of each layer's codes. `layers` in the order in which a pass computes them. As few are
/// streamed (not kDevice) as room.resident allows; they are spread evenly, from the first layer to
/// the last, so that each has as much work as possible to hide behind. Of the streamed ones those
/// that room.pinned does not allow are kMapped, spread in the same way.
std::map<std::string, WeightPlace> places_of_experts(const std::vector<ExpertLayer>& layers,
                                                     const ExpertRoom& room);

}  // namespace braid
