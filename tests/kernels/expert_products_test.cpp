#include "kernels/expert_products.h"

#include <numeric>

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "core/error.h"
#include "kernels/codec.h"
#include "kernels/cuda/kernels.h"
#include "tests/kernels/check_op.h"
#include "tests/support/compare.h"
#include "tests/support/kernels_on_host.h"
#include "tests/support/normal_tensor.h"
#include "tests/support/strict_device.h"

namespace braid {
namespace {

using testing::expect_bitwise_equal;
using testing::expect_close;
using testing::KernelsOnHost;
using testing::normal_tensor;
using testing::strict_device;

// Numbers of rows of each expert, and matrices [O, I].
struct ProductsCase {
  const char* name;
  std::vector<int64_t> rows;
  int64_t O, I;
};

std::vector<int64_t> with_one_row_each(int64_t experts) {
  return std::vector<int64_t>(static_cast<std::size_t>(experts), 1);
}

std::vector<ProductsCase> cases() {
  return {{"several tiles of rows, columns and terms", {130, 0, 7, 260}, 136, 288},
          {"experts beyond a warp and a launch", with_one_row_each(70), 32, 32},
          {"no rows at the ends", {0, 5, 0}, 8, 32},
          {"no rows at all", {0, 0}, 8, 32}};
}

class Experts {
 public:
  explicit Experts(const ProductsCase& c)
      : E(static_cast<int64_t>(c.rows.size())),
        R(std::accumulate(c.rows.begin(), c.rows.end(), int64_t{0})),
        rows_(c.rows) {
    for (int64_t e = 0; e < E; ++e) {
      codes_.push_back(encode_fp4(normal_tensor(text(c.name, e), {c.O, c.I}, at::kFloat)));
    }
  }

  ExpertBounds bounds(at::Device device) const {
    std::vector<int64_t> first{0};
    for (const auto rows : rows_) {
      first.push_back(first.back() + rows);
    }
    return {at::tensor(first, at::kLong).to(device), R};
  }
  // Values of FP4 are values of bfloat16 too.
  at::Tensor stack() const {
    std::vector<at::Tensor> each;
    for (const auto& codes : codes_) {
      each.push_back(decode(codes, at::kFloat));
    }
    return at::stack(each);
  }
  ExpertWeights weights(bool quantized, at::Device device) const {
    if (!quantized) {
      return stack().to(device);
    }
    std::vector<Weight> each;
    for (const auto& codes : codes_) {
      each.emplace_back(codes.values.to(device), codes.scales.to(device));
    }
    return ExpertWeights(each);
  }
  // f(e, rows of e) one below the other.
  template <class F>
  at::Tensor of_each(const at::Tensor& a, const F& f) const {
    std::vector<at::Tensor> results;
    int64_t first = 0;
    for (int64_t e = 0; e < E; first += rows_[static_cast<std::size_t>(e++)]) {
      results.push_back(f(e, a.narrow(0, first, rows_[static_cast<std::size_t>(e)])));
    }
    return at::cat(results);
  }

  int64_t E, R;

 private:
  std::vector<int64_t> rows_;
  std::vector<Codes> codes_;
};

// Every order of threads, on a chip with wgmma and on one without; the same bits in each order, and
// no wait. The last sums are rounded once, to bfloat16 or not at all.
template <class Compute>
void expect_products(const std::string& name,
                     const at::Tensor& want,
                     int launches,
                     const Compute& compute) {
  for (const int capability : {9, 8}) {
    at::Tensor first;
    for (const uint64_t order : {0, 1, 2}) {
      const KernelsOnHost kernels(order, capability);
      at::Tensor got;
      const auto use = testing::strict_device_use([&] { got = compute(); });
      EXPECT_EQ(use.number_of_waits(), 0) << name;
      EXPECT_EQ(kernels.launches(), launches) << name;
      const bool rounded = got.scalar_type() == at::kBFloat16;
      expect_close(name, got, want, {.relative = rounded ? 1.0 / 256 : 1e-5});
      if (order == 0) {
        first = got;
      } else {
        expect_bitwise_equal(text(name, ", order ", order), got, first);
      }
    }
  }
}

TEST(ExpertProducts, OfADeviceAreThoseOfEachExpertWithoutAWait) {
  for (const auto& c : cases()) {
    const Experts experts(c);
    const auto w = experts.stack().to(at::kDouble);
    const auto bounds = experts.bounds(strict_device());
    const auto a_RI = normal_tensor("a", {experts.R, c.I}, at::kBFloat16),
               a_RO = normal_tensor("of outputs", {experts.R, c.O}, at::kBFloat16);
    const auto on_device = [](const at::Tensor& x) { return x.to(strict_device()); };
    const auto a = on_device(a_RI), da = on_device(a_RO);
    const auto product =
        experts.of_each(a_RI.to(at::kDouble), [&](int64_t e, auto x) { return x.mm(w[e].t()); });
    const auto back =
        experts.of_each(a_RO.to(at::kDouble), [&](int64_t e, auto x) { return x.mm(w[e]); });
    for (const bool quantized : {false, true}) {
      const auto weights = experts.weights(quantized, strict_device());
      const auto named = [&](const char* what) {
        return text(c.name, quantized ? ", FP4, " : ", stack, ", what);
      };
      const int64_t of_launch = quantized ? Fp4Products::kMost : experts.E;
      const auto launches =
          experts.R == 0 ? 0 : static_cast<int>((experts.E + of_launch - 1) / of_launch);
      expect_products(named("product"), product, launches, [&] {
        return expert_products(a, {&weights}, bounds)[0];
      });
      expect_products(named("added"), product + a_RO, launches, [&] {
        const auto out = da.clone();
        add_expert_products({{a, weights, out}}, bounds);
        return out;
      });
      expect_products(named("back"), back, launches, [&] {
        const auto out = at::empty_like(a);
        expert_products_back(da, weights, bounds, out);
        return out;
      });
      expect_products(named("back, added"), back + a_RI, launches, [&] {
        const auto out = a.clone();
        expert_products_back(da, weights, bounds, out, /*accumulate=*/true);
        return out;
      });
    }
  }
}

TEST(ExpertProducts, OfADeviceHaveTheGradientsOfMatricesWithoutAWait) {
  for (const auto& c : cases()) {
    const Experts experts(c);
    const auto a = normal_tensor("a", {experts.R, c.O}, at::kBFloat16),
               b = normal_tensor("b", {experts.R, c.I}, at::kBFloat16);
    const auto numbers = at::arange(experts.R, at::kLong);
    const auto want = experts
                          .of_each(numbers,
                                   [&](int64_t, auto rows) {
                                     const auto of = [&](const at::Tensor& x) {
                                       return x.index_select(0, rows).to(at::kDouble);
                                     };
                                     return of(a).t().mm(of(b));
                                   })
                          .view({experts.E, c.O, c.I});
    const auto bounds = experts.bounds(strict_device());
    const auto of_outputs = a.to(strict_device()), of_inputs = b.to(strict_device());
    expect_products(text(c.name, ", gradients"), want, 1, [&] {
      return expert_gradients({of_outputs}, of_inputs, bounds)[0];
    });
  }
}

TEST(ExpertBounds, ThatAreNotThoseOfAllRowsAreAnError) {
  const ExpertBounds bounds(at::tensor({0, 2, 3}, at::kLong).to(strict_device()), 4);
  EXPECT_EQ(testing::error_of([&] { bounds.on_host(); }),
            "[routed_experts] an expert of a token is not one of the 2 experts; check the model's "
            "tid2eid tables");
}

}  // namespace
}  // namespace braid
