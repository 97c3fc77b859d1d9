// Local letter: K rows of fn and base, see kernels/mhc.h.
#include "model/residual.h"

#include <ATen/ATen.h>

#include "core/profile.h"
#include "core/sizes.h"
#include "kernels/precision.h"
#include "kernels/rms_norm.h"
#include "kernels/streams.h"

namespace braid {
namespace {

MhcOptions mhc_options(const ModelConfig& config) {
  return {config.hc_sinkhorn_iters, config.hc_eps, config.rms_norm_eps};
}

// One stream; the sublayer's output is added to it.
class PlainResidual : public Residual {
 public:
  explicit PlainResidual(const ModelConfig& config) : eps_(config.rms_norm_eps) {}

  EnteredStreams enter(const at::Tensor& X_BS1D, const at::Tensor& norm_D) const override {
    return {rms_norm(X_BS1D.squeeze(2), norm_D, eps_), X_BS1D, {}, {}, {}};
  }
  at::Tensor leave(const EnteredStreams& entered, const at::Tensor& y_BSD) const override {
    return entered.X_TMD + y_BSD.unsqueeze(2);
  }

 private:
  double eps_;
};

// Hyper-connections in their dynamic form (arXiv:2409.19606): unconstrained mixing.
// A [M, 1 + M] per token: column 0 reads the input, column 1 + k feeds stream k.
class HyperConnection : public Residual {
 public:
  HyperConnection(const Scope& scope,
                  const std::string& name,
                  const ModelConfig& config,
                  int64_t index)
      : eps_(config.rms_norm_eps) {
    const int64_t M = config.hc_mult, D = config.hidden_size;
    norm_ = scope.constant(name + "_norm", {D}, 1);
    A0_ = scope.filled(name + "_A0", {M, 1 + M}, [M, index](int64_t i) {
      const int64_t stream = i / (1 + M), column = i % (1 + M);
      return column == 0 ? stream == index % M : stream == column - 1;
    });
    b0_ = scope.constant(name + "_b0", {M}, 1);
    W_a_ = scope.constant(name + "_W_a", {D, 1 + M}, 0);
    w_b_ = scope.constant(name + "_w_b", {D}, 0);
    s_a_ = scope.constant(name + "_s_a", {}, 0.01);
    s_b_ = scope.constant(name + "_s_b", {}, 0.01);
  }

  EnteredStreams enter(const at::Tensor& X_BSMD, const at::Tensor& norm_D) const override {
    const auto type = wide_type(X_BSMD);
    const auto wide = [type](const at::Tensor& parameter) { return parameter.to(type); };
    const auto u_BSMD = rms_norm(widened(X_BSMD), norm_, eps_);
    const auto A = wide(A0_) + wide(s_a_) * at::matmul(u_BSMD, wide(W_a_)).tanh();
    const auto b = wide(b0_) + wide(s_b_) * at::matmul(u_BSMD, wide(w_b_)).tanh();
    const auto pre = A.select(-1, 0);
    return {rms_norm(collapse_streams(X_BSMD, pre), norm_D, eps_),
            X_BSMD,
            pre.detach(),
            b,
            A.narrow(-1, 1, X_BSMD.size(2))};
  }

 private:
  double eps_;
  at::Tensor norm_, A0_, b0_, W_a_, w_b_, s_a_, s_b_;
};

// Manifold-constrained hyper-connections (arXiv:2512.24880; docs/equations.md (8) to (11)): the
// mixing matrix is (nearly) doubly stochastic. Rows of fn and base: M of pre, M of post, M * M of
// the matrix.
class ManifoldHyperConnection : public Residual {
 public:
  ManifoldHyperConnection(const Scope& scope,
                          const std::string& name,
                          const ModelConfig& config,
                          int64_t index)
      : options_(mhc_options(config)) {
    const int64_t M = config.hc_mult, rows = (2 + M) * M;
    const bool identity = config.mhc_init == MhcInit::kIdentity;
    fn_ = scope.wide_linear(name + "_fn", {rows, M * config.hidden_size});
    weights_.base_K = scope.filled(name + "_base", {rows}, [M, index, identity](int64_t row) {
      if (!identity) {
        return 0.0;
      }
      if (row < M) {
        return row == index % M ? 3.0 : -3.0;
      }
      if (row < 2 * M) {
        return 0.0;
      }
      const int64_t j = (row - 2 * M) / M, k = (row - 2 * M) % M;
      return j == k ? 3.0 : -3.0;
    });
    weights_.scale_3 = scope.constant(name + "_scale", {3}, identity ? 0.01 : 1.0);
  }

  EnteredStreams enter(const at::Tensor& X_BSMD, const at::Tensor& norm_D) const override {
    return enter_streams(
        X_BSMD, {fn_.values(), weights_.base_K, weights_.scale_3}, norm_D, options_);
  }

 private:
  MhcOptions options_;
  Linear fn_;
  MhcWeights weights_;  // without fn
};

// Adds halves, so that the mean of equal streams is exact when their number is a power of two: an
// untrained hc model then equals the plain one bit for bit.
at::Tensor stream_mean(const at::Tensor& X_BSMD) {
  auto sum = widened(X_BSMD);
  for (int64_t half = sum.size(2) / 2; sum.size(2) % 2 == 0; half = sum.size(2) / 2) {
    sum = sum.narrow(2, 0, half) + sum.narrow(2, half, half);
  }
  return (sum.sum(2) / X_BSMD.size(2)).to(X_BSMD.scalar_type());
}

}  // namespace

at::Tensor Residual::leave(const EnteredStreams& entered, const at::Tensor& y_BSD) const {
  return expand_streams(entered.X_TMD, y_BSD, entered.post_TM, entered.mix_TMM);
}

std::unique_ptr<Residual> make_residual(const Scope& scope,
                                        const std::string& name,
                                        const ModelConfig& config,
                                        int64_t index) {
  switch (config.residual) {
    case ResidualKind::kPlain:
      return std::make_unique<PlainResidual>(config);
    case ResidualKind::kHc:
      return std::make_unique<HyperConnection>(scope, name, config, index);
    case ResidualKind::kMhc:
      return std::make_unique<ManifoldHyperConnection>(scope, name, config, index);
  }
  return nullptr;
}

StreamHead::StreamHead(const Scope& scope, const ModelConfig& config)
    : kind_(config.residual), options_(mhc_options(config)) {
  if (kind_ == ResidualKind::kMhc) {
    const int64_t M = config.hc_mult;
    fn_ = scope.wide_linear("hc_head_fn", {M, M * config.hidden_size});
    weights_.base_K = scope.constant("hc_head_base", {M}, 0);
    weights_.scale_3 =
        scope.constant("hc_head_scale", {1}, config.mhc_init == MhcInit::kIdentity ? 0.01 : 1.0);
  }
}

at::Tensor StreamHead::forward(const at::Tensor& X_BSMD, const at::Tensor& norm_D) const {
  const ProfileScope scope("residual in");
  switch (kind_) {
    case ResidualKind::kPlain:
      return rms_norm(X_BSMD.squeeze(2), norm_D, options_.norm_eps);
    case ResidualKind::kHc:
      return rms_norm(stream_mean(X_BSMD), norm_D, options_.norm_eps);
    case ResidualKind::kMhc:
      break;
  }
  return join_streams(X_BSMD, {fn_.values(), weights_.base_K, weights_.scale_3}, norm_D, options_);
}

}  // namespace braid
