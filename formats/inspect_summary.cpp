#include <map>

#include "core/parameter_names.h"
#include "formats/inspect_kinds.h"
#include "model/transformer.h"
#include "run/grouped_parameters.h"

namespace braid {
namespace {

// "2 window, 21 csa, 20 hca"
std::string attention_kinds(const ModelConfig& config) {
  std::map<AttentionKind, int64_t> counts;
  for (int64_t i = 0; i < config.num_hidden_layers; ++i) {
    ++counts[config.layer(i).attention];
  }
  std::string result;
  for (const auto& [kind, count] : counts) {
    result += text(result.empty() ? "" : ", ", count, " ", enum_name(kind));
  }
  return result;
}

int64_t parameter_count(const ModelConfig& config) {
  const WithoutValues without_values;
  const Transformer model(config, at::kFloat, /*seed=*/0);
  int64_t count = 0;
  for (const auto& parameter : model.parameters().all()) {
    count += parameter.value.is_floating_point() ? parameter.value.numel() : 0;
  }
  return count;
}

int64_t adapter_parameter_count(const RunConfig& config) {
  int64_t count = 0;
  const auto model = model_without_values(config);
  for (const auto& parameter : model.parameters().all()) {
    count += is_adapter(parameter.name) ? parameter.value.numel() : 0;
  }
  return count;
}

}  // namespace

nlohmann::ordered_json summary(const ModelConfig& config) {
  return {{"parameters", parameter_count(config)},
          {"layers", config.num_hidden_layers},
          {"attention", attention_kinds(config)},
          {"hidden_size", config.hidden_size},
          {"vocab_size", config.vocab_size},
          {"experts",
           text(config.n_routed_experts,
                " routed (",
                config.num_experts_per_tok,
                " a token), ",
                config.n_shared_experts,
                " shared")},
          {"residual", text(enum_name(config.residual), ", streams: ", config.num_streams())},
          {"mtp_blocks", config.num_nextn_predict_layers}};
}

nlohmann::ordered_json summary(const RunConfig& config) {
  nlohmann::ordered_json result = {{"model", summary(config.model)},
                                   {"training",
                                    {{"dtype", enum_name(config.train.dtype)},
                                     {"max_steps", config.train.max_steps.steps()},
                                     {"global_batch_size", config.train.global_batch_size},
                                     {"seq_len", config.data.seq_len},
                                     {"learning_rate", config.optimizer.learning_rate},
                                     {"seed", config.run.seed}}}};
  if (const auto lora = config.lora()) {
    result["adapter"] = {{"rank", lora->rank},
                         {"alpha", lora->alpha},
                         {"rslora", lora->rslora},
                         {"dora", lora->dora},
                         {"targets", joined(lora->targets.items)},
                         {"parameters", adapter_parameter_count(config)}};
  }
  return result;
}

}  // namespace braid
