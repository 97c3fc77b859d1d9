#pragma once
// Checkpoints in the release's exact layout with random weights, for trying real sizes without the
// real files.
#include <cstdint>
#include <filesystem>
#include <functional>
#include <set>
#include <string>

#include "checkpoint/release_layout.h"
#include "model/config.h"

namespace braid {

struct SynthesizeOptions {
  ReleaseLayout layout = ReleaseLayout::kInstruct;
  std::set<int64_t> expert_layers;  ///< whose experts hold bytes; those of the others are holes
  bool sizes_only = false;          ///< every tensor is a hole, for `braid plan` alone
  /// Blocks of a DSpark drafter (mtp.*), as DeepSeek-V4-Flash-0731 has three; the model then has no
  /// MTP block.
  int64_t drafter_blocks = 0;
  uint64_t seed = 0;
  std::size_t shard_bytes = 5'000'000'000;
  std::function<void(std::size_t done, std::size_t total)> progress;  ///< bytes, holes included
};

/// Writes shards, index and config.json into the folder `path`, which must not exist. Weights are
/// valid codes with a standard deviation of about 0.02, norms one, the rest as a new model has it;
/// a hole reads as zeros. Memory: some 64 MB. Throws Error when the disk has no room, or on any
/// failure.
void synthesize_release(const std::filesystem::path& path,
                        const ModelConfig& config,
                        const SynthesizeOptions& options);

/// The model of these decoder layers of another, in their order, with or without its MTP block.
ModelConfig model_of_layers(const ModelConfig& config,
                            const std::vector<int64_t>& layers,
                            bool with_mtp);

}  // namespace braid
