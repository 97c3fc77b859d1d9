#include "formats/adapters.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <set>

#include <ATen/ATen.h>

#include "core/error.h"
#include "core/output_place.h"
#include "core/own_folder.h"
#include "core/parameter_names.h"
#include "kernels/codec.h"
#include "model/lora.h"
#include "run/run_folder.h"

namespace braid {
namespace {

namespace fs = std::filesystem;

/// An adapter of a matrix, or of that of all experts of a layer, as configurations say it.
struct AdapterShape {
  int64_t rank = 0;
  double alpha = 0;
  bool operator==(const AdapterShape&) const = default;
};

template <class Value, class Of>
Value most_frequent(const std::map<std::string, AdapterShape>& shapes, const Of& of) {
  std::map<Value, int64_t> counts;
  for (const auto& [name, shape] : shapes) {
    ++counts[of(shape)];
  }
  return std::ranges::max_element(counts, {}, [](const auto& entry) { return entry.second; })
      ->first;
}

// What describes these adapters; rank and alpha of most of them once, of the others by name.
LoraConfig lora_config_of(const std::vector<LowRankUpdate>& updates,
                          bool rslora,
                          const std::string& source) {
  std::map<std::string, AdapterShape> shapes;  // by name, of experts with a star
  for (const auto& update : updates) {
    const AdapterShape shape{update.a_rI.size(0), update.alpha};
    const auto [other, is_new] = shapes.emplace(with_starred_expert(update.matrix), shape);
    require(other->second == shape,
            source,
            ": the adapter of ",
            update.matrix,
            " has rank ",
            shape.rank,
            " and alpha ",
            shape.alpha,
            ", that of another expert of its layer ",
            other->second.rank,
            " and ",
            other->second.alpha,
            "; Braid computes the experts of a layer with one of each");
  }
  LoraConfig config;
  config.rslora = rslora;
  config.rank = most_frequent<int64_t>(shapes, [](const auto& shape) { return shape.rank; });
  config.alpha = most_frequent<double>(shapes, [](const auto& shape) { return shape.alpha; });
  config.targets.items.clear();
  for (const auto& [name, shape] : shapes) {
    config.targets.items.push_back(name);
    if (shape.rank != config.rank) {
      config.rank_pattern.push_back({name, shape.rank});
    }
    if (shape.alpha != config.alpha) {
      config.alpha_pattern.push_back({name, shape.alpha});
    }
  }
  return config;
}

// [in, out] of an embedding, whose adapter adds its transpose.
std::vector<int64_t> shape_of(const LowRankUpdate& update) {
  const auto out = update.b_Or.size(0), in = update.a_rI.size(1);
  return is_embedding(update.matrix) ? std::vector{in, out} : std::vector{out, in};
}

void require_shapes(const StoredModel& model, const PeftAdapter& adapter) {
  for (const auto& update : adapter.updates) {
    const auto weight = model.weights.find(update.matrix);
    require(weight != model.weights.end(),
            adapter.source,
            ": has an adapter of ",
            update.matrix,
            ", a matrix that ",
            model.source,
            " does not have; is it of another model?");
    const auto shape = shapes_of({*weight}).at(update.matrix);
    require(shape == shape_of(update),
            adapter.source,
            ": the adapter of ",
            update.matrix,
            " is for a matrix ",
            at::IntArrayRef(shape_of(update)),
            ", but that of ",
            model.source,
            " is ",
            at::IntArrayRef(shape),
            "; is it of another model?");
  }
}

at::Tensor decoded(const Weight& weight) {
  return weight.quantized() ? decode({weight.values, weight.scales}, at::kFloat)
                            : weight.values.to(at::kFloat);
}

void require_base_copies(const StoredModel& model, const PeftAdapter& adapter) {
  for (const auto& base_copy : adapter.base_copies) {
    const auto& name = base_copy.name;
    const at::Tensor& copy = base_copy.value;
    const auto weight = model.weights.find(name);
    const bool equal = weight != model.weights.end() && [&] {
      const auto own = decoded(weight->second);
      return own.sizes() == copy.sizes() &&
             (own.equal(copy.to(at::kFloat)) || own.to(copy.scalar_type()).equal(copy));
    }();
    require(equal,
            adapter.source,
            ": holds ",
            name,
            " whole, with other values than ",
            model.source,
            ": it was trained, or the vocabulary resized, which an adapter cannot say. Merge it "
            "into its base with PEFT (merge_and_unload) and open the result");
  }
}

// The MTP block's, of a folder whose others are for the model.
void leave_out_mtp(StoredModel& model, PeftAdapter& adapter) {
  const bool has_mtp =
      std::ranges::any_of(model.weights, [](const auto& entry) { return is_mtp(entry.first); });
  if (has_mtp) {
    return;
  }
  const auto left_out =
      std::erase_if(adapter.updates, [](const auto& update) { return is_mtp(update.matrix); });
  require(!adapter.updates.empty(),
          adapter.source,
          ": has adapters of the MTP block alone, which ",
          model.source,
          " does not have");
  if (left_out > 0) {
    model.notes.push_back(text(adapter.source,
                               ": the adapters of ",
                               left_out,
                               " matrices of the MTP block are left out, which ",
                               model.source,
                               " does not have"));
  }
}

// Of the files that the frozen weights are in; empty where they are in a run's checkpoint.
std::string own_fingerprint(const StoredModel& model) {
  return model.base.empty() ? std::string() : fingerprint_of(model.base);
}

void require_base(StoredModel& model,
                  const PeftAdapter& adapter,
                  const std::string& fingerprint,
                  bool any_base) {
  const auto& trained_on = adapter.base_fingerprint;
  if (any_base || trained_on == fingerprint) {
    if (!any_base && trained_on.empty()) {
      model.notes.push_back(text(adapter.source,
                                 ": neither the adapter nor the model says which base it is of, so "
                                 "only shapes could be compared"));
    }
    return;
  }
  if (trained_on.empty() || fingerprint.empty()) {
    model.notes.push_back(text(adapter.source,
                               trained_on.empty()
                                   ? ": does not say by a fingerprint which base it was trained on"
                                   : ": was trained on a base in files of its own",
                               ", so that only shapes could be compared with ",
                               model.source));
    return;
  }
  fail(adapter.source,
       ": was trained on another base than ",
       model.base,
       adapter.base_model.empty() ? "" : text(", on the one that was in ", adapter.base_model),
       " (fingerprint ",
       trained_on,
       ", not ",
       fingerprint,
       "); name that one, or give --any-base where this holds the same weights in other files");
}

// Concatenated: [A1; A2] and [s1 B1, s2 B2] with scale 1.
LowRankUpdate sum_of(const std::vector<LowRankUpdate>& updates) {
  if (updates.size() == 1) {
    return updates.front();
  }
  std::vector<at::Tensor> as, bs;
  for (const auto& update : updates) {
    as.push_back(update.a_rI);
    bs.push_back(update.b_Or * update.scale);
  }
  const auto a = at::cat(as);
  return {updates.front().matrix, a, at::cat(bs, 1), static_cast<double>(a.size(0)), 1};
}

std::vector<LowRankUpdate> sums_of(const std::vector<std::vector<LowRankUpdate>>& lists) {
  std::map<std::string, std::vector<LowRankUpdate>> by_matrix;
  for (const auto& list : lists) {
    for (const auto& update : list) {
      by_matrix[update.matrix].push_back(update);
    }
  }
  std::vector<LowRankUpdate> result;
  for (const auto& [matrix, updates] : by_matrix) {
    result.push_back(sum_of(updates));
  }
  return result;
}

// Experts that have none beside those that have one: B = 0.
void complete_experts(int64_t experts, std::vector<LowRankUpdate>& updates) {
  std::map<std::string, const LowRankUpdate*> stacks;
  std::set<std::string> present;
  for (const auto& update : updates) {
    present.insert(update.matrix);
    if (is_expert(update.matrix)) {
      stacks.emplace(with_starred_expert(update.matrix), &update);
    }
  }
  std::vector<LowRankUpdate> missing;
  for (const auto& [stack, like] : stacks) {
    for (int64_t e = 0; e < experts; ++e) {
      const auto name = name_in_stack(stack, e);
      if (!present.contains(name)) {
        auto update = *like;
        update.matrix = name;
        update.b_Or = at::zeros(like->b_Or.sizes(), like->b_Or.options());
        missing.push_back(update);
      }
    }
  }
  updates.insert(updates.end(), missing.begin(), missing.end());
}

void put_weights(const std::vector<LowRankUpdate>& updates, StoredModel& model) {
  const auto put = [&model](const std::string& name, const at::Tensor& value) {
    model.weights[name] = Weight(value);
    model.not_in_base.insert(name);
  };
  for (const auto& update : updates) {
    put(lora_a_name(update.matrix), update.a_rI);
    put(lora_b_name(update.matrix), update.b_Or);
    if (update.magnitude_O.defined()) {
      put(lora_magnitude_name(update.matrix), update.magnitude_O);
    }
  }
}

bool any_is_dora(const std::vector<LowRankUpdate>& updates) {
  return std::ranges::any_of(updates, [](const auto& one) { return one.magnitude_O.defined(); });
}

void put_adapters(StoredModel& model,
                  std::vector<LowRankUpdate> updates,
                  bool rslora,
                  const std::string& source) {
  updates = with_shared_inputs(std::move(updates), rslora);
  complete_experts(model.config.n_routed_experts, updates);
  model.lora = lora_config_of(updates, rslora, source);
  model.lora->dora = any_is_dora(updates);
  put_weights(updates, model);
}

// The run's configuration of these matrices is what the folder has.
void require_same_adapters(const LoraConfig& run,
                           const StoredModel& model,
                           const std::vector<LowRankUpdate>& updates,
                           const std::string& source) {
  std::set<std::string> given;
  for (const auto& update : updates) {
    const auto name = with_starred_expert(update.matrix);
    given.insert(name);
    const auto matrix = lora_matrix(run, name);
    require(matrix.has_value(),
            "adapter.targets: names no ",
            name,
            ", of which adapter.init_from (",
            source,
            ") has an adapter; name it, too");
    const auto rank = update.a_rI.size(0);
    require(matrix->rank == rank,
            "adapter.rank: is ",
            matrix->rank,
            " for ",
            name,
            ", but ",
            rank,
            " in adapter.init_from (",
            source,
            "); set adapter.rank or adapter.rank_pattern to that");
    constexpr double kRounding = 1e-9;
    require(std::abs(matrix->scale - update.scale) <= kRounding * update.scale,
            "adapter.alpha: is ",
            matrix->alpha,
            " for ",
            name,
            ", which makes its scale ",
            matrix->scale,
            ", but ",
            update.scale,
            " in adapter.init_from (",
            source,
            ", alpha ",
            update.alpha,
            "); set adapter.alpha, adapter.alpha_pattern and adapter.rslora to what it has");
  }
  for (const auto& [name, weight] : model.weights) {
    const auto starred = with_starred_expert(name);
    require(
        is_adapter(name) || !kind_of(name) || !lora_matrix(run, starred) || given.contains(starred),
        "adapter.targets: names ",
        starred,
        ", of which adapter.init_from (",
        source,
        ") has no adapter; leave it out");
  }
}

std::vector<LowRankUpdate> updates_in(const StoredModel& model) {
  std::vector<LowRankUpdate> updates;
  if (!model.lora) {
    return updates;
  }
  for (const auto& [name, weight] : model.weights) {
    if (is_adapter(name)) {
      continue;
    }
    const auto* kind = kind_of(name);
    const auto matrix =
        kind == nullptr ? std::nullopt : lora_matrix(*model.lora, with_starred_expert(name));
    if (!matrix) {
      continue;
    }
    const auto value_of = [&model](const std::string& of) {
      const auto found = model.weights.find(of);
      require(found != model.weights.end(), model.source, ": has no tensor ", of);
      return found->second.values.to(at::kFloat);
    };
    updates.push_back({name,
                       value_of(lora_a_name(name)),
                       value_of(lora_b_name(name)),
                       matrix->alpha,
                       matrix->scale,
                       model.lora->dora ? value_of(lora_magnitude_name(name)) : at::Tensor()});
  }
  return updates;
}

}  // namespace

PeftAdapter read_adapter(const fs::path& folder) {
  require(fs::is_directory(folder),
          folder.string(),
          ": no such folder; adapters are in a folder with adapter_config.json (PEFT's layout), or "
          "in a run or checkpoint that trained some");
  if (is_peft_folder(folder)) {
    return read_peft(folder);
  }
  const auto model = read_model(folder);
  require(model.lora.has_value(),
          folder.string(),
          ": has no LoRA adapters; expected a folder with adapter_config.json, or a run or "
          "checkpoint that trained some (train.parameters: lora)");
  PeftAdapter adapter;
  adapter.source = model.source;
  adapter.updates = updates_in(model);
  adapter.rslora = model.lora->rslora;
  adapter.base_model = model.base;
  adapter.base_fingerprint = own_fingerprint(model);
  return adapter;
}

std::vector<LowRankUpdate> take_adapters(StoredModel& model) {
  auto updates = updates_in(model);
  std::erase_if(model.weights, [](const auto& entry) { return is_adapter(entry.first); });
  model.lora.reset();
  return updates;
}

void require_addable(const std::vector<std::vector<LowRankUpdate>>& adapters,
                     const std::string& source) {
  require(adapters.size() < 2 || std::ranges::none_of(adapters, any_is_dora),
          source,
          ": is to have several adapters, one of which is DoRA's. It gives the rows of a matrix "
          "their lengths, which is no sum with what others add; merge one adapter first (`braid "
          "merge`), and add the next one to the result");
}

std::vector<PeftAdapter> adapters_for(StoredModel& model, const AdapterFolders& adapters) {
  std::vector<PeftAdapter> result;
  const auto fingerprint = adapters.folders.empty() ? std::string() : own_fingerprint(model);
  for (const auto& folder : adapters.folders) {
    result.push_back(read_adapter(folder));
    auto& adapter = result.back();
    leave_out_mtp(model, adapter);
    require_base(model, adapter, fingerprint, adapters.any_base);
    require_shapes(model, adapter);
    require_base_copies(model, adapter);
    model.notes.insert(model.notes.end(), adapter.notes.begin(), adapter.notes.end());
  }
  return result;
}

void add_adapters(StoredModel& model, const AdapterFolders& adapters) {
  if (adapters.folders.empty()) {
    return;
  }
  std::vector<std::vector<LowRankUpdate>> lists;
  bool rslora = model.lora && model.lora->rslora;
  if (model.lora) {
    lists.push_back(take_adapters(model));
  }
  for (const auto& adapter : adapters_for(model, adapters)) {
    rslora = adapter.rslora;
    lists.push_back(with_shared_inputs(adapter.updates, adapter.rslora));
  }
  require_addable(lists, model.source);
  if (lists.size() == 1) {
    put_adapters(model, lists.front(), rslora, adapters.folders.front());
    return;
  }
  // Each scale is that of its adapter, whatever rank and alpha then say.
  auto sums = sums_of(lists);
  for (auto& update : sums) {
    update.alpha = lora_alpha_of(update.scale, update.a_rI.size(0), /*rslora=*/false);
  }
  put_adapters(model, std::move(sums), /*rslora=*/false, adapters.folders.back());
}

void start_from_adapter(StoredModel& model, const fs::path& folder) {
  require(model.lora && model.draws_adapters,
          "adapter.init_from: is ",
          folder.string(),
          ", but ",
          model.source,
          " has adapters already; leave the key out to train those, or merge them first (`braid "
          "merge`)");
  const auto read = adapters_for(model, {.folders = {folder.string()}, .any_base = false});
  const bool dora = read.front().is_dora();
  require(model.lora->dora == dora,
          "adapter.dora: is ",
          dora ? "false, but the adapters of adapter.init_from ("
               : "true, but the adapters of adapter.init_from (",
          folder.string(),
          dora ? ") are DoRA's, with magnitudes; set it to true"
               : ") have no magnitudes; leave one of the two keys out");
  auto updates = with_shared_inputs(read.front().updates, read.front().rslora);
  complete_experts(model.config.n_routed_experts, updates);
  require_same_adapters(*model.lora, model, updates, folder.string());
  put_weights(updates, model);
  model.draws_adapters = false;
}

WrittenAdapter write_adapter(const fs::path& source, const fs::path& target) {
  require(target.has_filename(), "'", target.string(), "' does not end in a folder's name");
  require_absent(target, "remove it or choose another folder for the adapter");
  auto adapter = read_adapter(source);
  require_not_an_input(target, {adapter.source});
  WrittenAdapter written;
  written.notes = adapter.notes;
  adapter.updates = with_shared_inputs(std::move(adapter.updates), adapter.rslora);
  std::set<const void*> counted;  // w1 and w3 share their A
  for (const auto& update : adapter.updates) {
    ++written.matrices;
    written.of_mtp += is_mtp(update.matrix) ? 1 : 0;
    written.parameters += update.b_Or.numel();
    written.parameters += update.magnitude_O.defined() ? update.magnitude_O.numel() : 0;
    if (counted.insert(update.a_rI.const_data_ptr()).second) {
      written.parameters += update.a_rI.numel();
    }
  }
  GrowingFolder folder(target, "another process is writing the adapter there");
  folder.clear();
  write_peft(folder.partial(), adapter);
  folder.commit();
  return written;
}

}  // namespace braid
