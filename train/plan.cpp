#include "train/plan.h"

#include <algorithm>

#include <ATen/ATen.h>

#include "model/transformer.h"
#include "optim/group_table.h"
#include "train/flops.h"

namespace braid {
namespace {

struct PartRule {
  const char* name;
  const char* match;  // of release names; the last part that matches has the parameter
  double ForwardProducts::*products;
  bool has_backward = true;
};

// Parts without parameters match nothing, those without matrix products have none.
constexpr PartRule kParts[] = {
    {"embedding", "embed.weight", nullptr},
    {"attention", "*.attn.*", &ForwardProducts::attention},
    {"attention scores", "", &ForwardProducts::attention_scores},
    {"norms", "*norm.weight", nullptr},
    {"compressor", "*.attn.compressor.*", &ForwardProducts::compressor},
    {"indexer", "*.attn.indexer.*", &ForwardProducts::indexer, /*has_backward=*/false},
    {"router", "*.ffn.gate.*", &ForwardProducts::router},
    {"routed experts", "*.ffn.experts.*", &ForwardProducts::routed_experts},
    {"shared experts", "*.ffn.shared_experts.*", &ForwardProducts::shared_experts},
    {"residual streams", "*hc_*", &ForwardProducts::mhc},
    {"head", "head.weight", &ForwardProducts::head},
    {"MTP block", "mtp.*", &ForwardProducts::mtp},
};

std::size_t part_of(const std::string& name) {
  const auto found = std::find_if(std::rbegin(kParts), std::rend(kParts), [&](const auto& part) {
    return matches_glob(part.match, name);
  });
  require(found != std::rend(kParts), "parameter ", name, " belongs to no part of the model");
  return static_cast<std::size_t>(std::rend(kParts) - found) - 1;
}

int64_t active_elements(const Parameter& parameter, const ModelConfig& config) {
  if (parameter.name == "embed.weight") {
    return config.hidden_size;
  }
  const int64_t elements = parameter.value.numel();
  return matches_glob("*.ffn.experts.*", parameter.name)
             ? elements / config.n_routed_experts * config.num_experts_per_tok
             : elements;
}

std::vector<PartPlan> planned_parts(const Transformer& model, int64_t seq_len) {
  const auto products = forward_products(model.config(), seq_len);
  std::vector<PartPlan> parts;
  for (const auto& rule : kParts) {
    const double forward =
        rule.products ? 2 * products.*rule.products / static_cast<double>(seq_len) : 0;
    parts.push_back({.part = rule.name,
                     .forward_flops = forward,
                     .backward_flops = rule.has_backward ? 2 * forward : 0});
  }
  for (const auto& parameter : model.parameters().all()) {
    if (parameter.value.is_floating_point()) {
      auto& part = parts[part_of(parameter.name)];
      part.parameters += parameter.value.numel();
      part.active += active_elements(parameter, model.config());
    }
  }
  std::erase_if(
      parts, [](const PartPlan& part) { return part.parameters == 0 && part.forward_flops == 0; });
  return parts;
}

}  // namespace

PartPlan Plan::total() const {
  PartPlan sum{.part = "total"};
  for (const auto& part : parts) {
    sum.parameters += part.parameters;
    sum.active += part.active;
    sum.forward_flops += part.forward_flops;
    sum.backward_flops += part.backward_flops;
  }
  return sum;
}

double Plan::flops_per_step() const {
  const auto sum = total();
  return (sum.forward_flops + sum.backward_flops) * static_cast<double>(tokens_per_step) +
         newton_schulz_flops;
}

Plan plan_training(const RunConfig& config) {
  const WithoutValues without_values;
  const Transformer model(config.model, scalar_type(config.train.dtype), /*seed=*/0);
  std::vector<NamedTensor> trained;
  for (const auto& parameter : model.parameters().all()) {
    if (parameter.trained) {
      trained.push_back({parameter.name, parameter.value});
    }
  }
  const GroupingFacts facts{.num_heads = config.model.num_attention_heads,
                            .num_output_groups = config.model.o_groups};
  const auto groups = group_parameters(trained, facts, config.optimizer);
  Plan plan;
  plan.parts = planned_parts(model, config.data.seq_len);
  plan.steps = config.train.max_steps;
  plan.tokens_per_step = config.train.global_batch_size * config.data.seq_len;
  plan.newton_schulz_flops = newton_schulz_flops(groups, config.optimizer.muon);
  plan.memory = planned_memory(config, model.parameters(), groups);
  plan.groups = group_table(groups);
  return plan;
}

nlohmann::ordered_json report(const Plan& plan) {
  auto parts = nlohmann::ordered_json::array();
  auto rows = plan.parts;
  rows.push_back(plan.total());
  for (const auto& [part, parameters, active, forward_flops, backward_flops] : rows) {
    parts.push_back({{"part", part},
                     {"parameters", parameters},
                     {"active_per_token", active},
                     {"forward_flops", forward_flops},
                     {"backward_flops", backward_flops}});
  }
  const auto total = plan.total();
  const double flops = plan.flops_per_step();
  const auto& memory = plan.memory;
  return {{"model, and operations per token", parts},
          {"run",
           {{"steps", plan.steps},
            {"tokens_per_step", plan.tokens_per_step},
            {"tokens", plan.steps * plan.tokens_per_step},
            {"per_token_flops", total.forward_flops + total.backward_flops},
            {"newton_schulz_per_step_flops", plan.newton_schulz_flops},
            {"per_step_flops", flops},
            {"run_flops", flops * static_cast<double>(plan.steps)}}},
          {"memory, estimated",
           {{"weights_bytes", memory.weights_bytes},
            {"gradients_bytes", memory.gradients_bytes},
            {"optimizer_state_bytes", memory.optimizer_bytes},
            {"activations_bytes", memory.activations_bytes},
            {"total_bytes", memory.total_bytes()}}}};
}

}  // namespace braid
