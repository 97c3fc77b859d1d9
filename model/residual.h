#pragma once
#include <memory>

#include <ATen/core/Tensor.h>

#include "model/config.h"
#include "model/parameters.h"

namespace braid {

/// How one sublayer reads and writes the streams, per token; all wide.
struct Mixing {
  at::Tensor pre_BSM;   ///< weights of the streams in the sublayer's input
  at::Tensor post_BSM;  ///< how strongly each stream receives the output
  at::Tensor mix_BSMM;  ///< mix[j, k]: how much of stream j goes on in stream k
};

/// The residual connection around one sublayer (an attention or an MoE): how the M streams become
/// its input, and how its output returns to them.
class Residual {
 public:
  virtual ~Residual() = default;

  /// Undefined tensors for the plain kind, which mixes nothing.
  virtual Mixing mixing(const at::Tensor& X_BSMD) const = 0;

  /// The sublayer's input x_BSD.
  virtual at::Tensor collapse(const at::Tensor& X_BSMD, const Mixing& mixing) const;
  /// The streams after the sublayer returned y_BSD.
  virtual at::Tensor expand(const at::Tensor& X_BSMD,
                            const at::Tensor& y_BSD,
                            const Mixing& mixing) const;
};

/// Sublayer `index` counts attentions and MoEs from the embedding on (2l and 2l + 1).  `name` is
/// the release's prefix: "hc_attn" or "hc_ffn".
std::unique_ptr<Residual> make_residual(const Scope& scope,
                                        const std::string& name,
                                        const ModelConfig& config,
                                        int64_t index);

/// The final collapse of the streams: learned weights (mhc), the mean (hc), or the only stream
/// (plain).
class StreamHead {
 public:
  StreamHead(const Scope& scope, const ModelConfig& config);

  /// X_BSMD -> [B, S, D].
  at::Tensor forward(const at::Tensor& X_BSMD) const;

 private:
  ResidualKind kind_;
  double hc_eps_, norm_eps_;
  at::Tensor fn_, base_, scale_;
};

}  // namespace braid
