#include "checkpoint/peft.h"

#include <algorithm>
#include <cmath>
#include <iterator>
#include <limits>
#include <map>
#include <optional>
#include <set>
#include <string_view>

#include <ATen/ATen.h>

#include "checkpoint/adapter_tensor.h"
#include "checkpoint/mtp_adapter.h"
#include "checkpoint/names.h"
#include "checkpoint/peft_config.h"
#include "checkpoint/safetensors.h"
#include "core/error.h"
#include "core/file.h"
#include "core/parameter_names.h"

namespace braid {
namespace {

namespace fs = std::filesystem;

constexpr std::string_view kPeftPrefix = "base_model.model.", kBaseLayer = ".base_layer",
                           kWeightSuffix = ".weight";
// Hugging Face's names of the two stacks of experts.
constexpr std::string_view kGateUp = "gate_up_proj", kDown = "down_proj";

// The ends of keys, and whether they are of A.
struct KeyEnd {
  std::string_view text;
  bool is_a;
};
constexpr KeyEnd kEnds[] = {
    {".lora_A.weight", true},
    {".lora_B.weight", false},
    {".lora_embedding_A", true},
    {".lora_embedding_B", false},
};
constexpr std::string_view kMagnitudeEnd = ".lora_magnitude_vector";  // [out]

std::string without_prefix(const std::string& key) {
  return key.starts_with(kPeftPrefix) ? key.substr(kPeftPrefix.size()) : key;
}

bool is_matrix(const std::string& name) {
  const auto* kind = kind_of(name);
  return kind != nullptr &&
         (kind->role == ParameterRole::kLinear || kind->role == ParameterRole::kMatrix);
}

// The matrix that a module at this path has: linear layers, routers and embeddings call it weight.
std::optional<std::string> matrix_at(const std::string& path) {
  for (const char* member : {".weight", "", ".fn", ".hc_fn"}) {
    if (const auto name = release_name(path + member); name && is_matrix(*name)) {
      return name;
    }
  }
  return std::nullopt;
}

// "model.layers.3.mlp.experts" and its like -> "layers.3.ffn.experts."
std::optional<std::string> experts_at(std::string_view path) {
  constexpr std::string_view kOuter = "model.";
  if (path.starts_with(kOuter)) {
    path.remove_prefix(kOuter.size());
  }
  const auto [block, leaf] = split_block(path);
  if (block.empty() || (leaf != "mlp.experts" && leaf != "ffn.experts")) {
    return std::nullopt;
  }
  return std::string(block) + "ffn.experts.";
}

// "model.layers.3.mlp.experts.7.w1".
struct ExpertPath {
  std::string stack;   // "model.layers.3.mlp.experts"
  std::string matrix;  // "layers.3.ffn.experts.7.w1.weight"
};

std::optional<ExpertPath> expert_at(const std::string& path) {
  constexpr std::string_view kExperts = ".experts.";
  const auto begin = path.find(kExperts);
  if (begin == std::string::npos) {
    return std::nullopt;
  }
  const auto stack = path.substr(0, begin + kExperts.size() - 1);
  const auto experts = experts_at(stack);
  const auto matrix =
      text(experts.value_or(""), path.substr(begin + kExperts.size()), kWeightSuffix);
  return experts && is_matrix(matrix) ? std::optional(ExpertPath{stack, matrix}) : std::nullopt;
}

class PeftReader {
 public:
  explicit PeftReader(const fs::path& folder)
      : config_(folder / kPeftConfig), file_(folder / kPeftWeights), name_(file_name(folder)) {
    adapter_.source = folder.string();
    adapter_.rslora = config_.rslora();
    adapter_.base_model = config_.base_model();
    if (!config_.unknown_keys().empty()) {
      std::string keys;
      for (const auto& key : config_.unknown_keys()) {
        keys += (keys.empty() ? "" : ", ") + key;
      }
      adapter_.notes.push_back(
          text(config_.file(), ": keys that Braid does not know and passes over: ", keys));
    }
    const auto metadata = [this](const char* key) {
      const auto found = file_.metadata().find(key);
      return found == file_.metadata().end() ? std::string() : found->second;
    };
    adapter_.base_fingerprint = metadata(kFingerprint);
    if (const auto base = metadata(kBase); !base.empty()) {
      adapter_.base_model = base;
    }
  }

  PeftAdapter read() {
    for (const auto& key : file_.names()) {
      take(key);
    }
    for (const auto& [path, pair] : pairs_) {
      require(pair.a.defined() && pair.b.defined(),
              name_,
              ": '",
              path,
              "' has ",
              pair.a.defined() ? "lora_A but no lora_B" : "lora_B but no lora_A",
              "; is the file complete?");
      require_magnitude(path, pair);
      add(path, pair);
    }
    require(!adapter_.updates.empty(), name_, ": holds no adapters (keys with lora_A and lora_B)");
    add_those_of_mtp();
    require_each_once();
    return std::move(adapter_);
  }

  static constexpr const char *kFingerprint = "braid.base_fingerprint", *kBase = "braid.base_model",
                              *kMtp = "braid.mtp_adapter";

 private:
  struct Pair {
    at::Tensor a, b, magnitude;
  };

  static std::string file_name(const fs::path& folder) { return (folder / kPeftWeights).string(); }

  void take(const std::string& key) {
    const auto path = without_prefix(key);
    for (const auto& [end, is_a] : kEnds) {
      if (path.ends_with(end)) {
        auto& pair = pairs_[path.substr(0, path.size() - end.size())];
        auto& part = is_a ? pair.a : pair.b;
        require(
            !part.defined(), name_, ": '", key, "' is there twice, with the prefix and without");
        part = adapter_tensor(file_, name_, key, 2);
        return;
      }
    }
    if (path.ends_with(kMagnitudeEnd)) {
      require(config_.dora(),
              name_,
              ": '",
              key,
              "' is of a DoRA adapter, but ",
              config_.file(),
              " does not say use_dora: true; do the two files belong together?");
      pairs_[path.substr(0, path.size() - kMagnitudeEnd.size())].magnitude =
          adapter_tensor(file_, name_, key, 1);
      return;
    }
    if (const auto name = base_copy(path)) {
      adapter_.base_copies.push_back({*name, file_.view(key)});
      return;
    }
    fail(name_, ": '", key, "' ", reason(path));
  }

  // PEFT stores embedding and head whole where they have adapters.
  static std::optional<std::string> base_copy(const std::string& path) {
    const auto end = std::string(kBaseLayer) + std::string(kWeightSuffix);
    if (!path.ends_with(end)) {
      return std::nullopt;
    }
    const auto name =
        release_name(path.substr(0, path.size() - end.size()) + std::string(kWeightSuffix));
    return name && is_matrix(*name) ? name : std::nullopt;
  }

  static std::string reason(const std::string& path) {
    if (path.find(".lora_A.") != std::string::npos || path.find(".lora_B.") != std::string::npos ||
        path.find(kMagnitudeEnd) != std::string::npos) {
      return "is no tensor of PEFT's saved layout, whose keys end in .lora_A.weight and "
             ".lora_B.weight, without the adapter's name and without biases; save it with PEFT's "
             "save_pretrained";
    }
    if (names_a_tensor(path) || path.find("modules_to_save") != std::string::npos) {
      return "is a whole weight beside the adapters (modules_to_save), which Braid does not "
             "implement; merge the adapter into its base with PEFT (merge_and_unload)";
    }
    return "has no place in a LoRA adapter of a DeepSeek-V4 model";
  }

  void require_magnitude(const std::string& path, const Pair& pair) const {
    if (!config_.dora()) {
      return;
    }
    require(pair.magnitude.defined(),
            name_,
            ": '",
            path,
            "' has no lora_magnitude_vector, but ",
            config_.file(),
            " says use_dora: true; is the file complete?");
    // Of an embedding PEFT stores lora_B [width, r].
    require_magnitude_of(pair.b, pair.magnitude, text(name_, ": '", path, "'"));
  }

  void refuse_dora_of_parameters(const std::string& path) const {
    require(!config_.dora(),
            name_,
            ": '",
            path,
            "' is a parameter (target_parameters), for which PEFT defines no DoRA; expected linear "
            "layers alone where ",
            config_.file(),
            " says use_dora: true");
  }

  // PEFT's norms of an embedding are those of its columns, over all ids; the head's operation takes
  // the matrix whole.
  void refuse_dora_of(const std::string& matrix) const {
    const auto part = kind_of(matrix)->part;
    require(!config_.dora() || (part != ModelPart::kEmbedding && part != ModelPart::kHead),
            name_,
            ": is a DoRA adapter of ",
            matrix,
            ", which Braid implements for the products of linear layers alone; merge it into its "
            "base with PEFT (merge_and_unload) and open the result");
  }

  // Keys may say the same matrix in two namings.
  void require_each_once() const {
    std::set<std::string_view> matrices;
    for (const auto& update : adapter_.updates) {
      require(matrices.insert(update.matrix).second,
              name_,
              ": has two adapters of ",
              update.matrix,
              "; is one of them under another naming?");
    }
  }

  void add_those_of_mtp() {
    const auto folder = fs::path(name_).parent_path();
    const auto named = file_.metadata().find(kMtp);
    if (named == file_.metadata().end()) {
      if (fs::exists(folder / kMtpAdapter)) {
        adapter_.notes.push_back(text((folder / kMtpAdapter).string(),
                                      ": is passed over, as ",
                                      kPeftWeights,
                                      " does not name it (",
                                      kMtp,
                                      " of its metadata): it is of other adapters"));
      }
      return;
    }
    require(named->second == kMtpAdapter,
            name_,
            ": ",
            kMtp,
            " of its metadata is '",
            named->second,
            "'; expected ",
            kMtpAdapter);
    require(fs::exists(folder / kMtpAdapter),
            name_,
            ": the adapters of the MTP block are in ",
            kMtpAdapter,
            " (",
            kMtp,
            " of its metadata), but the folder has no such file; copy it, too");
    auto updates = read_mtp_adapter(folder / kMtpAdapter, adapter_.rslora, config_.dora());
    std::ranges::move(updates, std::back_inserter(adapter_.updates));
  }

  void add(const std::string& path, const Pair& pair) {
    if (const auto expert = expert_at(path)) {
      refuse_dora_of_parameters(path);
      add_expert(path, *expert, pair);
      return;
    }
    const bool inner = path.ends_with(kBaseLayer);
    const auto module = inner ? path.substr(0, path.size() - kBaseLayer.size()) : path;
    if (const auto experts = experts_at(module)) {
      refuse_dora_of_parameters(path);
      add_stack(path, module, *experts, inner, pair);
      return;
    }
    const auto matrix = inner ? std::nullopt : matrix_at(path);
    require(matrix.has_value(),
            name_,
            ": '",
            path,
            "' is no matrix of a DeepSeek-V4 model; expected paths such as "
            "model.layers.0.self_attn.q_a_proj");
    const auto place = hf_place(*matrix);
    const auto parameter = place ? place->name : *matrix;
    const bool is_parameter = config_.targets_parameter(parameter);
    if (is_parameter) {
      refuse_dora_of_parameters(path);
    }
    refuse_dora_of(*matrix);
    const auto target = is_parameter ? parameter : path;
    const auto rank = checked_rank(path, target, pair, 1);
    const auto alpha = config_.alpha_of(target);
    adapter_.updates.push_back(
        {*matrix, pair.a, pair.b, alpha, config_.scale(alpha, rank), pair.magnitude});
  }

  // A [experts * r, I] and B [O, r * experts]; one of both has to agree with the configuration.
  int64_t checked_rank(const std::string& path,
                       const std::string& target,
                       const Pair& pair,
                       int64_t experts) const {
    const auto rank = config_.rank_of(target);
    require_one_rank(pair.a, pair.b, text(name_, ": '", path, "'"));
    require(pair.a.size(0) == rank * experts,
            name_,
            ": '",
            path,
            "' has lora_A ",
            pair.a.sizes(),
            ", but ",
            config_.file(),
            " says rank ",
            rank,
            " (r, rank_pattern) of ",
            target,
            "; do the two files belong together?");
    return rank;
  }

  // Both stacks have wrappers in one another: then the inner one is gate_up_proj, whatever the
  // order of target_parameters.
  std::string_view stack_of(const std::string& module, bool inner) const {
    const bool gate_up = config_.targets_parameter(text(module, '.', kGateUp)),
               down = config_.targets_parameter(text(module, '.', kDown));
    const bool nested = pairs_.contains(module + std::string(kBaseLayer));
    if (gate_up && down) {
      require(nested && pairs_.contains(module),
              name_,
              ": ",
              config_.file(),
              " names gate_up_proj and down_proj in target_parameters, but '",
              module,
              "' has one adapter; expected keys below it and below its base_layer");
      return inner ? kGateUp : kDown;
    }
    require((gate_up || down) && !nested,
            name_,
            ": '",
            module,
            "' has ",
            nested ? "two adapters" : "an adapter",
            ", but target_parameters in ",
            config_.file(),
            gate_up || down ? " name one of" : " name none of",
            " mlp.experts.gate_up_proj and mlp.experts.down_proj; they say which stack is meant");
    return gate_up ? kGateUp : kDown;
  }

  // Row e r + k of A is (expert e, direction k), column k E + e of B is (direction k, expert e).
  void add_stack(const std::string& path,
                 const std::string& module,
                 const std::string& experts,
                 bool inner,
                 const Pair& pair) {
    const auto stack = stack_of(module, inner);
    const auto target = text(module, '.', stack);
    const auto rank = config_.rank_of(target);
    const auto count = pair.a.size(0) / rank;
    checked_rank(path, target, pair, std::max<int64_t>(count, 1));
    const auto alpha = config_.alpha_of(target);
    const bool halves = stack == kGateUp;
    const auto rows = pair.b.size(0);
    require(!halves || rows % 2 == 0,
            name_,
            ": '",
            path,
            "' has lora_B ",
            pair.b.sizes(),
            "; expected an even number of rows, those of w1 and then those of w3");
    for (int64_t e = 0; e < count; ++e) {
      const auto a = pair.a.narrow(0, e * rank, rank), b = pair.b.slice(1, e, {}, count);
      const auto push = [&](const char* matrix, const at::Tensor& part) {
        adapter_.updates.push_back({text(experts, e, '.', matrix, kWeightSuffix),
                                    a,
                                    part,
                                    alpha,
                                    config_.scale(alpha, rank)});
      };
      if (halves) {
        push("w1", b.narrow(0, 0, rows / 2));
        push("w3", b.narrow(0, rows / 2, rows / 2));
      } else {
        push("w2", b);
      }
    }
  }

  // PEFT stacks them, w1 and w3 of rank r as one of rank 2 r: then the configuration has rank 2 r
  // and alpha 2 alpha for gate_up_proj. Where it has r, they are what they say.
  void add_expert(const std::string& path, const ExpertPath& expert, const Pair& pair) {
    const bool is_down = expert.matrix.ends_with(".w2.weight");
    const auto stack = text(expert.stack, '.', is_down ? kDown : kGateUp);
    const auto target = config_.has_rank_pattern_for(path) ? path : stack;
    const auto rank = pair.a.size(0), said = config_.rank_of(target);
    require(pair.b.size(1) == rank && (said == rank || (!is_down && said == 2 * rank)),
            name_,
            ": '",
            path,
            "' has lora_A ",
            pair.a.sizes(),
            " and lora_B ",
            pair.b.sizes(),
            ", but ",
            config_.file(),
            " says rank ",
            said,
            " (r, rank_pattern) of ",
            target,
            is_down ? "" : "; expected that rank or, for w1 and w3, half of it");
    const auto alpha = config_.alpha_of(target);
    const auto scale = config_.scale(alpha, said);
    adapter_.updates.push_back({expert.matrix,
                                pair.a,
                                pair.b,
                                said == rank ? alpha : lora_alpha_of(scale, rank, config_.rslora()),
                                scale});
  }

  PeftConfig config_;
  SafetensorsFile file_;
  std::string name_;
  std::map<std::string, Pair> pairs_;  // by path
  PeftAdapter adapter_;
};

/// Updates of one stack of Hugging Face's, or of one matrix.
struct PeftTarget {
  std::string module;  // "model.layers.3.self_attn.q_a_proj"
  std::string path;    // of the module, or of the parameter: what patterns and targets name
  bool is_parameter = false;
  std::vector<const LowRankUpdate*> updates;  // of a stack: by expert, w1 before w3
};

class PeftWriter {
 public:
  PeftWriter(const fs::path& folder, const PeftAdapter& adapter)
      : folder_(folder), adapter_(adapter) {
    for (const auto& update : adapter.updates) {
      if (is_mtp(update.matrix)) {
        of_mtp_.push_back(update);
      } else {
        place(update);
      }
    }
    require(!targets_.empty(),
            adapter.source,
            ": has adapters of the MTP block alone, which Hugging Face's models lack, so that "
            "PEFT's layout has nothing to hold; use the run or checkpoint itself");
  }

  void write() const {
    std::vector<NamedTensor> tensors;
    for (const auto& [path, target] : targets_) {
      add(target, tensors);
    }
    std::map<std::string, std::string> metadata = {{"format", "pt"}};
    if (!adapter_.base_model.empty()) {
      metadata[PeftReader::kBase] = adapter_.base_model;
    }
    if (!adapter_.base_fingerprint.empty()) {
      metadata[PeftReader::kFingerprint] = adapter_.base_fingerprint;
    }
    if (!of_mtp_.empty()) {
      metadata[PeftReader::kMtp] = kMtpAdapter;
      write_mtp_adapter(folder_ / kMtpAdapter, of_mtp_);
    }
    write_safetensors(folder_ / kPeftWeights, tensors, metadata);
    write_file_atomically(folder_ / kPeftConfig, config().dump(2) + "\n");
  }

 private:
  static std::string without_last(const std::string& path) {
    return path.substr(0, path.rfind('.'));
  }

  // Which matrices are modules to PEFT: the others are parameters of modules that it does not know.
  static bool is_module(const ParameterKind& kind) {
    return (kind.is_linear() && kind.part != ModelPart::kRouter &&
            kind.split != RowSplit::kOutputGroups) ||
           kind.part == ModelPart::kEmbedding;
  }

  void place(const LowRankUpdate& update) {
    const auto place = hf_place(update.matrix);
    require(place.has_value(),
            update.matrix,
            ": Hugging Face's models have no such matrix, so PEFT's layout has no place for its "
            "adapter");
    const auto& kind = *kind_of(update.matrix);
    const bool stack = place->expert >= 0;
    const bool parameter = stack || !is_module(kind);
    require(!update.magnitude_O.defined() || !parameter,
            update.matrix,
            ": has a DoRA adapter and is a parameter to PEFT (target_parameters), for which it "
            "defines no DoRA; leave the matrix out of adapter.targets, or merge the run (`braid "
            "merge`)");
    require(update.magnitude_O.defined() == adapter_.is_dora(),
            adapter_.source,
            ": some adapters are DoRA's and others are not (",
            update.matrix,
            "), which PEFT's use_dora cannot say");
    PeftTarget target{.module = without_last(place->name),
                      .path = parameter ? place->name : without_last(place->name),
                      .is_parameter = parameter,
                      .updates = {}};
    auto& updates = targets_.emplace(target.path, target).first->second.updates;
    const auto slot = !stack ? 0 : place->in_half ? 2 * place->expert + place->half : place->expert;
    if (updates.size() <= static_cast<std::size_t>(slot)) {
      updates.resize(static_cast<std::size_t>(slot) + 1, nullptr);
    }
    updates[static_cast<std::size_t>(slot)] = &update;
  }

  static bool is_stack_of_two(const PeftTarget& target) { return target.path.ends_with(kGateUp); }

  void add(const PeftTarget& target, std::vector<NamedTensor>& tensors) const {
    for (const auto* update : target.updates) {
      require(update != nullptr && update->a_rI.size(0) == target.updates[0]->a_rI.size(0) &&
                  update->alpha == target.updates[0]->alpha,
              target.path,
              ": some of the layer's experts have no adapter or another rank or alpha, which "
              "PEFT's stack of them cannot say");
    }
    const bool is_stack = kind_of(target.updates.front()->matrix)->is_expert();
    auto module = std::string(kPeftPrefix) + target.module;
    if (is_stack_of_two(target) && targets_.contains(text(target.module, '.', kDown))) {
      module += kBaseLayer;
    }
    const bool embedding = is_embedding(target.updates.front()->matrix);
    const auto name = [&](const char* letter) {
      return embedding ? text(module, ".lora_embedding_", letter)
                       : text(module, ".lora_", letter, kWeightSuffix);
    };
    if (!is_stack) {
      tensors.push_back({name("A"), target.updates.front()->a_rI});
      tensors.push_back({name("B"), target.updates.front()->b_Or});
      if (const auto& magnitude_O = target.updates.front()->magnitude_O; magnitude_O.defined()) {
        tensors.push_back({text(module, kMagnitudeEnd), magnitude_O});
      }
      return;
    }
    std::vector<at::Tensor> as, bs;
    for (std::size_t i = 0; i < target.updates.size(); ++i) {
      const auto& update = *target.updates[i];
      if (!is_stack_of_two(target)) {
        as.push_back(update.a_rI);
        bs.push_back(update.b_Or);
      } else if (i % 2 == 0) {
        as.push_back(update.a_rI);
        bs.push_back(at::cat({update.b_Or, target.updates[i + 1]->b_Or}));
      }
    }
    tensors.push_back({name("A"), at::cat(as)});
    tensors.push_back({name("B"), at::stack(bs, /*dim=*/2).flatten(1)});  // [O, r, E]
  }

  // What most targets have is said once, the others by their paths.
  template <class Value, class Of>
  static Value most_common(const std::map<std::string, PeftTarget>& targets, const Of& of) {
    std::map<Value, int64_t> counts;
    for (const auto& [path, target] : targets) {
      ++counts[of(target)];
    }
    return std::ranges::max_element(counts, {}, [](const auto& entry) { return entry.second; })
        ->first;
  }

  static std::string as_pattern(const std::string& path) {
    std::string result;
    for (const char c : path) {
      result += c == '.' ? std::string("\\.") : std::string(1, c);
    }
    return result;
  }

  // Whole numbers as such: readers take lora_alpha for an int.
  static nlohmann::ordered_json number(double value) {
    constexpr double kMostExact = 0x1p53;
    return value < kMostExact && value == std::floor(value)
               ? nlohmann::ordered_json(static_cast<int64_t>(value))
               : nlohmann::ordered_json(value);
  }

  nlohmann::ordered_json config() const {
    using Json = nlohmann::ordered_json;
    const auto rank_of = [](const PeftTarget& target) { return target.updates[0]->a_rI.size(0); };
    const auto alpha_of = [](const PeftTarget& target) { return target.updates[0]->alpha; };
    const auto rank = most_common<int64_t>(targets_, rank_of);
    const auto alpha = most_common<double>(targets_, alpha_of);
    auto ranks = Json::object(), alphas = Json::object();
    auto modules = Json::array(), parameters = Json::array();
    for (const auto& [path, target] : targets_) {
      (target.is_parameter ? parameters : modules).push_back(path);
      if (rank_of(target) != rank) {
        ranks[as_pattern(path)] = rank_of(target);
      }
      if (alpha_of(target) != alpha) {
        alphas[as_pattern(path)] = number(alpha_of(target));
      }
    }
    Json json = {
        {"alpha_pattern", alphas},
        {"auto_mapping", nullptr},
        {"base_model_name_or_path",
         adapter_.base_model.empty() ? Json(nullptr) : Json(adapter_.base_model)},
        {"bias", "none"},
        {"fan_in_fan_out", false},
        {"inference_mode", true},
        {"init_lora_weights", true},
        {"layers_pattern", nullptr},
        {"layers_to_transform", nullptr},
        {"loftq_config", Json::object()},
        {"lora_alpha", number(alpha)},
        {"lora_bias", false},
        {"lora_dropout", 0.0},
        {"megatron_config", nullptr},
        {"megatron_core", "megatron.core"},
        {"modules_to_save", nullptr},
        {"peft_type", "LORA"},
        {"peft_version", "0.21.2"},
        {"r", rank},
        {"rank_pattern", ranks},
        {"revision", nullptr},
        {"target_modules", modules.empty() ? Json(nullptr) : modules},
        {"task_type", "CAUSAL_LM"},
        {"use_dora", adapter_.is_dora()},
        {"use_rslora", adapter_.rslora},
    };
    if (!parameters.empty()) {  // versions before 0.17 refuse the key
      json["target_parameters"] = parameters;
    }
    return json;
  }

  fs::path folder_;
  const PeftAdapter& adapter_;
  std::map<std::string, PeftTarget> targets_;  // by path
  std::vector<LowRankUpdate> of_mtp_;
};

}  // namespace

at::Tensor update_rows(const LowRankUpdate& update, int64_t first, int64_t rows) {
  const auto a = update.a_rI.to(at::kFloat), b = update.b_Or.to(at::kFloat);
  return is_embedding(update.matrix)
             ? at::mm(a.narrow(1, first, rows).t(), b.t()).mul_(update.scale)
             : at::mm(b.narrow(0, first, rows), a).mul_(update.scale);
}

at::Tensor change_of_rows(const LowRankUpdate& update, int64_t first, const at::Tensor& values_RI) {
  const auto rows = values_RI.size(0);
  const auto added_RI = update_rows(update, first, rows).to(values_RI.scalar_type());
  if (!update.magnitude_O.defined()) {
    return added_RI;
  }
  const auto sum_RI = values_RI + added_RI;
  const auto norms_R = sum_RI.square().sum(1).clamp_min(std::numeric_limits<float>::min()).sqrt();
  const auto factors_R =
      update.magnitude_O.narrow(0, first, rows).to(sum_RI.scalar_type()) / norms_R;
  return sum_RI * factors_R.unsqueeze(1) - values_RI;
}

bool is_peft_folder(const fs::path& folder) {
  return fs::exists(folder / kPeftConfig);
}

PeftAdapter read_peft(const fs::path& folder) {
  require(is_peft_folder(folder),
          folder.string(),
          ": holds no ",
          kPeftConfig,
          "; expected an adapter's folder as PEFT writes it");
  require(fs::exists(folder / kPeftWeights),
          folder.string(),
          ": holds no ",
          kPeftWeights,
          fs::exists(folder / "adapter_model.bin")
              ? "; adapter_model.bin is a pickle, which can run any code: load it with PEFT and "
                "save it with safe_serialization=True"
              : "; expected an adapter's folder as PEFT writes it");
  return PeftReader(folder).read();
}

void write_peft(const fs::path& folder, const PeftAdapter& adapter) {
  PeftWriter(folder, adapter).write();
}

double lora_alpha_of(double scale, int64_t rank, bool rslora) {
  const auto r = static_cast<double>(rank);
  return scale * (rslora ? std::sqrt(r) : r);
}

std::vector<LowRankUpdate> with_shared_inputs(std::vector<LowRankUpdate> updates, bool rslora) {
  std::map<std::string, std::size_t> places;
  for (std::size_t i = 0; i < updates.size(); ++i) {
    places[updates[i].matrix] = i;
  }
  const std::size_t count = updates.size();
  for (std::size_t i = 0; i < count; ++i) {
    const auto name = updates[i].matrix;
    const bool first = name.ends_with(".w1.weight"), third = name.ends_with(".w3.weight");
    if (!kind_of(name)->is_expert() || (!first && !third)) {
      continue;
    }
    auto partner = name;
    partner[name.size() - std::string_view("1.weight").size()] = first ? '3' : '1';
    const auto found = places.find(partner);
    if (found == places.end()) {
      auto other = updates[i];
      other.matrix = partner;
      other.b_Or = at::zeros_like(other.b_Or, at::MemoryFormat::Contiguous);
      updates.push_back(other);
      continue;
    }
    if (third) {
      continue;  // done with its w1
    }
    auto &w1 = updates[i], &w3 = updates[found->second];
    const bool same = w1.scale == w3.scale && w1.alpha == w3.alpha &&
                      (w1.a_rI.is_same(w3.a_rI) || w1.a_rI.equal(w3.a_rI));
    if (same) {
      continue;
    }
    const auto r1 = w1.a_rI.size(0), r3 = w3.a_rI.size(0);
    const auto a = at::cat({w1.a_rI, w3.a_rI});
    // One scale for both: that of w1, which leaves w1 and, where they were equal, w3 as they are.
    const auto b3 = w3.scale == w1.scale ? w3.b_Or : w3.b_Or * (w3.scale / w1.scale);
    w1.b_Or = at::cat({w1.b_Or, at::zeros({w1.b_Or.size(0), r3}, w1.b_Or.options())}, 1);
    w3.b_Or = at::cat({at::zeros({b3.size(0), r1}, b3.options()), b3}, 1);
    w1.a_rI = w3.a_rI = a;
    w1.alpha = w3.alpha = lora_alpha_of(w1.scale, r1 + r3, rslora);
    w3.scale = w1.scale;
  }
  return updates;
}

}  // namespace braid
