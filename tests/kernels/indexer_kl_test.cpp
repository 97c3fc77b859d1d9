#include "kernels/indexer_kl.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <gtest/gtest.h>

#include "core/error.h"
#include "kernels/index_topk.h"
#include "tests/kernels/check_op.h"
#include "tests/support/compare.h"
#include "tests/support/devices.h"
#include "tests/support/kernels_on_host.h"
#include "tests/support/normal_tensor.h"
#include "tests/support/strict_device.h"

namespace braid {
namespace {

using testing::check_op;
using testing::expect_close;
using testing::normal_tensor;
using testing::wide;

struct KlCase {
  const char* name;
  int64_t B, S, I, h, N, H, C, window;
};

std::vector<KlCase> cases() {
  return {{"one token", 1, 1, 1, 1, 1, 1, 1, 1},
          {"no entries", 1, 5, 2, 3, 2, 4, 0, 3},
          {"two sequences", 2, 21, 4, 6, 3, 5, 9, 4},
          {"blocks of keys", 1, 9, 4, 8, 8, 4, 300, 270},
          {"many heads", 1, 9, 3, 5, 40, 4, 17, 4}};
}

// Of values that all types have.
AttentionTeacher teacher_of(const KlCase& c) {
  const auto named = [&](const char* what, std::vector<int64_t> shape) {
    return normal_tensor(text(c.name, " ", what), shape).to(at::kBFloat16).to(at::kDouble);
  };
  const int64_t U = c.S + c.window;
  const auto end = at::arange(c.window + 1, U + 1, at::kLong).expand({c.B, c.S});
  return {named("attention q", {c.B, c.S, c.N, c.H}),
          named("kv", {c.B, U, c.H}),
          named("compressed", {c.B, c.C, c.H}),
          named("sink", {c.N}),
          {end - c.window, end},
          0.7};
}

// Two documents; the first queries of each see nothing.
SeenEntries range_of(const KlCase& c) {
  const auto step = at::arange(c.S, at::kLong);
  const auto second = (step >= c.S / 2).to(at::kLong) * (c.C / 3);
  const auto end = second + ((step % (c.S / 2 + 1)) * c.C).div(c.S, "floor");
  return {{second.expand({c.B, c.S}), end.clamp_max(c.C).expand({c.B, c.S})}, {}};
}

SeenEntries lists_of(const KlCase& c) {
  return entries_of(normal_tensor(text(c.name, " visible"), {c.B, c.S, c.C}) > 0.4);
}

std::vector<testing::OpInput> inputs(const KlCase& c) {
  const auto named = [&](const char* what, std::vector<int64_t> shape) {
    return normal_tensor(text(c.name, " ", what), shape);
  };
  return {{named("q", {c.B, c.S, c.I, c.h})},
          {named("keys", {c.B, c.C, c.h})},
          wide(named("weight", {c.B, c.S, c.I}))};
}

IndexParts parts(const std::vector<at::Tensor>& in) {
  return {in[0], in[1], in[2]};
}

AttentionTeacher on(at::Device device, const AttentionTeacher& teacher) {
  return {teacher.q_BSNH.to(device),
          teacher.kv_BUH.to(device),
          teacher.compressed_BCH.to(device),
          teacher.sink_N.to(device),
          teacher.window.to(device),
          teacher.scale};
}

testing::Op bound(decltype(indexer_kl)* f, const AttentionTeacher& teacher, SeenEntries seen) {
  return [=](const auto& in) {
    const auto device = in[0].device();
    auto of_type = on(device, teacher);
    for (auto* t : {&of_type.q_BSNH, &of_type.kv_BUH, &of_type.compressed_BCH}) {
      *t = t->to(in[0].scalar_type());
    }
    return f(parts(in), of_type, seen.to(device), 0).kl_sum;
  };
}

TEST(IndexerKl, AndItsGradientsEqualTheReference) {
  for (const auto& c : cases()) {
    const auto no_lists = entries_of(at::zeros({c.B, c.S, c.C}, at::kBool));
    for (const auto& seen : {range_of(c), lists_of(c), no_lists}) {
      check_op(text("indexer KL ", c.name, seen.chosen_BSK.defined() ? " lists" : " range"),
               {.fused = bound(indexer_kl, teacher_of(c), seen),
                .reference = bound(indexer_kl_reference, teacher_of(c), seen),
                .inputs = inputs(c),
                .float32 = 5e-6});  // gradients are differences of probabilities
    }
  }
}

// What a loss and its backward pass give: sums, and gradients of queries, keys and weights.
std::vector<at::Tensor> results_of(decltype(indexer_kl)* f,
                                   const std::vector<at::Tensor>& index,
                                   const AttentionTeacher& teacher,
                                   const SeenEntries& seen,
                                   int64_t recalled) {
  std::vector<at::Tensor> in;
  for (const auto& tensor : index) {
    in.push_back(tensor.detach().requires_grad_(true));
  }
  const auto loss = f(parts(in), teacher, seen, recalled);
  (0.5 * loss.kl_sum).backward();
  return {loss.kl_sum.detach(), loss.recall_sum, in[0].grad(), in[1].grad(), in[2].grad()};
}

// More heads than a tile has, of the attention and of the index; tiles of keys that are full and
// broken; rows of whole pieces, narrow and wide, and of others.
TEST(IndexerKl, OfADevicesKernelsEqualsTheReference) {
  for (const auto& c : {KlCase{"whole", 1, 5, 70, 16, 70, 24, 150, 70},
                        {"wide", 1, 4, 3, 8, 5, 136, 70, 20},
                        {"all channels", 1, 2, 64, 128, 64, 512, 90, 30},
                        {"broken", 2, 5, 10, 7, 9, 6, 40, 33}}) {
    for (const auto type : {at::kFloat, at::kBFloat16}) {
      const auto narrow = [type](const at::Tensor& t) { return t.to(type); };
      const auto of_double = [](const at::Tensor& t) { return t.to(at::kDouble); };
      auto teacher = teacher_of(c);
      teacher.q_BSNH = narrow(teacher.q_BSNH);
      teacher.kv_BUH = narrow(teacher.kv_BUH);
      teacher.compressed_BCH = narrow(teacher.compressed_BCH);
      teacher.sink_N = teacher.sink_N.to(at::kFloat);
      const std::vector<at::Tensor> index = {narrow(inputs(c)[0].value),
                                             narrow(inputs(c)[1].value),
                                             inputs(c)[2].value.to(at::kFloat)};
      const AttentionTeacher exact_teacher{of_double(teacher.q_BSNH),
                                           of_double(teacher.kv_BUH),
                                           of_double(teacher.compressed_BCH),
                                           of_double(teacher.sink_N),
                                           teacher.window,
                                           teacher.scale};
      for (const auto& seen : {range_of(c), lists_of(c)}) {
        const auto name =
            text(c.name, " in ", type, seen.chosen_BSK.defined() ? ", lists" : ", range");
        const auto want =
            results_of(indexer_kl_reference,
                       {of_double(index[0]), of_double(index[1]), of_double(index[2])},
                       exact_teacher,
                       seen,
                       3);
        const auto device = testing::strict_device();
        // Threads in an order, on Hopper or on a chip before it, whose products are others.
        const auto checked = [&](std::uint64_t order, int chip) {
          const testing::KernelsOnHost kernels(order, chip);
          const auto got =
              results_of(indexer_kl,
                         {index[0].to(device), index[1].to(device), index[2].to(device)},
                         on(device, teacher),
                         seen.to(device),
                         3);
          EXPECT_EQ(kernels.launches(), 5);
          for (std::size_t i = 0; i < want.size(); ++i) {
            const bool is_rounded = type == at::kBFloat16 && i >= 2;
            expect_close(text(name, ", result ", i, ", order ", order, ", chip ", chip),
                         got[i],
                         want[i],
                         {.relative = is_rounded ? 1.0 / 256 : 5e-6});
          }
          return got;
        };
        const auto first = checked(0, 9);
        for (const std::uint64_t order : {1, 2}) {
          const auto again = checked(order, 9);
          for (std::size_t i = 0; i < want.size(); ++i) {
            testing::expect_bitwise_equal(
                text(name, ", result ", i, ", order ", order), again[i], first[i]);
          }
        }
        checked(0, 8);
      }
    }
  }
}

TEST(IndexerKl, LeavesTheTeacherWithoutGradient) {
  const auto c = cases()[2];
  auto teacher = teacher_of(c);
  teacher.q_BSNH.requires_grad_(true);
  teacher.sink_N.requires_grad_(true);
  const auto in = inputs(c);
  const auto q = in[0].value.requires_grad_(true);
  indexer_kl({q, in[1].value, in[2].value}, teacher, range_of(c), 0).kl_sum.backward();
  EXPECT_TRUE(q.grad().defined());
  EXPECT_FALSE(teacher.q_BSNH.grad().defined() || teacher.sink_N.grad().defined());
}

// Entries 300 below the window in the exponent: in float32 none of their probabilities exists.
TEST(IndexerKl, IsFiniteAndRightHoweverLittleTheEntriesWeigh) {
  const auto c = cases()[2];
  auto teacher = teacher_of(c);
  teacher.sink_N = teacher.sink_N + 300;
  const auto in = inputs(c);
  const IndexParts index{in[0].value, in[1].value, in[2].value};
  const auto want = indexer_kl_reference(index, teacher_of(c), range_of(c), 0).kl_sum;
  const auto narrow = [](const at::Tensor& t) { return t.to(at::kFloat); };
  const auto exact = indexer_kl_reference(index, teacher, range_of(c), 0).kl_sum;
  const testing::KernelsOnHost kernels;
  for (const auto device : {at::Device(at::kCPU), testing::strict_device()}) {
    const auto got = indexer_kl({narrow(index.q_BSIH).to(device),
                                 narrow(index.keys_BCH).to(device),
                                 narrow(index.weight_BSI).to(device)},
                                on(device, teacher),
                                range_of(c).to(device),
                                0)
                         .kl_sum;
    expect_close(text("KL on ", device), got, exact, {.relative = 1e-4});
  }
  EXPECT_GT(std::abs(exact.item<double>() - want.item<double>()), 1e-3);
}

TEST(IndexerKl, RecallIsTheMassThatTheTopEntriesCatch) {
  for (const auto& c : cases()) {
    for (const int64_t recalled : {1, 3, 100}) {
      std::vector<at::Tensor> in;
      for (const auto& input : inputs(c)) {
        in.push_back(input.value);
      }
      const auto want = indexer_kl_reference(parts(in), teacher_of(c), range_of(c), recalled);
      for (const auto& device : testing::devices()) {
        std::vector<at::Tensor> there;
        for (const auto& tensor : in) {
          there.push_back(tensor.to(device));
        }
        const auto got =
            indexer_kl(parts(there), on(device, teacher_of(c)), range_of(c).to(device), recalled);
        expect_close(text(c.name, ", top ", recalled, " on ", device),
                     got.recall_sum,
                     want.recall_sum,
                     {.absolute = 1e-14, .relative = 1e-13});
      }
    }
  }
}

// One head of attention, one of the index: two queries, of which the first chooses among three
// entries and the second sees a single one.
TEST(IndexerKl, RecallByHand) {
  const auto numbers = [](std::vector<double> values, std::vector<int64_t> shape) {
    return at::tensor(values, at::kDouble).view(shape);
  };
  const AttentionTeacher teacher{at::ones({1, 2, 1, 1}, at::kDouble),
                                 at::zeros({1, 2, 1}, at::kDouble),
                                 numbers({0.5, 0.3, 0.2}, {1, 3, 1}).log(),
                                 at::zeros({1}, at::kDouble),
                                 {at::zeros({1, 2}, at::kLong), at::ones({1, 2}, at::kLong)},
                                 1};
  const SeenEntries seen{{at::zeros({1, 2}, at::kLong), at::tensor({3, 1}, at::kLong).view({1, 2})},
                         {}};
  const IndexParts index{at::ones({1, 2, 1, 1}, at::kDouble),
                         numbers({3, 1, 2}, {1, 3, 1}),
                         at::ones({1, 2, 1}, at::kDouble)};
  for (const auto& f : {indexer_kl, indexer_kl_reference}) {
    const auto result = f(index, teacher, seen, 2);
    expect_close("recall", result.recall_sum, numbers({0.7, 1}, {2}), {.absolute = 1e-15});
    const auto p = numbers({0.5, 0.3, 0.2}, {3}), scores = numbers({3, 1, 2}, {3});
    expect_close(
        "KL", result.kl_sum, (p * (p.log() - scores.log_softmax(0))).sum(), {.absolute = 1e-15});
  }
}

TEST(IndexerKl, DoesNotDependOnTheNumberOfThreads) {
  const KlCase c{"threads", 2, 90, 4, 8, 4, 8, 22, 8};
  const auto results = [&](int threads) {
    at::set_num_threads(threads);
    std::vector<at::Tensor> in;
    for (const auto& input : inputs(c)) {
      in.push_back(input.value.to(at::kFloat).requires_grad_(true));
    }
    const auto loss = indexer_kl(parts(in), teacher_of(c), range_of(c), 2);
    loss.kl_sum.backward();
    return std::vector{
        loss.kl_sum.detach(), loss.recall_sum, in[0].grad(), in[1].grad(), in[2].grad()};
  };
  const auto two = results(2), one = results(1);
  for (std::size_t i = 0; i < one.size(); ++i) {
    testing::expect_bitwise_equal(text("result ", i), two[i], one[i]);
  }
}

TEST(IndexerKl, RefusesWhatDoesNotFit) {
  const auto c = cases()[2];
  const auto in = inputs(c);
  const auto &q = in[0].value, &keys = in[1].value, &weight = in[2].value;
  const auto teacher = teacher_of(c);
  const auto range = range_of(c), lists = lists_of(c);
  const auto refuses =
      [](const IndexParts& index, const AttentionTeacher& attention, const SeenEntries& seen) {
        const auto message = testing::error_of([&] { indexer_kl(index, attention, seen, 0); });
        EXPECT_TRUE(message.starts_with("[indexer_kl] ")) << message;
      };
  refuses({q, keys.narrow(1, 0, 4), weight}, teacher, range);
  refuses({q, keys, weight.narrow(2, 0, 1)}, teacher, range);
  auto other = teacher;
  other.sink_N = teacher.sink_N.narrow(0, 0, 1);
  refuses({q, keys, weight}, other, range);
  other = teacher;
  other.window.end_BS = teacher.window.end_BS + 1;
  refuses({q, keys, weight}, other, range);
  refuses({q, keys, weight}, teacher, {{range.range.first_BS, range.range.end_BS + c.C}, {}});
  refuses({q, keys, weight}, teacher, {range.range, lists.chosen_BSK + c.C});
}

}  // namespace
}  // namespace braid
