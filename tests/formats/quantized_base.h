#pragma once
#include <filesystem>
#include <string>
#include <vector>

#include "formats/base_sizes.h"
#include "formats/synthesize.h"
#include "tests/train/tiny_run.h"

namespace braid::testing {

/// A folder with `base`, a tiny model in the release's layout: experts in FP4, other matrices in
/// FP8.
class QuantizedBase : public TinyRun {
 protected:
  QuantizedBase() : base_(folder_ / "base") {
    synthesize_release(base_,
                       base_model(),
                       {.layout = ReleaseLayout::kInstruct,
                        .expert_layers = {0, 1, 2},
                        .seed = 5,
                        .shard_bytes = 100'000,
                        .progress = {}});
  }

  static ModelConfig base_model() {
    auto model = tiny_model();
    model.hidden_size = model.moe_intermediate_size = 32;
    return model;
  }

  /// A run that starts from it.
  RunConfig run_on_base(const std::string& name) const {
    auto run = config(name);
    run.model = base_model();
    run.run.init_from = base_.string();
    return run;
  }

  /// One that trains adapters of these matrices.
  RunConfig adapters_on_base(const std::string& name,
                             const std::vector<std::string>& targets) const {
    auto run = run_on_base(name);
    run.train.parameters.kind = TrainedParameters::Kind::kLora;
    run.adapter.rank = 4;
    run.adapter.alpha = 8;
    run.adapter.targets.items = targets;
    run.optimizer.learning_rate = 0.01;
    return run;
  }

  /// Of the codes and scales of one layer's experts.
  double layer_bytes() const {
    double bytes = 0;
    for (const auto& [name, its] : bytes_of_codes(base_)) {
      bytes += name.starts_with("layers.1.ffn.experts.") ? its : 0;
    }
    return bytes;
  }

  std::filesystem::path base_;
};

}  // namespace braid::testing
