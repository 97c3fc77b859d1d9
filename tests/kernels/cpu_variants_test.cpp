// The same loops compiled for each instruction set give the same numbers, up to the rounding that
// fused multiply-adds leave out.
#include <functional>

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "core/error.h"
#include "kernels/cpu/attention_loops.h"
#include "kernels/cpu/codec_loops.h"
#include "kernels/cpu/compress_loops.h"
#include "kernels/cpu/index_topk_loops.h"
#include "kernels/cpu/indexer_kl_loops.h"
#include "kernels/cpu/isa.h"
#include "kernels/cpu/matrix_loops.h"
#include "kernels/cpu/mhc_loops.h"
#include "kernels/cpu/rms_norm_loops.h"
#include "kernels/cpu/rope_loops.h"
#include "kernels/cpu/routing_loops.h"
#include "kernels/cpu/sinkhorn_loops.h"
#include "kernels/cpu/streams_loops.h"
#include "kernels/cpu/swiglu_loops.h"
#include "tests/kernels/check_op.h"
#include "tests/support/compare.h"
#include "tests/support/normal_tensor.h"

namespace braid {
namespace {

template <class F>
struct Variant {
  const char* name;
  CpuIsa isa;
  F* function;
};
template <class F>
Variant(const char*, CpuIsa, F*) -> Variant<F>;  // clang 14 deduces no aggregates

#define BRAID_VARIANTS(...)                                                   \
  std::array {                                                                \
    Variant{"baseline", CpuIsa::kBaseline, &baseline::__VA_ARGS__},           \
        Variant{"avx2", CpuIsa::kAvx2, &avx2::__VA_ARGS__},                   \
        Variant{"avx512", CpuIsa::kAvx512, &avx512::__VA_ARGS__},             \
        Variant{"avx512bf16", CpuIsa::kAvx512Bf16, &avx512bf16::__VA_ARGS__}, \
  }

template <class T>
class CpuVariants : public ::testing::Test {
 protected:
  static constexpr at::ScalarType kType = std::is_same_v<T, double> ? at::kDouble : at::kFloat;
  // Backward sums cancel; some dozens of units in the last place.
  static constexpr double kTolerance = std::is_same_v<T, double> ? 1e-14 : 5e-6;

  static at::Tensor input(const char* name, at::IntArrayRef shape) {
    return testing::normal_tensor(name, shape, kType);
  }
  static at::Tensor output(at::IntArrayRef shape) { return at::zeros(shape, kType); }
  static T* data(const at::Tensor& tensor) { return tensor.data_ptr<T>(); }

  // `run` calls the function that it is given and returns what it wrote.
  template <class Variants, class Run>
  static void expect_equal(const char* name, const Variants& variants, const Run& run) {
    const std::vector<at::Tensor> want = run(variants[0].function);
    for (const auto& variant : variants) {
      if (variant.isa > cpu_isa()) {
        continue;  // this machine cannot run it
      }
      const std::vector<at::Tensor> got = run(variant.function);
      for (std::size_t i = 0; i < want.size(); ++i) {
        EXPECT_GT(want[i].abs().max().template item<double>(), 0);
        testing::expect_close(text(name, " ", variant.name, ", result ", i),
                              got[i],
                              want[i],
                              {.relative = kTolerance});
      }
    }
  }
};

using Types = ::testing::Types<float, double>;
TYPED_TEST_SUITE(CpuVariants, Types);

TYPED_TEST(CpuVariants, OfRmsNormAgree) {
  using T = TypeParam;
  const int64_t rows = 5, D = 83;
  const auto x = this->input("x", {rows, D}), w = this->input("w", {D}),
             dy = this->input("dy", {rows, D});
  const auto inverse = (x.square().mean(-1) + 1e-6).rsqrt();
  this->expect_equal("forward", BRAID_VARIANTS(rms_norm_forward<T>), [&](auto* f) {
    auto y = this->output({rows, D}), inverse_rms = this->output({rows});
    f(this->data(x), this->data(w), this->data(y), this->data(inverse_rms), rows, D, T(1e-6));
    return std::vector{y, inverse_rms};
  });
  this->expect_equal("backward", BRAID_VARIANTS(rms_norm_backward<T>), [&](auto* f) {
    auto dx = this->output({rows, D}), dw = this->output({D});
    f(this->data(x),
      this->data(w),
      this->data(inverse),
      this->data(dy),
      this->data(dx),
      this->data(dw),
      rows,
      D);
    return std::vector{dx, dw};
  });
}

TYPED_TEST(CpuVariants, OfRopeAgree) {
  using T = TypeParam;
  const int64_t tokens = 5, N = 3, H = 38, P = 22;
  const auto x = this->input("x", {tokens, N, H}), cos = this->input("cos", {tokens, P / 2}),
             sin = this->input("sin", {tokens, P / 2});
  for (const T sign : {T{1}, T{-1}}) {
    this->expect_equal("rotate", BRAID_VARIANTS(rope_rotate<T>), [&](auto* f) {
      auto y = this->output({tokens, N, H});
      f(this->data(x), this->data(cos), this->data(sin), this->data(y), tokens, N, H, P, sign);
      return std::vector{y};
    });
  }
}

TYPED_TEST(CpuVariants, OfSinkhornAgree) {
  using T = TypeParam;
  const int64_t tokens = 19;
  for (const int64_t M : {2, 4, 8}) {
    const auto logits = this->input("logits", {tokens, M, M}),
               dm = this->input("dm", {tokens, M, M});
    this->expect_equal("forward", BRAID_VARIANTS(sinkhorn_forward<T>), [&](auto* f) {
      auto matrix = this->output({tokens, M, M});
      f(this->data(logits), this->data(matrix), tokens, M, 20, T(1e-6));
      return std::vector{matrix};
    });
    this->expect_equal("backward", BRAID_VARIANTS(sinkhorn_backward<T>), [&](auto* f) {
      auto dlogits = this->output({tokens, M, M});
      f(this->data(logits), this->data(dm), this->data(dlogits), tokens, M, 20, T(1e-6));
      return std::vector{dlogits};
    });
  }
}

TYPED_TEST(CpuVariants, OfStreamsAgree) {
  using T = TypeParam;
  const int64_t tokens = 3, M = 4, D = 83;
  const auto X = this->input("X", {tokens, M, D}), y = this->input("y", {tokens, D}),
             pre = this->input("pre", {tokens, M}), mix = this->input("mix", {tokens, M, M}),
             dout = this->input("dout", {tokens, M, D});
  this->expect_equal("collapse", BRAID_VARIANTS(collapse_forward<T>), [&](auto* f) {
    auto x = this->output({tokens, D});
    f(this->data(X), this->data(pre), this->data(x), tokens, M, D);
    return std::vector{x};
  });
  this->expect_equal("collapse backward", BRAID_VARIANTS(collapse_backward<T>), [&](auto* f) {
    auto dX = this->output({tokens, M, D}), dpre = this->output({tokens, M});
    f(this->data(X),
      this->data(pre),
      this->data(y),
      this->data(dX),
      this->data(dpre),
      tokens,
      M,
      D);
    return std::vector{dX, dpre};
  });
  this->expect_equal("expand", BRAID_VARIANTS(expand_forward<T, T>), [&](auto* f) {
    auto out = this->output({tokens, M, D});
    f(this->data(X),
      this->data(y),
      this->data(pre),
      this->data(mix),
      this->data(out),
      tokens,
      M,
      D);
    return std::vector{out};
  });
  this->expect_equal("expand backward", BRAID_VARIANTS(expand_backward<T, T>), [&](auto* f) {
    auto dX = this->output({tokens, M, D}), dy = this->output({tokens, D}),
         dpost = this->output({tokens, M}), dmix = this->output({tokens, M, M});
    f(this->data(X),
      this->data(y),
      this->data(pre),
      this->data(mix),
      this->data(dout),
      this->data(dX),
      this->data(dy),
      this->data(dpost),
      this->data(dmix),
      tokens,
      M,
      D);
    return std::vector{dX, dy, dpost, dmix};
  });
}

TYPED_TEST(CpuVariants, OfSwigluAgree) {
  using T = TypeParam;
  const int64_t rows = 3, F = 83;
  const auto gate = 8 * this->input("gate", {rows, F}), up = 8 * this->input("up", {rows, F}),
             weight = this->input("weight", {rows}), dh = this->input("dh", {rows, F});
  this->expect_equal("forward", BRAID_VARIANTS(swiglu_forward<T>), [&](auto* f) {
    auto h = this->output({rows, F});
    f(this->data(gate), this->data(up), this->data(weight), this->data(h), rows, F, T(10));
    return std::vector{h};
  });
  this->expect_equal("backward", BRAID_VARIANTS(swiglu_backward<T>), [&](auto* f) {
    auto dgate = this->output({rows, F}), dup = this->output({rows, F}),
         dweight = this->output({rows});
    f(this->data(gate),
      this->data(up),
      this->data(weight),
      this->data(dh),
      this->data(dgate),
      this->data(dup),
      this->data(dweight),
      rows,
      F,
      T(10));
    return std::vector{dgate, dup, dweight};
  });
}

TYPED_TEST(CpuVariants, OfAttentionAgree) {
  using T = TypeParam;
  const int64_t queries = 3, N = 2, J = 35, rows = queries * N;
  const auto scores = this->input("scores", {rows, J}), dp = this->input("dp", {rows, J}),
             sink = this->input("sink", {N});
  const auto sees = (this->input("sees", {queries, J}) > 0).to(at::kByte);
  auto log_sum = this->output({rows});
  this->expect_equal("softmax", BRAID_VARIANTS(attention_softmax<T>), [&](auto* f) {
    auto p = scores.clone();
    f(this->data(p),
      sees.template data_ptr<uint8_t>(),
      this->data(sink),
      this->data(log_sum),
      queries,
      N,
      J,
      T(0.7));
    return std::vector{p, log_sum.clone()};
  });
  this->expect_equal(
      "softmax backward", BRAID_VARIANTS(attention_softmax_backward<T>), [&](auto* f) {
        auto p = scores.clone(), dscores = dp.clone(), dsink = this->output({N});
        f(this->data(p),
          this->data(dscores),
          sees.template data_ptr<uint8_t>(),
          this->data(sink),
          this->data(log_sum),
          this->data(dsink),
          queries,
          N,
          J,
          T(0.7));
        return std::vector{p, dscores, dsink};
      });
}

TYPED_TEST(CpuVariants, OfCompressionAgree) {
  using T = TypeParam;
  const int64_t U = 13, C = 4, R = 3, H = 21, width = 2 * H;
  const auto projected = this->input("projected", {U, 2 * width}),
             ape = this->input("ape", {R, width}), dentries = this->input("de", {C, H});
  const auto rows = at::arange(C * R, at::kLong), previous = (rows - R).clamp_min(0),
             has_previous = at::arange(C) > 0;
  const PooledSequence<T> p{this->data(projected),
                            this->data(ape),
                            rows.template data_ptr<int64_t>(),
                            previous.template data_ptr<int64_t>(),
                            has_previous.template data_ptr<bool>(),
                            R,
                            H,
                            width};
  auto entries = this->output({C, H}), log_sum = this->output({C, H});
  this->expect_equal("forward", BRAID_VARIANTS(compress_forward<T>), [&](auto* f) {
    f(p, this->data(entries), this->data(log_sum), 0, C);
    return std::vector{entries.clone(), log_sum.clone()};
  });
  this->expect_equal("backward", BRAID_VARIANTS(compress_backward<T>), [&](auto* f) {
    auto dprojected = this->output({U, 2 * width}), dape = this->output({R, width});
    f(p,
      this->data(entries),
      this->data(log_sum),
      this->data(dentries),
      this->data(dprojected),
      this->data(dape),
      C,
      0,
      H);
    return std::vector{dprojected, dape};
  });
}

TYPED_TEST(CpuVariants, OfTheIndexersLoopsAgree) {
  using T = TypeParam;
  const int64_t heads = 5;
  const auto products = this->input("products", {heads, kPanelEntries}),
             weight = this->input("weight", {heads});
  this->expect_equal("weighted relu rows", BRAID_VARIANTS(weighted_relu_rows<T>), [&](auto* f) {
    auto scores = this->output({kPanelEntries});
    f(this->data(products), this->data(weight), this->data(scores), heads);
    testing::expect_close("scores",
                          scores,
                          (products.relu() * weight.unsqueeze(-1)).sum(0),
                          {.relative = TestFixture::kTolerance});
    return std::vector{scores};
  });
  for (const int64_t count : {1, 15, 16, 80, 83}) {
    const auto row = this->input("row", {count});
    this->expect_equal("append above", BRAID_VARIANTS(append_above<T>), [&](auto* f) {
      auto above = this->output({count});
      std::vector<int64_t> places(count);
      const int64_t found = f(this->data(row), count, T(0.8), 7, this->data(above), places.data());
      const auto want = (row > 0.8).nonzero().flatten();
      above = above.narrow(0, 0, found).clone();
      EXPECT_TRUE(at::tensor(places, at::kLong).narrow(0, 0, found).equal(want + 7));
      EXPECT_TRUE(above.equal(row.index_select(0, want)));
      return std::vector{at::cat({at::ones({1}, above.options()), above})};
    });
    this->expect_equal("k-th largest", BRAID_VARIANTS(kth_largest<T>), [&](auto* f) {
      // Of both signs, with zeros, equal ones and infinities.
      auto numbers = row.mul(2).round().div(2);
      numbers[0] = -std::numeric_limits<T>::infinity();
      const auto sorted = std::get<0>(numbers.sort(0, /*descending=*/true));
      std::vector<OrderedBits<T>> scratch(count);
      auto got = this->output({count});
      for (int64_t k = 1; k <= count; ++k) {
        got[k - 1] = f(this->data(numbers), count, k, scratch.data());
      }
      EXPECT_TRUE(got.equal(sorted));
      got[count - 1] = 0;  // was -inf
      return std::vector{at::cat({at::ones({1}, got.options()), got})};
    });
  }
}

// Streams of T, and of bfloat16 beside float32.
template <class E, class T, class Forward, class Backward>
void expect_same_mhc(const Forward& forwards, const Backward& backwards, double tolerance) {
  constexpr int64_t kTokens = 21, kM = 4, kD = 40, kK = (2 + kM) * kM, kSize = kM * kD;
  const auto wide = [](const char* name, at::IntArrayRef shape) {
    return testing::normal_tensor(name, shape)
        .to(std::is_same_v<T, double> ? at::kDouble : at::kFloat);
  };
  const auto narrow = [&](const at::Tensor& t) {
    return std::is_same_v<E, T> ? t.clone() : t.to(at::kBFloat16);
  };
  const auto at_T = [](const at::Tensor& t) { return t.data_ptr<T>(); };
  const auto at_E = [](const at::Tensor& t) { return static_cast<E*>(t.data_ptr()); };
  const auto X = narrow(wide("X", {kTokens, kM, kD})), dh = narrow(wide("dh", {kTokens, kD}));
  const auto fn = 0.3 * wide("fn", {kK, kSize}), base = wide("base", {kK}),
             scale = wide("scale", {3}), norm = wide("norm", {kD}),
             dpost = wide("dpost", {kTokens, kM}), dmix = wide("dmix", {kTokens, kM, kM});
  const MhcProblem<T> p{
      kM, kD, kK, 20, T(1e-6), T(1e-3), at_T(fn), at_T(base), at_T(scale), at_T(norm)};
  std::vector<std::vector<at::Tensor>> results;
  for (std::size_t i = 0; i < forwards.size() && forwards[i].isa <= cpu_isa(); ++i) {
    const auto like = [&](at::IntArrayRef shape) { return at::zeros(shape, fn.options()); };
    const auto h = at::zeros_like(dh), dX = narrow(wide("carried", {kTokens, kM, kD}));
    const auto post = like({kTokens, kM}), mix = like({kTokens, kM, kM}), pre = like({kTokens, kM}),
               m = at::matmul(X.to(fn.scalar_type()).flatten(1), fn.t()),
               inverse = like({2, kTokens}), dbase = like({kK}), dscale = like({3}),
               dnorm = like({kD}), slopes = like({kTokens, kK}),
               dX_wide = std::is_same_v<E, T> ? dX : like({kTokens, kM, kD});
    const MhcResults<E, T> out{
        at_E(h), at_T(post), at_T(mix), at_T(pre), at_T(m), at_T(inverse), at_T(inverse) + kTokens};
    forwards[i].function(p, at_E(X), out, kTokens);
    const MhcGradients<E, T> gradients{at_E(dh),
                                       at_E(dX),
                                       at_T(dpost),
                                       at_T(dmix),
                                       at_E(dX),
                                       nullptr,  // of fn
                                       at_T(dbase),
                                       at_T(dscale),
                                       at_T(dnorm)};
    backwards[i].function(p, at_E(X), out, gradients, at_T(slopes), at_T(dX_wide), kTokens);
    results.push_back({h, post, mix, pre, m, dX_wide, slopes, dbase, dscale, dnorm});
    for (std::size_t j = 0; j < results[0].size(); ++j) {
      testing::expect_close(text(forwards[i].name, ", result ", j),
                            results[i][j],
                            results[0][j],
                            {.relative = tolerance});
    }
  }
}

TYPED_TEST(CpuVariants, OfMhcAgree) {
  using T = TypeParam;
  expect_same_mhc<T, T>(BRAID_VARIANTS(mhc_enter_forward<T, T>),
                        BRAID_VARIANTS(mhc_enter_backward<T, T>),
                        TestFixture::kTolerance);
  if constexpr (std::is_same_v<T, float>) {
    expect_same_mhc<Bfloat16, T>(BRAID_VARIANTS(mhc_enter_forward<Bfloat16, T>),
                                 BRAID_VARIANTS(mhc_enter_backward<Bfloat16, T>),
                                 1.0 / 256);
  }
}

TYPED_TEST(CpuVariants, OfTheIndexersLossAgree) {
  using T = TypeParam;
  const int64_t J = 32, heads = 3, Q = 4, columns = heads * Q;
  const auto z = this->input("z", {J, columns}), weight = this->input("weight", {columns}),
             shift = this->input("shift", {columns}), scores = this->input("scores", {J, Q}),
             mass = this->input("mass", {J, Q}).exp();
  const auto seen = (this->input("seen", {J, Q}) > 0).to(at::kByte);
  this->expect_equal("log sums", BRAID_VARIANTS(add_to_log_sums<T>), [&](auto* f) {
    auto largest = this->output({columns}), sum = at::ones_like(largest);
    f(this->data(z), this->data(largest), this->data(sum), J, columns);
    testing::expect_close("log-sum-exp",
                          largest + sum.log(),
                          at::cat({z, this->output({1, columns})}).logsumexp(0),
                          {.relative = 1e-6});
    return std::vector{largest, sum};
  });
  this->expect_equal("sum of heads", BRAID_VARIANTS(sum_of_heads<T>), [&](auto* f) {
    auto out = this->output({J, Q});
    f(this->data(z.clone()), this->data(shift), this->data(out), J, heads, Q);
    return std::vector{out};
  });
  this->expect_equal("scores", BRAID_VARIANTS(weighted_relu_columns<T>), [&](auto* f) {
    auto out = this->output({J, Q});
    f(this->data(z), this->data(weight), this->data(out), J, heads, Q);
    return std::vector{out};
  });
  this->expect_equal("divergence", BRAID_VARIANTS(divergence<T>), [&](auto* f) {
    auto p = mass.clone(), gradient = scores.clone(), kl = this->output({Q});
    f(this->data(p), this->data(gradient), seen.template data_ptr<uint8_t>(), this->data(kl), J, Q);
    const auto set = seen.to(at::kBool);
    const auto want_p = mass * set / (mass * set).sum(0);
    const auto log_q =
        scores.masked_fill(set.logical_not(), -std::numeric_limits<double>::infinity())
            .log_softmax(0);
    testing::expect_close("target", p, want_p, {.relative = 1e-6});
    testing::expect_close("gradient", gradient, log_q.exp() - want_p, {.relative = 1e-6});
    testing::expect_close(
        "divergence",
        kl,
        (want_p * (want_p.log() - log_q)).masked_fill(set.logical_not(), 0).sum(0),
        {.relative = 2e-6});
    return std::vector{p, gradient, kl};
  });
  this->expect_equal("backward", BRAID_VARIANTS(weighted_relu_columns_backward<T>), [&](auto* f) {
    auto products = z.clone(), dweight = this->output({columns});
    f(this->data(products),
      this->data(weight),
      this->data(scores),
      this->data(dweight),
      J,
      heads,
      Q);
    return std::vector{products, dweight};
  });
}

TYPED_TEST(CpuVariants, OfRoutingAgree) {
  using T = TypeParam;
  const int64_t tokens = 7, E = 19, K = 3;
  const auto logits = 4 * this->input("logits", {tokens, E}), bias = this->input("bias", {E}),
             dscores = this->input("dscores", {tokens, E}),
             dweights = this->input("dweights", {tokens, K});
  auto scores = this->output({tokens, E});
  auto experts = at::zeros({tokens, K}, at::kLong);
  int64_t* chosen = experts.template data_ptr<int64_t>();
  this->expect_equal("scores", BRAID_VARIANTS(routing_scores<T>), [&](auto* f) {
    f(this->data(logits), this->data(scores), tokens * E);
    return std::vector{scores.clone()};
  });
  this->expect_equal("experts", BRAID_VARIANTS(choose_experts<T>), [&](auto* f) {
    f(this->data(scores), this->data(bias), chosen, tokens, E, K);
    return std::vector{experts.to(at::kDouble)};
  });
  this->expect_equal("weights", BRAID_VARIANTS(routing_weights<T>), [&](auto* f) {
    auto weights = this->output({tokens, K});
    f(this->data(scores), chosen, this->data(weights), T(1.5), tokens, E, K);
    return std::vector{weights};
  });
  this->expect_equal("backward", BRAID_VARIANTS(routing_backward<T>), [&](auto* f) {
    auto dlogits = this->output({tokens, E});
    f(this->data(logits),
      this->data(scores),
      chosen,
      this->data(dscores),
      this->data(dweights),
      this->data(dlogits),
      T(1.5),
      tokens,
      E,
      K);
    return std::vector{dlogits};
  });
}

TYPED_TEST(CpuVariants, OfMatrixLoopsAgree) {
  using T = TypeParam;
  const int64_t m = 9, n = 21, k = 35;
  const auto A = this->input("A", {m, k}), B = this->input("B", {k, n}),
             C = this->input("C", {m, n});
  this->expect_equal("transpose", BRAID_VARIANTS(transpose<T>), [&](auto* f) {
    auto flipped = this->output({k, m});
    f(this->data(A), k, this->data(flipped), m, m, k);
    EXPECT_TRUE(flipped.equal(A.t()));
    return std::vector{flipped};
  });
  for (const bool accumulate : {false, true}) {
    this->expect_equal("product", BRAID_VARIANTS(dense_product<T>), [&](auto* f) {
      auto out = C.clone();
      f(this->data(A), this->data(B), this->data(out), m, n, k, n, n, accumulate);
      testing::expect_close(
          "A B", out, A.matmul(B) + C * accumulate, {.relative = TestFixture::kTolerance});
      return std::vector{out};
    });
  }
}

// All codes, and a length that is no multiple of a register's.
TYPED_TEST(CpuVariants, OfDecodingAreTheSameBits) {
  using T = TypeParam;
  const auto codes = at::arange(256).to(at::kByte).repeat({4}).narrow(0, 0, 992);
  const uint8_t* bytes = codes.const_data_ptr<uint8_t>();
  const auto scales = this->input("scales", {992 / 32});
  const auto expect_same = [&](const auto& variants, int64_t columns) {
    std::vector<uint8_t> want;
    for (const auto& variant : variants) {
      if (variant.isa <= cpu_isa()) {
        auto out = this->output({columns});
        variant.function(bytes, this->data(scales), this->data(out), columns);
        const auto* first = reinterpret_cast<const uint8_t*>(this->data(out));
        const std::vector<uint8_t> got(first, first + out.nbytes());
        want = want.empty() ? got : want;
        EXPECT_EQ(got, want) << variant.name;
      }
    }
  };
  expect_same(BRAID_VARIANTS(decode_fp8_row<T, T>), 992 - 19);
  expect_same(BRAID_VARIANTS(decode_fp4_row<T, T>), 992);
}

TEST(CpuIsa, IsLimitedFromOutside) {
  EXPECT_EQ(limited_isa(CpuIsa::kAvx512Bf16, nullptr), CpuIsa::kAvx512Bf16);
  EXPECT_EQ(limited_isa(CpuIsa::kAvx512Bf16, "avx2"), CpuIsa::kAvx2);
  EXPECT_EQ(limited_isa(CpuIsa::kAvx2, "baseline"), CpuIsa::kBaseline);
  // What the machine lacks is not promised.
  EXPECT_EQ(limited_isa(CpuIsa::kAvx2, "avx512"), CpuIsa::kAvx2);
  EXPECT_EQ(testing::error_of([] { static_cast<void>(limited_isa(CpuIsa::kAvx2, "avx3")); }),
            "the environment variable BRAID_CPU_ISA is 'avx3'; expected baseline, avx2, avx512, "
            "avx512bf16 or amx");
  for (const auto isa :
       {CpuIsa::kBaseline, CpuIsa::kAvx2, CpuIsa::kAvx512, CpuIsa::kAvx512Bf16, CpuIsa::kAmx}) {
    EXPECT_EQ(limited_isa(CpuIsa::kAmx, isa_name(isa)), isa);
  }
}

}  // namespace
}  // namespace braid
