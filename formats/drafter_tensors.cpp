#include "formats/drafter_tensors.h"

#include <algorithm>

#include <ATen/ATen.h>

#include "core/error.h"
#include "core/parameter_names.h"
#include "formats/release_tensors.h"

namespace braid {
namespace {

constexpr int64_t kMarkovRank = 256, kBlockSize = 5;

// Of the published drafters; smaller models have fewer.
int64_t markov_rank(const ModelConfig& config) {
  return std::min(kMarkovRank, config.hidden_size / 4);
}

// The decoder layers whose streams the drafter reads: as many as there are blocks, the last ones.
std::vector<int64_t> target_layers(const ModelConfig& config, int64_t blocks) {
  std::vector<int64_t> layers;
  for (int64_t i = std::max<int64_t>(0, config.num_hidden_layers - blocks);
       i < config.num_hidden_layers;
       ++i) {
    layers.push_back(i);
  }
  return layers;
}

// A decoder layer that attends to a window and has learned routing.
ModelConfig one_block(const ModelConfig& config) {
  auto block = config;
  block.num_hidden_layers = 1;
  block.num_nextn_predict_layers = block.num_hash_layers = 0;
  block.compress_ratios.clear();
  block.layer_types = {AttentionKind::kWindow};
  block.routing = {RoutingKind::kLearned};
  return block;
}

}  // namespace

std::vector<StoredTensor> drafter_tensors(const ModelConfig& config,
                                          int64_t blocks,
                                          ReleaseLayout layout) {
  require(blocks >= 1, "a drafter has at least one block, got ", blocks);
  const int64_t width = config.hidden_size, rank = markov_rank(config);
  const auto read = static_cast<int64_t>(target_layers(config, blocks).size());
  std::vector<StoredTensor> result, of_block, heads;
  for (auto& tensor : release_tensors_of(one_block(config), layout)) {
    const auto parts = split_block(tensor.name);
    if (!parts.block.empty()) {
      of_block.push_back({std::string(parts.leaf), tensor.dtype, tensor.shape});
    } else if (tensor.name.starts_with("hc_head")) {
      heads.push_back(tensor);
    }
  }
  const auto scales = layout == ReleaseLayout::kBase ? at::kFloat : at::kFloat8_e8m0fnu;
  constexpr int64_t kTile = 128;
  const auto tiles = [](int64_t size) { return (size + kTile - 1) / kTile; };
  for (int64_t block = 0; block < blocks; ++block) {
    const auto add =
        [&](const std::string& name, at::ScalarType dtype, std::vector<int64_t> shape) {
          result.push_back({text("mtp.", block, ".", name), dtype, std::move(shape)});
        };
    for (const auto& tensor : of_block) {
      add(tensor.name, tensor.dtype, tensor.shape);
    }
    if (block == 0) {
      add("main_norm.weight", at::kBFloat16, {width});
      add("main_proj.weight", at::kFloat8_e4m3fn, {width, read * width});
      add("main_proj.scale", scales, {tiles(width), tiles(read * width)});
    }
    if (block + 1 == blocks) {
      for (const auto& tensor : heads) {
        add(tensor.name, tensor.dtype, tensor.shape);
      }
      add("norm.weight", at::kBFloat16, {width});
      add("markov_head.markov_w1.weight", at::kBFloat16, {config.vocab_size, rank});
      add("markov_head.markov_w2.weight", at::kBFloat16, {config.vocab_size, rank});
      add("confidence_head.proj.weight", at::kBFloat16, {1, width + rank});
    }
  }
  return result;
}

void add_drafter_keys(const ModelConfig& config, int64_t blocks, nlohmann::ordered_json& json) {
  json["num_nextn_predict_layers"] = 1;  // as it is published, whatever the number of blocks
  if (const auto ratios = json.find("compress_ratios"); ratios != json.end()) {
    for (int64_t i = 0; i < blocks; ++i) {
      ratios->push_back(0);
    }
  }
  json["dspark_block_size"] = kBlockSize;
  json["dspark_noise_token_id"] = 2;
  json["dspark_markov_rank"] = markov_rank(config);
  json["dspark_target_layer_ids"] = target_layers(config, blocks);
}

}  // namespace braid
