#include "kernels/indexer_kl.h"

#include <algorithm>
#include <vector>

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>

#include "core/sizes.h"
#include "kernels/autograd.h"
#include "kernels/device.h"
#include "kernels/indexer_kl_cpu.h"
#include "kernels/precision.h"

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
  bool gradients;  // of the rest are wanted
  bool in_bf16;    // queries and keys were
};

class IndexerKlFunction : public Function<IndexerKlFunction> {
 public:
  static variable_list forward(AutogradContext* ctx,
                               const at::Tensor& q,
                               const at::Tensor& keys,
                               const at::Tensor& weight,
                               const IndexerKlConstants& constants) {
    const bool gradients = constants.gradients;
    std::vector<at::Tensor> in = {q.contiguous(), keys.contiguous(), weight.contiguous()};
    in.insert(in.end(), constants.tensors.begin(), constants.tensors.end());
    const auto like = [&](const at::Tensor& t) {
      return gradients ? at::empty_like(t) : at::Tensor();
    };
    const auto dq = like(in[kIndexQ]), dweight = like(in[kIndexWeight]);
    const auto options = in[kIndexQ].options();
    const auto dkeys_parts =
        gradients ? at::zeros({kIndexerKlParts, in[kIndexKeys].numel()}, options) : at::Tensor();
    const auto kl = at::empty({q.size(0), q.size(1)}, options), found = at::empty_like(kl);
    with_wide_type(q.scalar_type(), [&](auto zero) {
      using T = decltype(zero);
      indexer_kl_cpu<T>(
          indexer_kl_problem<T>(in, constants.scale, constants.recalled, constants.in_bf16),
          {data<T>(kl), data<T>(found), data<T>(dq), data<T>(dweight), data<T>(dkeys_parts)});
    });
    ctx->saved_data["dq"] = dq;
    ctx->saved_data["dkeys"] =
        gradients ? dkeys_parts.sum(0).view(in[kIndexKeys].sizes()) : at::Tensor();
    ctx->saved_data["dweight"] = dweight;
    auto recall = at::zeros({2}, options);
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
    variable_list result;
    for (const char* name : {"dq", "dkeys", "dweight"}) {
      auto gradient = ctx->saved_data[name].toTensor();
      result.push_back(gradient.defined() ? gradient.mul_(gradients[0]) : gradient);
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
  if (kernel_of(index.q_BSIH) == Kernel::kPlain) {
    return indexer_kl_reference(index, teacher, seen, recalled);
  }
  require_keys_exist("indexer_kl", teacher.window, U, seen, C);
  const auto type = wide_type(index.q_BSIH);
  const auto constant = [type](const at::Tensor& t) { return t.detach().to(type).contiguous(); };
  const std::vector<at::Tensor> constants = {constant(teacher.q_BSNH),
                                             constant(teacher.kv_BUH),
                                             constant(teacher.compressed_BCH),
                                             constant(teacher.sink_N),
                                             teacher.window.first_BS.contiguous(),
                                             teacher.window.end_BS.contiguous(),
                                             seen.range.first_BS.contiguous(),
                                             seen.range.end_BS.contiguous(),
                                             chosen.defined() ? chosen.contiguous() : chosen};
  const auto q = index.q_BSIH.to(type), keys = index.keys_BCH.to(type),
             weight = index.weight_BSI.to(type);
  const bool gradients = at::GradMode::is_enabled() &&
                         (q.requires_grad() || keys.requires_grad() || weight.requires_grad());
  const bool in_bf16 = std::ranges::all_of(
      std::initializer_list<at::Tensor>{
          index.q_BSIH, index.keys_BCH, teacher.q_BSNH, teacher.kv_BUH, teacher.compressed_BCH},
      [](const at::Tensor& t) { return t.scalar_type() == at::kBFloat16; });
  const auto result = IndexerKlFunction::apply(
      q, keys, weight, IndexerKlConstants{constants, teacher.scale, recalled, gradients, in_bf16});
  return {result[0], result[1]};
}

}  // namespace braid
