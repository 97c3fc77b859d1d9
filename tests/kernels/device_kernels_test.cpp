// What check_op does not see of the kernels in kernels/cuda, run by the CPU in place of a GPU.
#include <cmath>
#include <limits>

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "core/error.h"
#include "kernels/attention.h"
#include "kernels/codec.h"
#include "kernels/cuda/kernels.h"
#include "kernels/device.h"
#include "kernels/experts.h"
#include "kernels/precision.h"
#include "kernels/rms_norm.h"
#include "kernels/routing.h"
#include "kernels/swiglu.h"
#include "kernels/update.h"
#include "kernels/weight.h"
#include "tests/kernels/check_op.h"
#include "tests/support/compare.h"
#include "tests/support/kernels_on_host.h"
#include "tests/support/normal_tensor.h"
#include "tests/support/strict_device.h"

namespace braid {
namespace {

using testing::expect_close;
using testing::KernelsOnHost;
using testing::normal_tensor;
using testing::strict_device;

constexpr std::uint64_t kOrders[] = {0, 1, 2};  // of threads

at::Tensor on_device(const char* name, at::IntArrayRef shape, at::ScalarType type = at::kFloat) {
  return normal_tensor(name, shape, type).to(strict_device());
}

TEST(DeviceKernels, RunForTheTypesOfTheTableWhileItIsRegistered) {
  for (const auto& [type, expected] :
       {std::pair{at::kFloat, 1}, {at::kBFloat16, 1}, {at::kDouble, 0}}) {
    const KernelsOnHost kernels;
    rms_norm(on_device("x", {2, 8}, type), {}, 1e-6);
    EXPECT_EQ(kernels.launches(), expected) << type;
  }
  EXPECT_EQ(device_kernels(strict_device().type()).table, nullptr);
  const auto use = testing::strict_device_use([] { rms_norm(on_device("x", {2, 8}), {}, 1e-6); });
  EXPECT_GT(use.operations.at("aten::rsqrt"), 0);  // the twin's
}

TEST(DeviceKernels, AreNotThoseOfTheCpuNorWithoutAStream) {
  EXPECT_NE(testing::error_of([] { register_device_kernels(c10::kCPU, {}); }), "");
  EXPECT_NE(testing::error_of([] {
              register_device_kernels(strict_device().type(),
                                      {.current_stream = [](c10::Device) -> void* { return {}; }});
            }),
            "");
}

TEST(DeviceKernels, LeaveRowsThatAreTooWideToTheTwin) {
  const KernelsOnHost kernels;
  const auto x = on_device("x", {1, 8200});
  expect_close(
      "y", rms_norm(x, {}, 1e-6), rms_norm_reference(x.cpu(), {}, 1e-6), {.relative = 1e-6});
  EXPECT_EQ(kernels.launches(), 0);
}

TEST(DeviceKernels, OfSwigluWeighRows) {
  const auto gate = 8 * normal_tensor("gate", {5, 24}, at::kFloat),
             up = 8 * normal_tensor("up", {5, 24}, at::kFloat),
             dh = normal_tensor("dh", {5, 24}, at::kFloat),
             weight = normal_tensor("weight", {5}, at::kFloat);
  const auto want = swiglu_rows(gate, up, weight, 10);
  const auto want_back = swiglu_rows_backward(gate, up, weight, dh, 10);
  for (const auto order : kOrders) {
    const KernelsOnHost kernels(order);
    const auto to = [](const at::Tensor& x) { return x.to(strict_device()); };
    const auto got = swiglu_rows(to(gate), to(up), to(weight), 10);
    const auto back = swiglu_rows_backward(to(gate), to(up), to(weight), to(dh), 10);
    expect_close("h", got, want, {.relative = 1e-6});
    expect_close("dgate", back.dgate, want_back.dgate, {.relative = 1e-6});
    expect_close("dup", back.dup, want_back.dup, {.relative = 1e-6});
    expect_close("dweight", back.dweight, want_back.dweight, {.relative = 1e-6});
    EXPECT_EQ(kernels.launches(), 2);
  }
}

TEST(DeviceKernels, OfRoutingTakeTheLowerOfEqualExpertsAndChooseAmongNan) {
  const auto expect_experts = [](const at::Tensor& logits, std::vector<int64_t> experts) {
    const auto E = logits.size(1);
    const ExpertChoice choice{.picks = 3, .bias_E = at::zeros({E}, at::kFloat).to(strict_device())};
    const auto routing = route(logits.to(strict_device()), choice, 1);
    EXPECT_TRUE(routing.experts_TK.cpu().flatten().equal(at::tensor(experts, at::kLong)))
        << routing.experts_TK.cpu();
  };
  for (const auto order : kOrders) {
    const KernelsOnHost kernels(order);
    for (const int64_t E : {4, 70}) {
      const auto zeros = at::zeros({1, E}, at::kFloat);
      expect_experts(zeros, {0, 1, 2});
      expect_experts(zeros.clone().index_fill_(1, at::tensor({3, 1}, at::kLong), 1.0), {1, 3, 0});
      expect_experts(at::full_like(zeros, std::nan("")), {0, 1, 2});
      expect_experts(zeros.clone().index_fill_(1, at::tensor({0}, at::kLong), std::nan("")),
                     {1, 2, 3});
    }
    EXPECT_GT(kernels.launches(), 0);
  }
}

// Seven queries of three heads, of which a chunk takes fewer.
TEST(DeviceKernels, OfAttentionAddToTheKeysChunkByChunk) {
  const int64_t B = 2, S = 7, N = 3, H = 8, U = 9, C = 4;
  const auto wide = at::TensorOptions(strict_device()).dtype(at::kFloat);
  const auto q = on_device("q", {B, S, N, H}), kv = on_device("kv", {B, U, H}),
             compressed = on_device("compressed", {B, C, H}), sink = on_device("sink", {N}),
             dout = on_device("dout", {B, S, N, H});
  const auto end = at::arange(U - S + 1, U + 1, at::kLong).expand({B, S}).contiguous(),
             first = (end - 4).clamp_min(0), none = at::zeros({B, S}, at::kLong),
             seen = end.div(2, "floor").clamp_max(C);
  const auto moved = [](const at::Tensor& ids) { return ids.to(strict_device()); };
  const auto window_first = moved(first), window_end = moved(end), entry_first = moved(none),
             entry_end = moved(seen);
  const auto ids = [](const at::Tensor& t) {
    return static_cast<const int64_t*>(t.const_data_ptr());
  };
  const auto bytes = [](const at::Tensor& t) {
    return static_cast<uint8_t*>(t.mutable_data_ptr());
  };
  const auto floats = [](const at::Tensor& t) { return static_cast<float*>(t.mutable_data_ptr()); };
  const auto gradients_of = [&](int64_t queries) {
    const AttentionProblem<float> problem{{ids(window_first),
                                           ids(window_end),
                                           ids(entry_first),
                                           ids(entry_end),
                                           nullptr,
                                           B,
                                           S,
                                           N,
                                           U,
                                           C,
                                           0},
                                          bytes(q),
                                          bytes(kv),
                                          bytes(compressed),
                                          floats(sink),
                                          H,
                                          0.5,
                                          false};
    const int64_t slots = 4 + C;
    const auto o = at::empty_like(q), dq = at::empty_like(q), log_sum = at::empty({B, S, N}, wide),
               mean = at::empty_like(log_sum), added = at::empty({queries, slots, H}, wide),
               dkv = at::zeros_like(kv), dcompressed = at::zeros_like(compressed),
               dsink = at::zeros_like(sink);
    const auto& kernels = cuda_kernel_table().float32;
    kernels.attention_forward(problem, {bytes(o), floats(log_sum)}, nullptr);
    kernels.attention_backward(
        problem,
        {bytes(o), floats(log_sum)},
        {bytes(dout), bytes(dq), floats(dkv), floats(dcompressed), floats(dsink)},
        {floats(mean), floats(added), queries, slots},
        nullptr);
    return std::vector{dq, dkv, dcompressed, dsink};
  };
  const KernelsOnHost kernels;
  const auto want = gradients_of(B * S);
  for (const int64_t queries : {1, 3, 13}) {
    const auto got = gradients_of(queries);
    for (std::size_t i = 0; i < want.size(); ++i) {
      EXPECT_GT(want[i].abs().max().item<float>(), 0);
      expect_close(text(queries, " at a time, result ", i), got[i], want[i], {.relative = 1e-6});
    }
  }
}

// What a query's gradients of keys need is known without waiting for the device.
TEST(DeviceKernels, OfAttentionWaitForNothing) {
  const KernelsOnHost kernels;
  const auto q = on_device("q", {1, 3, 2, 8}).requires_grad_(true),
             kv = on_device("kv", {1, 4, 8}).requires_grad_(true),
             compressed = on_device("compressed", {1, 2, 8}).requires_grad_(true),
             sink = on_device("sink", {2}).requires_grad_(true);
  const auto end = at::arange(2, 5, at::kLong).view({1, 3}).to(strict_device());
  const KeyRange window{end - 2, end, 2}, range{at::zeros_like(end), end - 2};
  const auto use = testing::strict_device_use([&] {
    attention(q, kv, compressed, sink, window, {range, {}}, 1).sum().backward();
  });
  EXPECT_EQ(use.number_of_waits(), 0);
  EXPECT_EQ(kernels.launches(), 5);
}

// Seven queries of two sequences, of which a chunk takes fewer.
TEST(DeviceKernels, OfTheIndexersLossAddToTheKeysChunkByChunk) {
  const int64_t B = 2, S = 7, N = 3, H = 8, U = 9, C = 4, I = 2, h = 6;
  const auto q = on_device("q", {B, S, N, H}), kv = on_device("kv", {B, U, H}),
             compressed = on_device("compressed", {B, C, H}), sink = on_device("sink", {N}),
             index_q = on_device("index q", {B, S, I, h}), keys = on_device("keys", {B, C, h}),
             weight = on_device("weight", {B, S, I});
  const auto end = at::arange(U - S + 1, U + 1, at::kLong).expand({B, S}).contiguous();
  const auto moved = [](const at::Tensor& ids) { return ids.to(strict_device()); };
  const auto window_first = moved((end - 4).clamp_min(0)), window_end = moved(end),
             entry_first = moved(at::zeros_like(end)),
             entry_end = moved(end.div(2, "floor").clamp_max(C));
  const auto ids = [](const at::Tensor& t) {
    return static_cast<const int64_t*>(t.const_data_ptr());
  };
  const auto bytes = [](const at::Tensor& t) {
    return static_cast<const uint8_t*>(t.const_data_ptr());
  };
  const auto floats = [](const at::Tensor& t) { return static_cast<float*>(t.mutable_data_ptr()); };
  const auto memory = [](at::IntArrayRef shape) {
    return at::zeros(shape, at::TensorOptions(strict_device()).dtype(at::kFloat));
  };
  const auto results_of = [&](int64_t queries) {
    const IndexerKlArguments<float> arguments{{{ids(window_first),
                                                ids(window_end),
                                                ids(entry_first),
                                                ids(entry_end),
                                                nullptr,
                                                B,
                                                S,
                                                N,
                                                U,
                                                C,
                                                0},
                                               bytes(q),
                                               bytes(kv),
                                               bytes(compressed),
                                               floats(sink),
                                               H,
                                               0.5,
                                               false},
                                              floats(index_q),
                                              floats(keys),
                                              floats(weight),
                                              I,
                                              h,
                                              1};
    const auto kl = memory({B, S}), recall = memory({B, S}), dq = memory({B, S, I, h}),
               dweight = memory({B, S, I}), dkeys = memory({B, C, h});
    const auto log_sums = memory({queries, N}), shares = memory({queries, C}),
               scores = memory({queries, C}), added = memory({queries, C, h});
    cuda_kernel_table().float32.indexer_kl(
        arguments,
        {floats(kl), floats(recall), floats(dq), floats(dweight), floats(dkeys)},
        {floats(log_sums), floats(shares), floats(scores), floats(added), queries, C},
        nullptr);
    return std::vector{kl, recall, dq, dweight, dkeys};
  };
  const KernelsOnHost kernels;
  const auto want = results_of(B * S);
  for (const int64_t queries : {1, 3, 13}) {
    const auto got = results_of(queries);
    for (std::size_t i = 0; i < want.size(); ++i) {
      EXPECT_GT(want[i].abs().max().item<float>(), 0);
      expect_close(text(queries, " at a time, result ", i), got[i], want[i], {.relative = 1e-6});
    }
  }
}

// Several tiles of rows, columns and steps, none of them whole; rows that begin within a matrix;
// sums that are added to others.
TEST(DeviceKernels, OfFp4ProductsAreThoseOfTheDecodedMatrices) {
  struct Case {
    int64_t matrices, O, I, most_rows, first_row;
    bool by_columns, accumulate;
  };
  for (const auto& c : {Case{1, 136, 96, 140, 0, false, false},
                        {1, 136, 160, 140, 0, true, false},
                        {3, 32, 64, 20, 32, false, true},
                        {3, 32, 64, 20, 32, true, true}}) {
    std::vector<Codes> codes;
    std::vector<at::Tensor> a, before, want;
    for (int64_t i = 0; i < c.matrices; ++i) {
      const auto name = [&](const char* what) { return text(what, i); };
      codes.push_back(encode_fp4(normal_tensor(name("w"), {c.O + c.first_row, c.I}, at::kFloat)));
      const int64_t rows = i % c.most_rows + (c.matrices == 1 ? c.most_rows : 0);
      a.push_back(normal_tensor(name("a"), {rows, c.by_columns ? c.O : c.I}, at::kBFloat16));
      before.push_back(normal_tensor(name("out"), {rows, c.by_columns ? c.I : c.O}, at::kBFloat16));
      const auto w = decode(codes.back(), at::kDouble).narrow(0, c.first_row, c.O);
      want.push_back(a.back().to(at::kDouble).mm(c.by_columns ? w : w.t()));
      if (c.accumulate) {
        want.back() += before.back();
      }
    }
    std::vector<at::Tensor> first;
    for (const auto& [order, capability] :
         {std::pair{0, 9}, {1, 9}, {2, 9}, {0, 8}, {1, 8}, {2, 8}}) {
      const KernelsOnHost kernels(order, capability);
      std::vector<QuantizedMatrixProduct> products;
      for (std::size_t i = 0; i < codes.size(); ++i) {
        const auto to = [](const at::Tensor& x) { return x.to(strict_device()); };
        products.push_back({to(a[i]),
                            Weight(to(codes[i].values), to(codes[i].scales)),
                            to(before[i]),
                            c.first_row,
                            c.by_columns});
      }
      multiply_each_quantized(products, c.accumulate);
      EXPECT_EQ(kernels.launches(), c.matrices - (c.matrices > 1));  // the first has no rows
      for (std::size_t i = 0; i < products.size(); ++i) {
        const auto& got = products[i].out;
        expect_close(text(c.O, " x ", c.I, ", product ", i), got, want[i], {.relative = 1.0 / 256});
        if (order == 0) {
          first.resize(products.size());
          first[i] = got;
        } else {
          testing::expect_bitwise_equal(text("order ", order), got, first[i]);
        }
      }
    }
  }
}

// FP8 matrices, and FP4 ones beside float32 rows, are decoded.
TEST(DeviceKernels, OfOtherProductsWithCodesDecodeThem) {
  const auto w = normal_tensor("w", {64, 96}, at::kFloat);
  for (const auto& codes : {encode_fp8(w, at::kFloat), encode_fp4(w)}) {
    const KernelsOnHost kernels;
    const auto x = normal_tensor("x", {5, 96}, at::kFloat).to(strict_device());
    const Weight weight(codes.values.to(strict_device()), codes.scales.to(strict_device()));
    expect_close("product", project(x, weight), x.cpu().mm(decode(codes).t()), {.relative = 1e-6});
    EXPECT_EQ(kernels.launches(), 1);
  }
}

// The experts' passes with codes, forward and backward, by the kernels for rows and products.
TEST(DeviceKernels, OfExpertsWithFp4CodesAreThoseOfTheDecodedMatrices) {
  const int64_t T = 9, E = 5, K = 2, D = 64, F = 32;
  const auto x = normal_tensor("x", {T, D}, at::kBFloat16),
             weights = normal_tensor("weights", {T, K}, at::kFloat).abs();
  const auto experts = (at::arange(T * K, at::kLong) % 4).view({T, K});
  const auto w = [&](const char* name, int64_t O, int64_t I, at::Device device, bool decoded) {
    std::vector<Weight> each;
    for (int64_t e = 0; e < E; ++e) {
      const auto codes = encode_fp4(normal_tensor(text(name, e), {O, I}, at::kFloat) / 8);
      each.push_back(decoded ? Weight(decode(codes, at::kDouble))
                             : Weight(codes.values.to(device), codes.scales.to(device)));
    }
    if (!decoded) {
      return ExpertWeights(each);
    }
    std::vector<at::Tensor> values;
    for (const auto& matrix : each) {
      values.push_back(matrix.values);
    }
    return ExpertWeights(at::stack(values));
  };
  const auto run = [&](at::Device device, bool decoded) {
    const auto type = decoded ? at::kDouble : at::kBFloat16;
    const auto of_x = x.to(type).to(device).requires_grad_(true),
               of_weights = weights.to(wide_type(type)).to(device).requires_grad_(true);
    const auto y = routed_experts(of_x,
                                  experts.to(device),
                                  of_weights,
                                  w("w1", F, D, device, decoded),
                                  w("w2", D, F, device, decoded),
                                  w("w3", F, D, device, decoded),
                                  4);
    (y * normal_tensor("dy", {T, D}).to(y.scalar_type()).to(device)).sum().backward();
    return std::vector{y.detach(), of_x.grad(), of_weights.grad()};
  };
  const auto want = run(at::kCPU, true);
  const KernelsOnHost kernels;
  const auto got = run(strict_device(), false);
  for (std::size_t i = 0; i < want.size(); ++i) {
    expect_close(text("result ", i), got[i], want[i], {.relative = 1.0 / 64});
  }
  // Order, rows and SwiGLU as always; the three stacks of matrices, and the same back.
  EXPECT_EQ(kernels.launches(), 9 + 3 + 3);
}

TEST(DeviceKernels, OfSquaredNormAddInOneOrder) {
  const auto x = normal_tensor("x", {300'001}, at::kFloat);
  const double want = x.to(at::kDouble).square().sum().item<double>();
  std::vector<double> sums;
  for (const auto order : kOrders) {
    const KernelsOnHost kernels(order);
    sums.push_back(squared_norm(x.to(strict_device())));
    EXPECT_EQ(kernels.launches(), 2);
    EXPECT_EQ(squared_norm(at::zeros({0}, at::kFloat).to(strict_device())), 0);
  }
  EXPECT_NEAR(sums[0] / want, 1, 1e-13);
  EXPECT_EQ(sums[1], sums[0]);
  EXPECT_EQ(sums[2], sums[0]);
}

// More tensors than a launch takes, of sizes from none to several blocks.
// More tensors than a launch takes; each has the sum that it has alone.
TEST(DeviceKernels, OfSquaredNormsAreThoseOfEachTensorManyInALaunch) {
  std::vector<at::Tensor> tensors;
  for (int64_t i = 0; i <= SquaredNorms::kMost; ++i) {
    tensors.push_back(on_device("x", {i == 5 ? 70'001 : 11 * i}));
  }
  const KernelsOnHost kernels;
  const auto sums = squared_norms(tensors);
  EXPECT_EQ(kernels.launches(), 4);
  for (std::size_t i = 0; i < tensors.size(); ++i) {
    const double want = tensors[i].cpu().to(at::kDouble).square().sum().item<double>();
    EXPECT_NEAR(sums[i], want, 1e-12 * want);
    EXPECT_EQ(sums[i], squared_norm(tensors[i]));
  }
}

TEST(DeviceKernels, OfAdamWStepAsTheTwinManyTensorsInALaunch) {
  const AdamWMoments moments{.beta1 = 0.9, .beta2 = 0.95, .epsilon = 1e-8};
  const auto given = [](at::Device device) {
    std::vector<AdamWTensors> each;
    for (int64_t i = 0; i <= AdamWBatch::kMost; ++i) {
      const auto named = [&](const char* name) {
        return normal_tensor(text(name, i), {i, 51}, at::kFloat).to(device);
      };
      each.push_back(
          {named("value"),
           named("gradient"),
           named("exp_avg"),
           named("exp_avg_sq").square_(),
           {.step = 1 + i, .learning_rate = 0.1, .weight_decay = 0.2, .gradient_scale = 0.5}});
    }
    return each;
  };
  const auto want = given(at::kCPU);
  update_by_adamw_reference(want, moments);
  for (const auto order : kOrders) {
    const KernelsOnHost kernels(order);
    const auto got = given(strict_device());
    update_by_adamw(got, moments);
    EXPECT_EQ(kernels.launches(), 1);  // the last tensor, alone in a second one, has no element
    for (std::size_t i = 0; i < want.size(); ++i) {
      const auto expect_same = [&](const char* what, const at::Tensor& a, const at::Tensor& b) {
        expect_close(text(what, " of tensor ", i), a, b, {.relative = 1e-6});
      };
      expect_same("value", got[i].value, want[i].value);
      expect_same("exp_avg", got[i].exp_avg, want[i].exp_avg);
      expect_same("exp_avg_sq", got[i].exp_avg_sq, want[i].exp_avg_sq);
    }
  }
}

// Stacks of one shape together: the iterations of all of them take the launches of one.
TEST(DeviceKernels, OfMuonOrthogonalizeAllStacksTogether) {
  const MuonUpdate update{.momentum = 0.9,
                          .update_rms = 0.2,
                          .gradient_scale = 0.5,
                          .newton_schulz = {.bfloat16_products = true}};
  const auto given = [](at::Device device, int64_t stacks) {
    std::vector<MuonStack> each;
    for (int64_t i = 0; i < stacks; ++i) {
      const auto named = [&](const char* name) {
        return normal_tensor(text(name, i), {1 + i, 16, 24}, at::kFloat).to(device);
      };
      each.push_back({named("value"), named("gradient"), named("momentum"), 0.1 * (1 + i), 0.1});
    }
    return each;
  };
  const auto want = given(at::kCPU, 3);
  for (const auto& stack : want) {
    update_by_muon_reference(stack, update);
  }
  int64_t of_one = 0;
  for (const int64_t stacks : {1, 3}) {
    const KernelsOnHost kernels;
    const auto got = given(strict_device(), stacks);
    update_by_muon(got, update);
    of_one = stacks == 1 ? kernels.launches() : of_one;
    EXPECT_GT(kernels.launches(), 10);
    EXPECT_EQ(kernels.launches(), of_one);
    for (std::size_t i = 0; i < got.size(); ++i) {
      expect_close(text("value ", i), got[i].value_Brc, want[i].value_Brc, {.relative = 0.01});
      expect_close(
          text("momentum ", i), got[i].momentum_Brc, want[i].momentum_Brc, {.relative = 1e-6});
    }
  }
}

}  // namespace
}  // namespace braid
