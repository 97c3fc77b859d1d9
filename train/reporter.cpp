#include "train/reporter.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <map>
#include <optional>
#include <set>
#include <string_view>

#include <ATen/ATen.h>

#include "core/parameter_names.h"
#include "data/sample_stream.h"
#include "kernels/cpu/isa.h"
#include "model/expert_places.h"
#include "model/expert_stream.h"
#include "optim/group_table.h"
#include "plan/plan.h"
#include "run/adapter_table.h"
#include "run/memory.h"
#include "run/start_notes.h"
#include "train/monitors.h"

namespace braid {
namespace {

// How far the busiest expert of any such layer is above the mean: MaxVio. Nothing without a layer.
struct MaxViolation {
  std::optional<double> learned, hash;
};

// Layers that route by a table have no bias.
MaxViolation max_violation(const std::vector<at::Tensor>& load_E,
                           const std::vector<at::Tensor>& routing_biases) {
  MaxViolation worst;
  for (std::size_t i = 0; i < load_E.size(); ++i) {
    auto& kind = routing_biases.at(i).defined() ? worst.learned : worst.hash;
    const double above = load_E[i].max().item<double>() / load_E[i].mean().item<double>() - 1;
    kind = std::max(kind.value_or(0), above);
  }
  return worst;
}

// How float32 matrices are multiplied, where that is not exactly.
std::string products_line(Float32Products asked_for, at::Device device) {
  constexpr auto kWhat = "products of float32 matrices: ",
                 kKey = "warning: train.float32_products is ";
  switch (asked_for) {
    case Float32Products::kExact:
      return "";
    case Float32Products::kBf16x3:
      return float32_products() == asked_for
                 ? text(kWhat, "three bfloat16 for each factor, on AMX")
                 : text(kKey, "bf16x3, which takes a processor with AMX; they are exact here");
    case Float32Products::kTf32:
      return device.is_cuda() ? text(kWhat, "factors rounded to TF32")
                              : text(kKey, "tf32, which takes a GPU; they are exact here");
  }
  return "";
}

// "indexer (6: layers.2.attn.indexer.wq_b.weight, ...), router (1: layers.0.ffn.gate.weight)"
std::string listed_by_part(const std::vector<std::string_view>& parameters) {
  std::map<std::string_view, std::vector<std::string_view>> parts;
  for (const auto name : parameters) {
    parts[name_of(part_of(name))].push_back(name);
  }
  std::string list;
  for (const auto& [part, names] : parts) {
    list += text(list.empty() ? "" : ", ",
                 part,
                 " (",
                 names.size(),
                 ": ",
                 names.front(),
                 names.size() > 1 ? ", ...)" : ")");
  }
  return list;
}

// While one factor of an adapter is zero, as one is in the beginning, only that one has a gradient.
// Of a pair only what says that neither has one is kept: the factor that begins at zero.
std::vector<std::string_view> without_first_steps_of_adapters(
    std::vector<std::string_view> absent) {
  std::erase_if(absent, [](std::string_view name) {
    const auto* kind = kind_of(name);
    const bool is_first = kind->role == ParameterRole::kLoraA;
    return kind->is_adapter() && is_first != is_embedding(name);
  });
  return absent;
}

int64_t weight_bytes(const Parameters& parameters) {
  int64_t bytes = 0;
  for (const auto& [name, value] : parameters.tensors()) {
    bytes += static_cast<int64_t>(value.nbytes());
  }
  for (const auto& parameter : parameters.all()) {
    for (const auto& weight : parameter.quantized) {
      bytes += weight.place == WeightPlace::kDevice ? weight.nbytes() : 0;
    }
  }
  return bytes;
}

// "experts: 30 of 43 layers stay on cuda:0 (95.6 GiB); 13 are copied to it, through buffers of 6.37
// GiB, from 41.4 GiB of pinned memory and 0 B of files"
std::string streaming_line(const Transformer& model, const ExpertStream& stream) {
  std::set<std::string> layers;
  int64_t kept = 0;
  for (const auto& parameter : model.parameters().all()) {
    if (is_stack(parameter.name) && !parameter.quantized.empty()) {
      layers.insert(layer_of_experts(parameter.name));
      for (const auto& weight : parameter.quantized) {
        kept += weight.place == WeightPlace::kDevice ? weight.nbytes() : 0;
      }
    }
  }
  const auto count = static_cast<int64_t>(layers.size());
  return text("experts: ",
              count - stream.layers(),
              " of ",
              count,
              " layers stay on ",
              model.device(),
              " (",
              bytes_text(kept),
              "); ",
              stream.layers(),
              " are copied to it, through buffers of ",
              bytes_text(stream.buffer_bytes()),
              ", from ",
              bytes_text(stream.kept_bytes(WeightPlace::kPinned)),
              " of pinned memory and ",
              bytes_text(stream.kept_bytes(WeightPlace::kMapped)),
              " of files");
}

int64_t gradient_bytes(const Parameters& parameters) {
  int64_t bytes = 0;
  for (const auto& parameter : parameters.all()) {
    const auto& gradient = parameter.value.grad();
    bytes += gradient.defined() ? static_cast<int64_t>(gradient.nbytes()) : 0;
  }
  return bytes;
}

int64_t state_bytes(const std::vector<TensorPiece>& pieces) {
  int64_t bytes = 0;
  for (const auto& piece : pieces) {
    bytes += static_cast<int64_t>(piece.value.nbytes());
  }
  return bytes;
}

// Whether a layer attends to what its indexer selects.
bool has_selecting_indexer(const ModelConfig& config) {
  bool selects = false;
  for (int64_t i = 0; i < config.num_hidden_layers; ++i) {
    selects |= config.layer(i).attention == AttentionKind::kCsa && config.index_topk;
  }
  return selects;
}

std::string ranks_line(const GridPlace& place, const Sharding& sharding) {
  return text("ranks: ",
              place.ranks,
              " (data ",
              place.data_size,
              ", context ",
              place.context_size,
              ", expert ",
              place.expert_size,
              "); optimizer state divided among ",
              sharding.dense.owners,
              ", imbalance of Newton-Schulz ",
              sharding.dense.flops_imbalance());
}

double tokens_per_second(const StepResult& result, double seconds) {
  return static_cast<double>(result.losses.tokens) / seconds;
}

std::string packing_line(const DocumentStore& store, const RunConfig& config) {
  const auto percent = [](double share) { return std::lround(100 * share); };
  const double trained = static_cast<double>(store.num_targets()) /
                         static_cast<double>(std::max<int64_t>(store.num_tokens(), 1));
  const SampleStream stream(
      store,
      {.seed = static_cast<uint64_t>(config.run.seed), .pack_window = config.data.pack_window});
  return text("data: ",
              store.num_targets(),
              " of its tokens are trained (",
              percent(trained),
              " %); rows of ",
              config.data.seq_len,
              " are ",
              percent(stream.filled_share(config.data.seq_len)),
              " % full");
}

// "accuracy 0.52 (distance_64 0.97, distance_128 0.07)"
std::string accuracy_text(const AnswerAccuracy& answers) {
  const auto rounded = [](double accuracy) {
    char digits[16];
    std::snprintf(digits, sizeof digits, "%.3f", accuracy);
    return std::string(digits);
  };
  std::string groups;
  for (const auto& group : answers.groups) {
    groups += (groups.empty() ? "" : ", ") + group.name + " " + rounded(group.accuracy());
  }
  return "accuracy " + rounded(answers.all.accuracy()) + " (" + groups + ")";
}

}  // namespace

Reporter::Reporter(const RunConfig& config,
                   const ProcessGrid& grid,
                   RunFolder& folder,
                   const TrainingState& state)
    : config_(config), grid_(grid), folder_(folder), state_(state) {}

void Reporter::describe_run(const PreparedData& data, const Threads& threads, bool resumed) {
  auto& console = folder_.console();
  int64_t parameters = 0;
  for (const auto& parameter : state_.model->parameters().all()) {
    parameters += parameter.value.is_floating_point() ? parameter.value.numel() : 0;
  }
  console.line(text(
      "run ", folder_.paths().folder.string(), ", ", threads.text(), ", ", isa_name(cpu_isa())));
  if (!threads.warning.empty()) {
    console.line(threads.warning);
  }
  const auto device = state_.model->device();
  if (const auto line = products_line(config_.train.products_on(device), device); !line.empty()) {
    console.line(line);
  }
  if (grid_.place.ranks > 1) {
    console.line(ranks_line(grid_.place, state_.optimizer->sharding()));
  }
  console.line(
      text("model: ", parameters, " parameters, ", config_.model.num_hidden_layers, " layers"));
  if (const auto& stream = state_.model->parameters().expert_stream()) {
    console.line(streaming_line(*state_.model, *stream));
  }
  for (const auto& format : data.formats) {
    console.line("data: " + format);
  }
  for (std::size_t i = 0; i < data.training.size(); ++i) {
    const auto& [name, weight, store] = data.training[i];
    console.line(
        text("data: ",
             name,
             ": ",
             store->is_endless()
                 ? std::string("documents without end")
                 : text(store->num_documents(), " documents, ", store->num_tokens(), " tokens"),
             ", weight ",
             weight,
             store->is_endless() ? std::string()
                                 : text(", epochs so far ", state_.loader->progress().epochs[i])));
    if (data.has_samples && !store->is_endless()) {
      console.line(packing_line(*store, config_));
    }
  }
  for (const auto& note : data.notes) {
    console.line("note: " + note);
  }
  for (const auto& [name, store] : data.validation) {
    console.line(text("validation",
                      name.empty() ? "" : " " + name,
                      ": ",
                      store->num_documents(),
                      " documents, ",
                      store->text_bytes(),
                      " bytes"));
  }
  if (data.validation.empty()) {
    console.line("validation: none");
  }
  if (data.validation_not_utf8 > 0) {
    console.line(text("validation: ",
                      data.validation_not_utf8,
                      " documents are no UTF-8; in ",
                      folder_.paths().validation_text().filename().string(),
                      " their other bytes are U+FFFD. ",
                      (folder_.paths().token_stores() / "validation.tokens").string(),
                      " has them as they are, and `braid evaluate` reads it too"));
  }
  if (!resumed) {  // the log has it from the start
    if (const auto table = adapter_table(config_); !table.empty()) {
      console.line(table.substr(0, table.size() - 1));
    }
    console.line(group_summary(state_.optimizer->parameters()) +
                 "(`braid plan` and `train --dry-run` list every parameter)");
  }
  if (has_selecting_indexer(config_.model) &&
      !ever_trained(config_).contains(TrainedPart::kIndexer)) {
    console.line("indexers: not trained (loss.indexer_mode is off): they select as they are");
  }
  for (const auto& note : notes_at_start(config_)) {
    console.line("note: " + note);
  }
}

void Reporter::begin_step() {
  if (profile_) {
    profile_->begin_step();
  }
  step_start_ = std::chrono::steady_clock::now();
}

std::vector<Metrics::Value> Reporter::end_step(const StepResult& result) {
  const std::chrono::duration<double> elapsed = std::chrono::steady_clock::now() - step_start_;
  const double seconds = elapsed.count();
  if (profile_) {
    const auto& regime = result.regime;
    profile_->end_step(
        result.losses.tokens,
        forward_backward_flops(config_.model, state_.optimizer->parameters(), regime) *
            static_cast<double>(regime.sequences * regime.seq_len));
  }
  const auto record = record_of(result, seconds);
  folder_.write_metrics(state_.step, "", record);
  write_expert_loads(result);
  show_progress(result, seconds);
  report_memory(result);
  report_absent_gradients(result);
  if (!result.not_finite.empty()) {
    folder_.console().line(
        text("step ", state_.step, " was skipped: not finite: ", result.not_finite));
  }
  return record;
}

std::vector<Metrics::Value> Reporter::record_of(const StepResult& result, double seconds) const {
  const auto& losses = result.losses;
  std::vector<Metrics::Value> values = {{"tokens", static_cast<double>(state_.tokens)},
                                        {std::string(losses.terms.front().name), losses.loss()},
                                        {"learning_rate", result.regime.learning_rate},
                                        {"gradient_norm", result.gradients.total},
                                        {"tokens_per_second", tokens_per_second(result, seconds)},
                                        {"step_seconds", seconds}};
  for (std::size_t i = 1; i < losses.terms.size(); ++i) {
    values.emplace_back(losses.terms[i].name, losses.terms[i].value);
  }
  for (const auto& [name, numerator, denominator] : losses.ratios) {
    if (denominator > 0) {
      values.emplace_back(name, numerator / denominator);
    }
  }
  const auto violation = max_violation(losses.load_E, state_.model->routing_biases());
  if (violation.learned) {
    values.emplace_back("expert_max_violation", *violation.learned);
  }
  if (violation.hash) {
    values.emplace_back("expert_max_violation.hash", *violation.hash);
  }
  for (const auto& [part, norm] : result.gradients.parts) {
    values.emplace_back("gradient_norm." + std::string(part), norm);
  }
  for (const auto& [what, bytes] : result.cost.sent_bytes) {
    values.emplace_back(what, static_cast<double>(bytes));
  }
  if (result.routing_delay) {
    values.emplace_back("routing_delay", static_cast<double>(*result.routing_delay));
  }
  if (config_.stability.goes_back()) {
    values.emplace_back("rollbacks", static_cast<double>(state_.rollbacks));
  }
  if (!result.not_finite.empty()) {
    values.emplace_back("skipped", result.not_finite);
    values.emplace_back("skipped_total", static_cast<double>(state_.skipped));
  }
  values.insert(values.end(), result.monitored.begin(), result.monitored.end());
  return values;
}

// For TensorBoard's histograms: tokens of each expert over their mean.
void Reporter::write_expert_loads(const StepResult& result) {
  const auto& logging = config_.logging;
  if (!logging.tensorboard || !logging.monitors.contains(Monitor::kExperts) ||
      !logging.measures(state_.step)) {
    return;
  }
  for (std::size_t i = 0; i < result.losses.load_E.size(); ++i) {
    const auto load_E = (result.losses.load_E[i] / result.losses.load_E[i].mean()).contiguous();
    const auto* loads = load_E.const_data_ptr<double>();
    folder_.write_histogram(state_.step,
                            "expert_load/" + layer_key(i, state_.model->config()),
                            {loads, loads + load_E.numel()});
  }
}

void Reporter::show_progress(const StepResult& result, double seconds) {
  // The first step pays for warming up and would mislead the estimate.
  seconds_per_step_ = seconds_per_step_ == 0 ? seconds : 0.9 * seconds_per_step_ + 0.1 * seconds;
  const int64_t max_steps = config_.train.max_steps;
  std::string further_losses;
  for (const auto& term : result.losses.terms) {
    if (!term.progress_label.empty()) {
      further_losses += text(" | ", term.progress_label, " ", term.value);
    }
  }
  char line[240];
  std::snprintf(
      line,
      sizeof line,
      "step %lld/%lld | loss %.4f%s | norm %.3f | lr %.2e | %.0f tokens/s | %s left",
      static_cast<long long>(state_.step),
      static_cast<long long>(max_steps),
      result.losses.loss(),
      further_losses.c_str(),
      result.gradients.total,
      result.regime.learning_rate,
      tokens_per_second(result, seconds),
      duration_text(seconds_per_step_ * static_cast<double>(max_steps - state_.step)).c_str());
  folder_.console().progress(
      line, state_.step % config_.logging.every_steps == 0 || state_.step == max_steps);
}

// Once for every shape that a step takes.
void Reporter::report_memory(const StepResult& result) {
  const auto& cost = result.cost;
  if (cost.shape == measured_shape_ || !result.not_finite.empty()) {
    return;
  }
  measured_shape_ = cost.shape;
  const auto& parameters = state_.model->parameters();
  const int64_t gradients = gradient_bytes(parameters), copies = parameters.working_copies_bytes();
  const auto device = state_.model->device();
  folder_.console().line(text(
      "memory at ",
      cost.shape[0],
      " sequences of ",
      cost.shape[1],
      ": weights ",
      bytes_text(weight_bytes(parameters)),
      copies > 0 ? ", working copies " + bytes_text(copies) : std::string(),
      ", optimizer state ",
      bytes_text(state_bytes(state_.optimizer->local().state())),
      ", gradients ",
      bytes_text(gradients),
      ", activations ",
      bytes_text(std::max<int64_t>(0, cost.activation_bytes - gradients)),
      ", optimizer step ",
      bytes_text(cost.update_bytes),
      device.is_cpu() ? "" : text("; all on ", device, " at most ", bytes_text(cost.highest_bytes)),
      "; process at most ",
      bytes_text(peak_resident_bytes())));
}

// Once for every set of parts that learn.
void Reporter::report_absent_gradients(const StepResult& result) {
  if (result.regime.trained == looked_for_gradients_of_ || !result.not_finite.empty()) {
    return;
  }
  looked_for_gradients_of_ = result.regime.trained;
  const auto absent = without_first_steps_of_adapters(result.gradients.absent);
  if (!absent.empty()) {
    folder_.console().line(text("note: no loss of step ",
                                state_.step,
                                " reaches ",
                                absent.size(),
                                " parameters that would learn; without a gradient they stay as "
                                "they are: ",
                                listed_by_part(absent)));
  }
}

void Reporter::validation(const std::string& set, const Evaluation& result) {
  std::vector<Metrics::Value> values;
  if (!set.empty()) {
    values.emplace_back("set", set);
  }
  std::string of_kind;
  if (const auto& preferences = result.preferences) {
    values.insert(values.end(),
                  {{"loss", preferences->loss},
                   {"reward_margin", preferences->margin},
                   {"reward_accuracy", preferences->accuracy},
                   {"chosen_reward", preferences->chosen_reward},
                   {"rejected_reward", preferences->rejected_reward},
                   {"pairs", static_cast<double>(preferences->pairs)}});
    of_kind = text("margin ", preferences->margin, " | accuracy ", preferences->accuracy);
  } else {
    values.insert(values.end(),
                  {{"loss", result.loss},
                   {"perplexity", std::exp(result.loss)},
                   {"bits_per_byte", result.bits_per_byte},
                   {"tokens", static_cast<double>(result.tokens)}});
    of_kind = text("bits per byte ", result.bits_per_byte);
  }
  if (result.answers) {
    values.emplace_back("accuracy", result.answers->all.accuracy());
    for (const auto& group : result.answers->groups) {
      values.emplace_back("accuracy." + group.name, group.accuracy());
    }
    of_kind = accuracy_text(*result.answers);
  }
  for (const auto& of_role : result.roles) {
    values.emplace_back(text("loss.", of_role.role, of_role.part.empty() ? "" : ".", of_role.part),
                        of_role.loss);
  }
  folder_.write_metrics(state_.step, "validation", values);
  folder_.console().line(text("step ",
                              state_.step,
                              " | validation ",
                              set.empty() ? "" : set + " ",
                              "loss ",
                              result.loss,
                              " | ",
                              of_kind));
}

void Reporter::samples(const std::vector<WrittenText>& texts) {
  for (const auto& [prompt, text, number, tokens] : texts) {
    folder_.write_metrics(state_.step,
                          "sample",
                          {{"prompt", prompt},
                           {"number", static_cast<double>(number)},
                           {"text", text},
                           {"tokens", static_cast<double>(tokens)}});
  }
}

void Reporter::start_profile() {
  profile_ = std::make_unique<StepProfile>(
      scalar_type(config_.train.dtype), grid_.place.ranks, state_.model->device());
}

void Reporter::report_profile() {
  if (profile_) {
    const auto measured = profile_->to_json();
    folder_.write_profile(measured.dump(1) + "\n");
    folder_.console().line(profile_table(measured));
  }
}

}  // namespace braid
