#pragma once
#include <memory>

#include <ATen/core/Tensor.h>

#include "kernels/mhc.h"
#include "model/config.h"
#include "model/parameters.h"

namespace braid {

/// The residual connection around one sublayer (an attention or an MoE): how the M streams become
/// its input, and how its output returns to them.
class Residual {
 public:
  virtual ~Residual() = default;

  /// The sublayer's input, normed by its own RMS norm, and what leave() needs; the plain kind has
  /// no weights and leaves them undefined.
  virtual EnteredStreams enter(const at::Tensor& X_BSMD, const at::Tensor& norm_D) const = 0;
  /// The streams after the sublayer returned y_BSD.
  virtual at::Tensor leave(const EnteredStreams& entered, const at::Tensor& y_BSD) const;
};

/// Sublayer `index` counts attentions and MoEs from the embedding on (2l and 2l + 1).  `name` is
/// the release's prefix: "hc_attn" or "hc_ffn".
std::unique_ptr<Residual> make_residual(const Scope& scope,
                                        const std::string& name,
                                        const ModelConfig& config,
                                        int64_t index);

/// The final collapse of the streams and the norm behind it: learned weights (mhc), the mean (hc),
/// or the only stream (plain).
class StreamHead {
 public:
  StreamHead(const Scope& scope, const ModelConfig& config);

  /// X_BSMD -> [B, S, D].
  at::Tensor forward(const at::Tensor& X_BSMD, const at::Tensor& norm_D) const;

 private:
  ResidualKind kind_;
  MhcOptions options_;
  Linear fn_;
  MhcWeights weights_;  ///< without fn
};

}  // namespace braid
