#include "kernels/indexer_kl.h"

#include <algorithm>
#include <vector>

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>

#include "core/sizes.h"
#include "kernels/autograd.h"
#include "kernels/indexer_kl_cpu.h"
#include "kernels/precision.h"
#include "kernels/run_kernel.h"

namespace braid {
namespace {

enum IndexerKlInput {
  kIndexQ,
  kIndexKeys,
  kIndexWeight,
  kTeacherQ,
  kTeacherKv,
  kTeacherEntries,
  kTeacherSink,
  kTeacherWindowFirst,
  kTeacherWindowEnd,
  kSeenFirst,
  kSeenEnd,
  kSeenList
};

template <class T>
IndexerKlProblem<T> indexer_kl_problem(const std::vector<at::Tensor>& in,
                                       double scale,
                                       int64_t recalled,
                                       bool in_bf16) {
  const auto values = [&](IndexerKlInput which) { return data<const T>(in[which]); };
  const auto ids = [&](IndexerKlInput which) { return data<const int64_t>(in[which]); };
  const bool lists = in[kSeenList].defined();
  return {values(kIndexQ),
          values(kIndexKeys),
          values(kIndexWeight),
          values(kTeacherQ),
          values(kTeacherKv),
          values(kTeacherEntries),
          values(kTeacherSink),
          ids(kTeacherWindowFirst),
          ids(kTeacherWindowEnd),
          ids(kSeenFirst),
          ids(kSeenEnd),
          ids(kSeenList),
          in[kTeacherQ].size(0),
          in[kTeacherQ].size(1),
          in[kIndexQ].size(2),
          in[kIndexQ].size(3),
          in[kTeacherQ].size(2),
          in[kTeacherQ].size(3),
          in[kTeacherKv].size(1),
          in[kTeacherEntries].size(1),
          lists ? in[kSeenList].size(2) : 0,
          recalled,
          static_cast<T>(scale),
          in_bf16};
}

// What has no gradient.
struct IndexerKlConstants {
  std::vector<at::Tensor> tensors;  // from kTeacherQ on
  double scale;
  int64_t recalled;
  int64_t most;    // entries that a query sees
  bool gradients;  // of the rest are wanted
  bool in_bf16;    // queries and keys were
};

struct IndexerKlSums {
  at::Tensor kl, recall;          // [B, S], terms
  at::Tensor dq, dkeys, dweight;  // undefined where none are wanted
};

// Of `in` with the gradients' memory where they are wanted, dkeys aside.
IndexerKlSums indexer_kl_sums(const std::vector<at::Tensor>& in, bool gradients) {
  const auto& weight = in[kIndexWeight];
  const auto kl = at::empty({weight.size(0), weight.size(1)}, weight.options());
  const auto like = [&](const at::Tensor& t) {
    return gradients ? at::empty_like(t) : at::Tensor();
  };
  return {kl, at::empty_like(kl), like(in[kIndexQ]), {}, like(weight)};
}

IndexerKlSums indexer_kl_on_cpu(const std::vector<at::Tensor>& in,
                                const IndexerKlConstants& constants) {
  auto sums = indexer_kl_sums(in, constants.gradients);
  const auto& keys = in[kIndexKeys];
  const auto parts = constants.gradients
                         ? at::zeros({kIndexerKlParts, keys.numel()}, keys.options())
                         : at::Tensor();
  with_wide_type(keys.scalar_type(), [&](auto zero) {
    using T = decltype(zero);
    indexer_kl_cpu<T>(
        indexer_kl_problem<T>(in, constants.scale, constants.recalled, constants.in_bf16),
        {data<T>(sums.kl),
         data<T>(sums.recall),
         data<T>(sums.dq),
         data<T>(sums.dweight),
         data<T>(parts)});
  });
  if (constants.gradients) {
    sums.dkeys = parts.sum(0).view(keys.sizes());
  }
  return sums;
}

template <class E>
IndexerKlArguments<E> indexer_kl_arguments(const std::vector<at::Tensor>& in,
                                           const IndexerKlConstants& constants) {
  const auto ids = [&](IndexerKlInput which) { return data<const int64_t>(in[which]); };
  const auto bytes = [&](IndexerKlInput which) { return data<const uint8_t>(in[which]); };
  const auto& q = in[kTeacherQ];
  return {{{ids(kTeacherWindowFirst),
            ids(kTeacherWindowEnd),
            ids(kSeenFirst),
            ids(kSeenEnd),
            ids(kSeenList),
            q.size(0),
            q.size(1),
            q.size(2),
            in[kTeacherKv].size(1),
            in[kTeacherEntries].size(1),
            in[kSeenList].defined() ? in[kSeenList].size(2) : 0},
           bytes(kTeacherQ),
           bytes(kTeacherKv),
           bytes(kTeacherEntries),
           data<const float>(in[kTeacherSink]),
           q.size(3),
           static_cast<float>(constants.scale),
           q.scalar_type() == at::kBFloat16},
          data<const E>(in[kIndexQ]),
          data<const E>(in[kIndexKeys]),
          data<const float>(in[kIndexWeight]),
          in[kIndexQ].size(2),
          in[kIndexQ].size(3),
          constants.recalled};
}

template <class E>
IndexerKlSums indexer_kl_on_device(const std::vector<at::Tensor>& in,
                                   const IndexerKlConstants& constants) {
  auto sums = indexer_kl_sums(in, constants.gradients);
  const auto arguments = indexer_kl_arguments<E>(in, constants);
  const auto& keys = arguments.teacher.keys;
  const int64_t slots = constants.most, h = constants.gradients ? arguments.h : 0;
  // For each entry that a query sees there are a share and a score beside the channels.
  const int64_t queries = cuda_attention_queries(keys.B * keys.S, slots, h + 2);
  const auto memory = [&](at::IntArrayRef shape) { return at::empty(shape, sums.kl.options()); };
  const auto log_sums = memory({queries, keys.N}), shares = memory({queries, slots}),
             scores = memory({queries, slots}), added = memory({queries, slots, h});
  if (constants.gradients) {
    sums.dkeys = at::zeros(in[kIndexKeys].sizes(), sums.kl.options());
  }
  const IndexerKlOutputs<E> results{data<float>(sums.kl),
                                    data<float>(sums.recall),
                                    data<E>(sums.dq),
                                    data<float>(sums.dweight),
                                    data<float>(sums.dkeys)};
  const IndexerKlWork work{data<float>(log_sums),
                           data<float>(shares),
                           data<float>(scores),
                           data<float>(added),
                           queries,
                           slots};
  queue_kernel<E>(in[kIndexQ], BRAID_KERNEL(indexer_kl), arguments, results, work);
  return sums;
}

IndexerKlSums indexer_kl_sums_of(const std::vector<at::Tensor>& in,
                                 const IndexerKlConstants& constants) {
  if (in[kIndexQ].is_cpu()) {
    return indexer_kl_on_cpu(in, constants);
  }
  return in[kIndexQ].scalar_type() == at::kBFloat16 ? indexer_kl_on_device<Bfloat16>(in, constants)
                                                    : indexer_kl_on_device<float>(in, constants);
}

class IndexerKlFunction : public Function<IndexerKlFunction> {
 public:
  static variable_list forward(AutogradContext* ctx,
                               const at::Tensor& q,
                               const at::Tensor& keys,
                               const at::Tensor& weight,
                               const IndexerKlConstants& constants) {
    std::vector<at::Tensor> in = {q.contiguous(), keys.contiguous(), weight.contiguous()};
    in.insert(in.end(), constants.tensors.begin(), constants.tensors.end());
    const auto sums = indexer_kl_sums_of(in, constants);
    ctx->saved_data["dq"] = sums.dq;
    ctx->saved_data["dkeys"] = sums.dkeys;
    ctx->saved_data["dweight"] = sums.dweight;
    ctx->saved_data["type"] = q.scalar_type();
    const auto &kl = sums.kl, &found = sums.recall;
    auto recall = at::zeros({2}, kl.options());
    if (constants.recalled > 0) {
      recall = at::stack({found.clamp_min(0).sum(at::kDouble), (found >= 0).sum().to(at::kDouble)})
                   .to(kl.scalar_type());
    }
    ctx->mark_non_differentiable({recall});
    return {kl.sum(at::kDouble).to(kl.scalar_type()), recall};
  }

  static variable_list backward(AutogradContext* ctx, variable_list gradients) {
    require(ctx->saved_data.count("dq") == 1,
            "[indexer_kl] the backward pass ran a second time; its gradients are gone");
    const auto type = ctx->saved_data["type"].toScalarType();
    variable_list result;
    for (const char* name : {"dq", "dkeys", "dweight"}) {
      auto gradient = ctx->saved_data[name].toTensor();
      result.push_back(gradient.defined() ? gradient.mul_(gradients[0]) : gradient);
    }
    if (result[1].defined()) {
      result[1] = result[1].to(type);  // a sum
    }
    ctx->saved_data.clear();
    result.emplace_back();  // the constants have none
    return result;
  }
};

}  // namespace

IndexerKl indexer_kl(const IndexParts& index,
                     const AttentionTeacher& teacher,
                     const SeenEntries& seen,
                     int64_t recalled) {
  const auto [B, S, N, H] = sizes<4>(teacher.q_BSNH);
  const auto [B1, U, H1] = sizes<3>(teacher.kv_BUH);
  const auto [B2, C, H2] = sizes<3>(teacher.compressed_BCH);
  const auto [B3, S3, I, h] = sizes<4>(index.q_BSIH);
  const auto& chosen = seen.chosen_BSK;
  const std::vector<int64_t> queries = {B, S};
  require(
      B1 == B && B2 == B && B3 == B && S3 == S && H1 == H && H2 == H &&
          index.keys_BCH.sizes() == at::IntArrayRef({B, C, h}) &&
          index.weight_BSI.sizes() == at::IntArrayRef({B, S, I}) &&
          teacher.sink_N.sizes() == at::IntArrayRef({N}) && recalled >= 0 &&
          teacher.window.first_BS.sizes() == queries && teacher.window.end_BS.sizes() == queries &&
          seen.range.first_BS.sizes() == queries && seen.range.end_BS.sizes() == queries &&
          (!chosen.defined() || (chosen.dim() == 3 && chosen.size(0) == B && chosen.size(1) == S)),
      "[indexer_kl] shapes do not fit: index q ",
      index.q_BSIH.sizes(),
      ", keys ",
      index.keys_BCH.sizes(),
      ", weights ",
      index.weight_BSI.sizes(),
      ", attention q ",
      teacher.q_BSNH.sizes(),
      ", kv ",
      teacher.kv_BUH.sizes(),
      ", compressed ",
      teacher.compressed_BCH.sizes(),
      ", sink ",
      teacher.sink_N.sizes(),
      ", window ",
      teacher.window.first_BS.sizes(),
      ", entries ",
      chosen.defined() ? chosen.sizes() : seen.range.first_BS.sizes());
  const auto kernel = kernel_of(index.q_BSIH, BRAID_KERNEL(indexer_kl));
  if (kernel == Kernel::kPlain || (kernel == Kernel::kCuda && !has_indexer_kl(H, h))) {
    return indexer_kl_reference(index, teacher, seen, recalled);
  }
  const bool on_cpu = kernel == Kernel::kCpu;
  if (on_cpu) {  // to read the numbers of another device would be to wait for it
    require_keys_exist("indexer_kl", teacher.window, U, seen, C);
  }
  // The CPU computes with wide numbers, a device with those of the index and of the teacher.
  const auto wide = wide_type(index.q_BSIH);
  const auto type = on_cpu ? wide : index.q_BSIH.scalar_type();
  const auto teacher_type =
      on_cpu || teacher.q_BSNH.scalar_type() != at::kBFloat16 ? wide : at::kBFloat16;
  const auto constant = [teacher_type](const at::Tensor& t) {
    return t.detach().to(teacher_type).contiguous();
  };
  const std::vector<at::Tensor> constants = {constant(teacher.q_BSNH),
                                             constant(teacher.kv_BUH),
                                             constant(teacher.compressed_BCH),
                                             teacher.sink_N.detach().to(wide).contiguous(),
                                             teacher.window.first_BS.contiguous(),
                                             teacher.window.end_BS.contiguous(),
                                             seen.range.first_BS.contiguous(),
                                             seen.range.end_BS.contiguous(),
                                             seen.lists()};
  const auto q = index.q_BSIH.to(type), keys = index.keys_BCH.to(type),
             weight = index.weight_BSI.to(wide);
  const bool gradients = at::GradMode::is_enabled() &&
                         (q.requires_grad() || keys.requires_grad() || weight.requires_grad());
  const bool in_bf16 = std::ranges::all_of(
      std::initializer_list<at::Tensor>{
          index.q_BSIH, index.keys_BCH, teacher.q_BSNH, teacher.kv_BUH, teacher.compressed_BCH},
      [](const at::Tensor& t) { return t.scalar_type() == at::kBFloat16; });
  const auto result = IndexerKlFunction::apply(
      q,
      keys,
      weight,
      IndexerKlConstants{constants, teacher.scale, recalled, seen.most_of(C), gradients, in_bf16});
  return {result[0], result[1]};
}

}  // namespace braid
