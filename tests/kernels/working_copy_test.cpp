// bfloat16 copies of float32 masters, on a device where products would round the masters each time.
#include "kernels/working_copy.h"

#include <functional>

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "core/error.h"
#include "kernels/experts.h"
#include "kernels/update.h"
#include "kernels/weight.h"
#include "tests/kernels/check_op.h"
#include "tests/support/compare.h"
#include "tests/support/kernels_on_host.h"
#include "tests/support/normal_tensor.h"
#include "tests/support/strict_device.h"

namespace braid {
namespace {

using testing::expect_bitwise_equal;
using testing::strict_device;

at::Tensor on_device(const std::string& name, at::IntArrayRef sizes, at::ScalarType type) {
  return testing::normal_tensor(name, sizes).to(type).to(strict_device());
}

at::Tensor master(const std::string& name, at::IntArrayRef sizes) {
  return on_device(name, sizes, at::kFloat).requires_grad_(true);
}

at::Tensor activations(const std::string& name, at::IntArrayRef sizes) {
  return on_device(name, sizes, at::kBFloat16).requires_grad_(true);
}

at::Tensor read(const WorkingCopy& copy, const at::Tensor& its_master) {
  return copy.operand_for(at::empty({0}, its_master.options().dtype(at::kBFloat16)), its_master);
}

TEST(WorkingCopy, IsTheRoundedMasterForBfloat16AndTheMasterForOthers) {
  const auto w = master("w", {5, 6, 3});
  const WorkingCopy copy(w);
  expect_bitwise_equal("copy", read(copy, w).cpu(), w.detach().cpu().to(at::kBFloat16));
  EXPECT_FALSE(read(copy, w).requires_grad());
  EXPECT_TRUE(read(copy, w).is_same(read(copy, w)));
  EXPECT_TRUE(copy.operand_for(w, w).is_same(w));
  EXPECT_TRUE(read(WorkingCopy(), w).is_same(w));
  const auto rows = w.narrow(0, 2, 2);
  expect_bitwise_equal(
      "part", read(copy.part(1, 5).part(1, 3), rows).cpu(), rows.detach().cpu().to(at::kBFloat16));
  EXPECT_NE(testing::error_of([&] { WorkingCopy(w.to(at::kDouble)); }).find("float32 master"),
            std::string::npos);
}

// ---- Products ----

// An operation's result and gradients, from inputs that require them.
using Operation = std::function<at::Tensor(bool copies, const std::vector<at::Tensor>& inputs)>;

std::vector<at::Tensor> results_of(const Operation& operation,
                                   bool copies,
                                   const std::vector<at::Tensor>& inputs) {
  const auto y = operation(copies, inputs);
  y.backward(on_device("dy", y.sizes(), y.scalar_type()));
  std::vector<at::Tensor> results = {y.detach().cpu()};
  for (const auto& input : inputs) {
    if (input.requires_grad()) {
      results.push_back(input.grad().cpu());
      input.mutable_grad().reset();
    }
  }
  return results;
}

void expect_the_same_bits(const Operation& operation, const std::vector<at::Tensor>& inputs) {
  const auto want = results_of(operation, false, inputs), got = results_of(operation, true, inputs);
  ASSERT_EQ(got.size(), want.size());
  for (std::size_t i = 0; i < want.size(); ++i) {
    expect_bitwise_equal(text("result ", i), got[i], want[i]);
  }
}

Weight weight(const at::Tensor& w, bool copied) {
  return {w, copied ? WorkingCopy(w) : WorkingCopy()};
}

TEST(ProductsOfWorkingCopies, HaveTheBitsOfThoseOfMasters) {
  expect_the_same_bits(
      [](bool copies, const auto& in) {
        return at::cat(project_each(in[0], {weight(in[1], copies), weight(in[2], copies)}), -1);
      },
      {activations("x", {2, 5, 7}), master("w", {6, 7}), master("w2", {3, 7})});
  expect_the_same_bits(
      [](bool copies, const auto& in) { return grouped_project(in[0], weight(in[1], copies)); },
      {activations("x", {5, 2, 7}), master("w", {6, 7})});
  // float32 activations read the master whole.
  expect_the_same_bits(
      [](bool copies, const auto& in) { return project(in[0], weight(in[1], copies)); },
      {master("x", {4, 7}), master("w", {6, 7})});
}

ExpertWeights stack(const at::Tensor& w, bool copied) {
  return {w, copied ? WorkingCopy(w) : WorkingCopy()};
}

constexpr int64_t kTokens = 9, kExperts = 4, kWidth = 8, kInner = 6, kRank = 2;

// x, weights, w1, w2, w3; A of w1 and w3, B of each, A and B of w2.
std::vector<at::Tensor> inputs_of_experts() {
  return {activations("x", {kTokens, kWidth}),
          on_device("weights", {kTokens, 2}, at::kFloat).abs(),
          master("w1", {kExperts, kInner, kWidth}),
          master("w2", {kExperts, kWidth, kInner}),
          master("w3", {kExperts, kInner, kWidth}),
          master("a13", {kExperts, kRank, kWidth}),
          master("b1", {kExperts, kInner, kRank}),
          master("b3", {kExperts, kInner, kRank}),
          master("a2", {kExperts, kRank, kInner}),
          master("b2", {kExperts, kWidth, kRank})};
}

at::Tensor experts_of(const std::vector<at::Tensor>& in, bool copies) {
  const auto first_T = at::arange(kTokens, in[0].options().dtype(at::kLong)).remainder(kExperts);
  const auto chosen_TK = at::stack({first_T, (first_T + 1).remainder(kExperts)}, 1);
  const auto of = [&](std::size_t i) { return stack(in[i], copies); };
  return routed_experts(in[0],
                        chosen_TK,
                        in[1],
                        of(2),
                        of(3),
                        of(4),
                        /*limit=*/4,
                        {of(5), of(6), of(7), of(8), of(9), 0.5, 0.75});
}

TEST(ProductsOfWorkingCopies, OfExpertsAndTheirAdaptersHaveTheBitsOfThoseOfMasters) {
  const auto operation = [](bool copies, const auto& in) { return experts_of(in, copies); };
  expect_the_same_bits(operation, inputs_of_experts());
  const testing::KernelsOnHost kernels;
  expect_the_same_bits(operation, inputs_of_experts());
}

int64_t casts_of(const std::function<void()>& f) {
  const auto use = testing::strict_device_use(f);
  const auto found = use.operations.find("copy");
  return found == use.operations.end() ? 0 : found->second;
}

TEST(ProductsOfWorkingCopies, RoundAMasterOnceForAllPasses) {
  const auto x = activations("x", {4, 7}), w = master("w", {6, 7});
  const auto casts_of_passes = [&](int passes, bool copied) {
    const auto both = weight(w, copied);
    return casts_of([&] {
      for (int i = 0; i < passes; ++i) {
        project(x, both).sum().backward();
      }
    });
  };
  const auto others = casts_of_passes(2, true) - casts_of_passes(1, true);  // of a pass
  EXPECT_EQ(casts_of_passes(1, true), 1 + others);
  EXPECT_EQ(casts_of_passes(5, true), 1 + 5 * others);
  EXPECT_EQ(casts_of_passes(5, false), 5 * (2 + others));  // forward and backward
}

// ---- Changes of the master ----

struct Writer {
  const char* name;
  std::function<void(const at::Tensor& w)> write;
};

std::vector<Writer> writers() {
  const auto adamw = [](const at::Tensor& w) {
    const auto flat = w.view(-1).slice(0, 4, 20);  // what a rank owns of it
    const auto state = at::zeros_like(flat), squares = at::zeros_like(flat);
    update_by_adamw({{flat, at::ones_like(flat), state, squares, {1, 0.1}}}, {0.9, 0.99, 1e-8});
  };
  const auto muon = [](const at::Tensor& w) {
    const auto matrices = w.unsqueeze(0);
    update_by_muon({{matrices, at::ones_like(matrices), at::zeros_like(matrices), 0.1, 0.1}},
                   {.momentum = 0.9, .update_rms = 0.2, .newton_schulz = {}});
  };
  return {{"AdamW", adamw},
          {"Muon", muon},
          {"a copy, as loading and ranks make",
           [](const at::Tensor& w) { w.view(-1).slice(0, 3, 5).copy_(at::full({2}, 5.0f)); }},
          {"a row in place", [](const at::Tensor& w) { w.select(0, 1).mul_(3); }},
          {"an out argument", [](const at::Tensor& w) {
             auto out = w;
             at::mul_out(out, w, w);
           }}};
}

TEST(WorkingCopy, SeesEveryWriter) {
  const auto expect_seen = [](const Writer& writer) {
    SCOPED_TRACE(writer.name);
    const auto w = master("w", {6, 7});
    const WorkingCopy copy(w);
    const auto before = read(copy, w).clone();
    writer.write(w.detach());
    const auto after = read(copy, w);
    EXPECT_FALSE(after.equal(before));
    expect_bitwise_equal("copy", after.cpu(), w.detach().cpu().to(at::kBFloat16));
  };
  for (const auto& writer : writers()) {
    expect_seen(writer);
    const testing::KernelsOnHost kernels;
    expect_seen(writer);
  }
}

TEST(WorkingCopy, IsNeverMultipliedByInABackwardPassWithOtherValuesThanForward) {
  const auto x = activations("x", {4, 7}), w = master("w", {6, 7});
  const auto both = weight(w, true);
  const auto change = [&] { writers()[0].write(w.detach()); };
  const testing::KernelsOnHost kernels;
  auto y = project(x, both);
  change();
  EXPECT_THROW(y.sum().backward(), c10::Error);
  auto in = inputs_of_experts();
  const auto experts = [&in](const ExpertWeights& w1) {
    const auto chosen_TK = at::zeros({kTokens, 1}, in[0].options().dtype(at::kLong));
    return routed_experts(
        in[0], chosen_TK, in[1].narrow(1, 0, 1), w1, stack(in[3], true), stack(in[4], true), 4);
  };
  const auto w1 = stack(in[2], true);
  y = experts(w1);
  in[2].detach().mul_(2);
  experts(w1);  // makes the copy anew
  EXPECT_THROW(y.sum().backward(), c10::Error);
}

}  // namespace
}  // namespace braid
