#include "plan/plan.h"

#include <algorithm>
#include <iostream>

#include <ATen/ATen.h>

#include "core/parameter_names.h"
#include "model/transformer.h"
#include "optim/group_table.h"
#include "optim/ownership.h"
#include "plan/flops.h"
#include "run/adapter_table.h"
#include "run/console.h"
#include "run/grouped_parameters.h"
#include "run/table.h"

namespace braid {
namespace {

// Multiply-adds of one token, by part, and how many times as many the backward pass has.
struct PartProducts {
  std::string_view part;
  double products = 0, backward = 0;
};

// The share of the elements of a part's matrices that a step moves.
double trained_share(std::string_view part,
                     const std::vector<GroupedParameter>& groups,
                     TrainedParts parts) {
  double all = 0, trained = 0;
  for (const auto& grouped : groups) {
    const auto& [name, value] = grouped.parameter;
    const auto& kind = *kind_of(name);
    const bool is_matrix = kind.is_linear() || kind.role == ParameterRole::kMatrix;
    if (is_matrix && name_of(part_of(name)) == part) {
      const auto elements = static_cast<double>(value.numel());
      all += elements;
      trained += grouped.learns_in(parts) ? elements : 0;
    }
  }
  return all > 0 ? trained / all : 1;
}

// Of the adapters of a token: each element of A and B once, but for the groups of an output
// projection, which read one A, for experts that the token does not visit, and for the embedding's
// A, of which a column is looked up.
std::vector<PartProducts> products_of_adapters(const ModelConfig& config,
                                               const std::vector<GroupedParameter>& groups,
                                               const Regime& regime,
                                               double indexer_runs) {
  std::vector<PartProducts> result;
  for (const auto& grouped : groups) {
    const auto& [name, value] = grouped.parameter;
    const auto& kind = *kind_of(name);
    const bool is_a = kind.role == ParameterRole::kLoraA;
    if (!kind.is_adapter() || (is_a && is_embedding(name))) {
      continue;
    }
    auto products = static_cast<double>(value.numel());
    if (is_stack(name)) {
      products *=
          static_cast<double>(config.num_experts_per_tok) / static_cast<double>(value.size(0));
    }
    if (is_a && name.ends_with("attn.wo_a.lora_A.weight")) {
      products *= static_cast<double>(config.o_groups);
    }
    if (kind.is_indexer()) {
      products *= indexer_runs;
    }
    const bool is_reached = regime.trained.contains(grouped.part);
    result.push_back({name_of(part_of(name)), products, is_reached ? 2.0 : 0});
  }
  return result;
}

std::vector<PartProducts> products_by_part(const ModelConfig& config,
                                           const std::vector<GroupedParameter>& groups,
                                           const Regime& regime) {
  const auto dense = regime.options.dense_attention;
  const auto p = forward_products(config, regime.seq_len, dense);
  const bool trunk = regime.trained.contains(TrainedPart::kTrunk);
  const bool learns = regime.trained.contains(TrainedPart::kIndexer);
  const double runs = learns || !dense ? 1 : 0;  // nothing asks it where all entries are seen
  // The gradient of the input, and that of what is trained.
  const auto of_matrices = [&](std::string_view part) {
    return trunk ? 1 + trained_share(part, groups, regime.trained) : 0;
  };
  const double scores = trunk ? 2 : 0;  // both factors are activations
  std::vector<PartProducts> result = {
      {"attention", p.attention, of_matrices("attention")},
      {"attention_scores", p.attention_scores, scores},
      {"compressor", p.compressor, of_matrices("compressor")},
      // its inputs take no gradient
      {"indexer", runs * p.indexer, learns ? trained_share("indexer", groups, regime.trained) : 0},
      {"indexer_scores", runs * p.indexer_scores, learns ? 2.0 : 0},
      {"router", p.router, of_matrices("router")},
      {"experts", p.routed_experts, of_matrices("experts")},
      {"shared_experts", p.shared_experts, of_matrices("shared_experts")},
      {"residual", p.mhc, scores},
      {"head", p.head, of_matrices("head")},
      {"mtp", p.mtp, of_matrices("mtp")},
  };
  for (auto& part : result) {
    part.products /= static_cast<double>(regime.seq_len);
  }
  const auto adapters = products_of_adapters(config, groups, regime, runs);
  result.insert(result.end(), adapters.begin(), adapters.end());
  return result;
}

int64_t active_elements(const Parameter& parameter, const ModelConfig& config) {
  const int64_t elements = parameter.value.numel();
  if (is_embedding(parameter.name)) {
    const auto role = kind_of(parameter.name)->role;
    return role == ParameterRole::kLoraA   ? elements / config.vocab_size
           : role == ParameterRole::kLoraB ? elements
                                           : config.hidden_size;
  }
  return is_expert(parameter.name) ? elements / config.n_routed_experts * config.num_experts_per_tok
                                   : elements;
}

std::vector<PartPlan> planned_parts(const Transformer& model,
                                    const std::vector<GroupedParameter>& groups,
                                    const Regime& regime) {
  std::vector<PartPlan> parts;
  const auto part = [&parts](std::string_view name) -> PartPlan& {
    const auto found = std::ranges::find(parts, name, &PartPlan::part);
    return found != parts.end() ? *found : parts.emplace_back(PartPlan{.part = std::string(name)});
  };
  part("embedding");  // the first of the table
  for (const auto& [name, products, backward] : products_by_part(model.config(), groups, regime)) {
    part(name).forward_flops += 2 * products;
    part(name).backward_flops += 2 * products * backward;
  }
  for (const auto& parameter : model.parameters().all()) {
    if (parameter.value.is_floating_point()) {
      auto& its_part = part(name_of(part_of(parameter.name)));
      its_part.parameters += parameter.value.numel();
      its_part.active += active_elements(parameter, model.config());
    }
  }
  std::erase_if(parts, [](const PartPlan& p) { return p.parameters == 0 && p.forward_flops == 0; });
  return parts;
}

// Per token, of all layers, those of the MTP block too if it takes part; without the heads.
double forward_flops_of_layers(const RunConfig& config,
                               const std::vector<GroupedParameter>& groups,
                               const Regime& regime,
                               bool with_mtp) {
  double products = 0, head = 0;
  for (const auto& part : products_by_part(config.model, groups, regime)) {
    products += part.part != "mtp" || with_mtp ? part.products : 0;
    head += part.part == "head" ? part.products : 0;
  }
  const int64_t heads = 1 + (with_mtp ? config.model.num_nextn_predict_layers : 0);
  return 2 * (products - static_cast<double>(heads) * head);
}

// What chooses experts ahead; heads choose none.
double look_ahead_flops(const RunConfig& config,
                        const std::vector<GroupedParameter>& groups,
                        const Regime& regime) {
  return config.model.routing_mode == RoutingMode::kAnticipatory
             ? forward_flops_of_layers(config, groups, regime, /*with_mtp=*/true)
             : 0;
}

// Of layers with a gradient.
double recomputed_flops(const RunConfig& config,
                        const std::vector<GroupedParameter>& groups,
                        const Regime& regime) {
  return regime.options.recompute_sublayers > 0
             ? forward_flops_of_layers(config, groups, regime, regime.weights.mtp > 0)
             : 0;
}

bool same_kind(const Regime& a, const Regime& b) {
  return a.trained == b.trained && a.options.dense_attention == b.options.dense_attention &&
         a.sequences == b.sequences && a.seq_len == b.seq_len;
}

std::vector<StagePlan> stages_of(const RunConfig& config,
                                 const std::vector<GroupedParameter>& groups) {
  std::vector<StagePlan> stages;
  const auto starts = regime_starts(config);
  for (std::size_t i = 0; i < starts.size(); ++i) {
    const auto regime = regime_at(config, starts[i]);
    const int64_t end = i + 1 < starts.size() ? starts[i + 1] : config.train.max_steps.steps();
    if (stages.empty() || !same_kind(stages.back().regime, regime)) {
      auto& stage = stages.emplace_back(StagePlan{.regime = regime});
      stage.forward_backward_flops = forward_backward_flops(config.model, groups, regime);
      stage.look_ahead_flops = look_ahead_flops(config, groups, regime);
      stage.recomputed_flops = recomputed_flops(config, groups, regime);
      stage.newton_schulz_flops =
          newton_schulz_flops(groups, config.optimizer.muon, regime.trained);
    }
    stages.back().steps += end - starts[i];
  }
  return stages;
}

std::string_view text_of(const Regime& regime) {
  return regime.warms_up_indexer()                        ? "dense, indexers alone"
         : regime.options.dense_attention                 ? "dense"
         : regime.trained.contains(TrainedPart::kIndexer) ? "sparse, with indexers"
                                                          : "sparse";
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

std::vector<StagePlan> planned_stages(const RunConfig& config) {
  return stages_of(config, parameter_groups(model_without_values(config), config));
}

double forward_backward_flops(const ModelConfig& config,
                              const std::vector<GroupedParameter>& groups,
                              const Regime& regime) {
  double flops = 0;
  for (const auto& [part, products, backward] : products_by_part(config, groups, regime)) {
    flops += 2 * products * (1 + backward);
  }
  return flops;
}

Plan plan_training(const RunConfig& config, int64_t ranks, const CodeBytes& codes) {
  const auto grid = config.place_of(0, ranks);
  const auto model = model_without_values(config);
  const auto groups = parameter_groups(model, config);
  Plan plan;
  plan.stages = stages_of(config, groups);
  plan.parts = planned_parts(model, groups, plan.stages.back().regime);
  const auto& last = plan.stages.back();
  const auto of_rank = groups_of_rank(groups, grid);
  plan.ranks = planned_ranks(config, of_rank, last.regime, grid, last.token_flops());
  plan.memory = planned_memory(config,
                               model.parameters(),
                               of_rank,
                               last.regime,
                               grid,
                               plan.ranks.optimizer_bytes,
                               plan.ranks.zero_group,
                               codes);
  plan.checkpoint_bytes = plan.memory.saved_weights_bytes;
  for (const auto& unit : units_of(groups)) {
    plan.checkpoint_bytes += static_cast<double>(unit.state_bytes);
  }
  plan.groups = group_table(groups);
  plan.adapters = adapter_table(config);
  return plan;
}

PlannedTime planned_time(const Plan& plan, const PlannedSpeed& speed) {
  const double per_second = speed.peak_flops * speed.share;
  const auto ranks = static_cast<double>(plan.ranks.grid.ranks);
  const double newton_schulz = plan.stages.back().newton_schulz_flops;
  // The busiest rank's part of Newton-Schulz, taken to be the same in every stage.
  const double part = newton_schulz > 0 ? plan.ranks.newton_schulz_flops / newton_schulz : 0;
  const auto& stream = plan.memory.stream;
  PlannedTime time{.copies =
                       stream.pinned_sent_bytes / speed.link_bytes +
                       stream.mapped_sent_bytes / std::min(speed.link_bytes, speed.disk_bytes)};
  for (const auto& stage : plan.stages) {
    const auto tokens = static_cast<double>(stage.regime.sequences * stage.regime.seq_len);
    const double of_tokens = (stage.token_flops() + stage.recomputed_flops) * tokens / ranks;
    time.operations = (of_tokens + stage.newton_schulz_flops * part) / per_second;
    time.step = std::max(time.operations, time.copies);
    time.run += time.step * static_cast<double>(stage.steps);
  }
  return time;
}

void print_plan(const Plan& plan, const PlannedSpeed& speed) {
  std::cout << readable(report(plan, speed)) << plan.adapters << "groups\n"
            << plan.groups << std::flush;
}

namespace {

// What is where, beside a GPU.
nlohmann::ordered_json places_of(const MemoryPlan& memory) {
  auto rows = nlohmann::ordered_json::array();
  const auto add = [&rows](const char* what, double device, double host, double disk) {
    rows.push_back(
        {{"of", what}, {"device_bytes", device}, {"host_bytes", host}, {"disk_bytes", disk}});
  };
  add("experts in codes",
      memory.resident_experts_bytes,
      memory.pinned_experts_bytes,
      memory.mapped_experts_bytes);
  add("other weights", memory.weights_bytes - memory.resident_experts_bytes, 0, 0);
  add("working copies", memory.working_copies_bytes, 0, 0);
  add("buffers of experts", memory.expert_buffers_bytes, 0, 0);
  add("gradients", memory.gradients_bytes + memory.buckets_bytes, 0, 0);
  add("optimizer state", memory.optimizer_bytes, 0, 0);
  add("activations", memory.activations_bytes, 0, 0);
  add("checkpoint snapshot", 0, memory.snapshot_bytes, 0);
  add("total", memory.device_bytes(), memory.host_bytes(), memory.mapped_experts_bytes);
  return rows;
}

}  // namespace

nlohmann::ordered_json report(const Plan& plan, const PlannedSpeed& speed) {
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
  auto stages = nlohmann::ordered_json::array();
  int64_t first = 1, tokens = 0;
  double flops = 0;
  for (const auto& stage : plan.stages) {
    stages.push_back({{"from_step", first},
                      {"steps", stage.steps},
                      {"attention", text_of(stage.regime)},
                      {"sequences", stage.regime.sequences},
                      {"seq_len", stage.regime.seq_len},
                      {"per_token_flops", stage.token_flops()},
                      {"newton_schulz_per_step_flops", stage.newton_schulz_flops}});
    first += stage.steps;
    tokens += stage.tokens();
    flops += stage.flops();
  }
  nlohmann::ordered_json result = {
      {"model, and operations per token", parts},
      {"stages", stages},
      {"run", {{"steps", first - 1}, {"tokens", tokens}, {"flops", flops}}}};
  const auto& ranks = plan.ranks;
  const bool several = ranks.grid.ranks > 1;
  if (several) {
    result["ranks"] = {{"ranks", ranks.grid.ranks},
                       {"data", ranks.grid.data_size},
                       {"context", ranks.grid.context_size},
                       {"expert", ranks.grid.expert_size},
                       {"zero_group", ranks.zero_group},
                       {"newton_schulz_imbalance", ranks.newton_schulz_imbalance},
                       {"newton_schulz_imbalance_of_experts", ranks.experts_imbalance},
                       {"state_padding", ranks.state_padding}};
    result["of a step, on the busiest rank"] = {
        {"forward_backward_flops", ranks.forward_backward_flops},
        {"newton_schulz_flops", ranks.newton_schulz_flops},
        {"dense_matrices_orthogonalised", ranks.matrices},
        {"gradients_sent_bytes", ranks.gradients_sent_bytes},
        {"weights_sent_bytes", ranks.weights_sent_bytes},
        {"expert_exchange_sent_bytes", ranks.experts_sent_bytes},
        {"context_exchange_sent_bytes", ranks.context_sent_bytes}};
  }
  const auto& memory = plan.memory;
  auto& bytes = result[several ? "memory of the fullest rank, estimated" : "memory, estimated"];
  bytes = {{"weights_bytes", memory.weights_bytes},
           {"gradients_bytes", memory.gradients_bytes},
           {"optimizer_state_bytes", memory.optimizer_bytes},
           {"activations_bytes", memory.activations_bytes}};
  if (several) {
    bytes["gradients_under_way_bytes"] = memory.buckets_bytes;
  }
  bytes["checkpoint_snapshot_bytes"] = memory.snapshot_bytes;
  if (memory.working_copies_bytes > 0) {
    bytes["working_copies_bytes"] = memory.working_copies_bytes;
  }
  const auto& stream = memory.stream;
  if (stream.copies()) {
    bytes["buffers_of_experts_bytes"] = memory.expert_buffers_bytes;
    bytes["pinned_experts_bytes"] = memory.pinned_experts_bytes;
  }
  bytes["total_bytes"] = memory.total_bytes();
  if (memory.on_gpu) {
    result["where it is, of each rank"] = places_of(memory);
  }
  if (stream.copies()) {
    result["experts copied to the GPU"] = {
        {"layers_that_stay", stream.resident_layers},
        {"layers_from_pinned_memory", stream.pinned_layers},
        {"layers_from_files", stream.mapped_layers},
        {"from_pinned_memory_per_step_bytes", stream.pinned_sent_bytes},
        {"from_files_per_step_bytes", stream.mapped_sent_bytes},
        {"assumed_link_per_second_bytes", speed.link_bytes},
        {"assumed_disk_per_second_bytes", speed.disk_bytes}};
  }
  result["one checkpoint, on the disk"] = {{"checkpoint_bytes", plan.checkpoint_bytes}};
  const auto time = planned_time(plan, speed);
  auto& times = result["time, estimated"];
  times = {{"peak_of_a_rank_per_second_flops", speed.peak_flops},
           {"peak_is", speed.measured},
           {"assumed_share_of_peak", speed.share}};
  if (stream.copies()) {
    times["operations_of_a_step_seconds"] = time.operations;
    times["copies_of_a_step_seconds"] = time.copies;
  }
  times["step_seconds"] = time.step;
  times["run_seconds"] = time.run;
  times["run_takes"] = duration_text(time.run);
  return result;
}

}  // namespace braid
