#pragma once
#include <functional>
#include <vector>

#include <ATen/core/Tensor.h>

namespace braid {

/// Part of a forward pass: a function of X and of parameters alone, with the same bits every time.
/// `again` is set when it runs a second time, for the backward pass, and must not report anything.
using Segment = std::function<std::vector<at::Tensor>(const at::Tensor& X, bool again)>;

/// segment(X), of which only X and the results stay in memory; the backward pass runs it again.
/// Where X needs no gradient it simply runs: what a segment keeps then is what its own parameters
/// need. Parameters used inside receive their gradients directly.
std::vector<at::Tensor> recomputed(const Segment& segment, const at::Tensor& X);

}  // namespace braid
