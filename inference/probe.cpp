#include "inference/probe.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>

#include "core/error.h"
#include "core/ignored_target.h"
#include "kernels/precision.h"
#include "model/targets.h"
#include "model/transformer.h"

namespace braid {
namespace {

void check_inputs(const Transformer& model,
                  const at::Tensor& ids_BS,
                  const at::Tensor& targets_BS) {
  const int64_t V = model.config().vocab_size;
  const auto check = [V](const char* name, const at::Tensor& ids, bool may_ignore) {
    require(ids.scalar_type() == at::kLong && ids.dim() == 2 && ids.numel() > 0,
            "[probe] ",
            name,
            " must be int64 [B, S] and not empty, got ",
            ids.scalar_type(),
            " ",
            ids.sizes());
    const auto known = (ids >= 0).logical_and(ids < V);
    const auto good = may_ignore ? known.logical_or(ids == kIgnoredTarget) : known;
    require(good.all().item<bool>(),
            "[probe] ",
            name,
            " holds ids outside the vocabulary of ",
            V,
            may_ignore ? " (and -100 = ignored)" : "",
            ": from ",
            ids.min().item<int64_t>(),
            " to ",
            ids.max().item<int64_t>());
  };
  check("input_ids", ids_BS, false);
  if (targets_BS.defined()) {
    check("labels", targets_BS, true);
    require(targets_BS.sizes() == ids_BS.sizes(),
            "[probe] labels are ",
            targets_BS.sizes(),
            " but input_ids are ",
            ids_BS.sizes());
  }
}

at::Tensor next_id_targets(const at::Tensor& ids_BS) {
  auto targets = at::full_like(ids_BS, kIgnoredTarget);
  const int64_t S = ids_BS.size(1);
  targets.narrow(1, 0, S - 1).copy_(ids_BS.narrow(1, 1, S - 1));
  return targets;
}

at::Tensor mean_loss(const Transformer& model,
                     const at::Tensor& hidden_BSD,
                     const at::Tensor& targets_BS) {
  return model.cross_entropy_sum(hidden_BSD, targets_BS) /
         std::max<int64_t>(1, counted_targets(targets_BS));
}

// Gradients of one loss by release name; parameters that it does not reach get zeros.
void add_gradients(Transformer& model,
                   const at::Tensor& loss,
                   const std::string& prefix,
                   std::vector<NamedTensor>& results) {
  for (const auto& parameter : model.parameters().all()) {
    parameter.value.mutable_grad().reset();
  }
  if (loss.requires_grad()) {
    loss.backward({}, /*retain_graph=*/true);
  }
  std::vector<NamedTensor> gradients;
  for (const auto& parameter : model.parameters().all()) {
    if (parameter.value.is_floating_point()) {
      const auto& gradient = parameter.value.grad();
      gradients.push_back(
          {parameter.name,
           gradient.defined() ? gradient.clone() : at::zeros_like(parameter.value).detach()});
    }
  }
  for (const auto& [name, gradient] : unstacked(gradients)) {
    results.push_back({prefix + name, gradient});
  }
}

}  // namespace

std::vector<NamedTensor> probe(Transformer& model,
                               const at::Tensor& ids_BS,
                               const at::Tensor& given_targets_BS,
                               const ProbeOptions& options) {
  check_inputs(model, ids_BS, given_targets_BS);
  require(!options.mtp || model.has_mtp(), "[probe] --mtp: the model has no MTP block");
  const auto targets_BS = given_targets_BS.defined() ? given_targets_BS : next_id_targets(ids_BS);
  const auto tokens = whole_documents(ids_BS);
  const at::AutoGradMode with_gradients(options.gradients);
  Observations observations{.layers = {}, .streams_BSMD = {}, .on_layer = options.on_layer};
  const auto hidden = model.forward(tokens, {.keep_streams = options.streams}, &observations);
  const auto logits = model.logits(hidden.final_BSD);
  const auto loss = mean_loss(model, hidden.final_BSD, targets_BS);

  std::vector<NamedTensor> results = {{"logits", logits.detach()}, {"loss", loss.detach()}};
  if (options.gradients) {
    add_gradients(model, loss, "grad.", results);
  }
  for (std::size_t layer = 0; layer < observations.streams_BSMD.size(); ++layer) {
    results.push_back(
        {text("streams.", layer), widened(observations.streams_BSMD[layer].detach())});
  }
  if (options.mtp) {
    const auto mtp_BSD = model.mtp_forward(tokens, hidden);
    const auto mtp_loss = mean_loss(model, mtp_BSD, mtp_targets(targets_BS, tokens.documents_BS));
    results.push_back({"mtp_logits", model.logits(mtp_BSD).detach()});
    results.push_back({"mtp_loss", mtp_loss.detach()});
    if (options.gradients) {
      add_gradients(model, mtp_loss, "mtp_grad.", results);
    }
  }
  return results;
}

}  // namespace braid
