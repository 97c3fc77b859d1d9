#include "formats/synthesize.h"

#include <algorithm>
#include <cstring>
#include <map>

#include <ATen/ATen.h>

#include "checkpoint/safetensors_plan.h"
#include "core/error.h"
#include "core/file.h"
#include "core/interruption.h"
#include "core/output_place.h"
#include "core/own_folder.h"
#include "core/parameter_names.h"
#include "core/random.h"
#include "core/temporary_folder.h"
#include "formats/drafter_tensors.h"
#include "formats/model_json.h"
#include "formats/release_tensors.h"
#include "kernels/codec.h"
#include "model/transformer.h"
#include "run/memory.h"

namespace braid {
namespace {

namespace fs = std::filesystem;

constexpr std::size_t kChunk = 64 << 20;
constexpr uint8_t kFp4Scale = 120;  // 2^-7: uniform codes have a standard deviation of 2.9
constexpr uint8_t kFp8Scale = 115;  // 2^-12: 448 is 5.5 standard deviations

// xorshift128+: not for statistics, but fills memory as fast as it can be written.
class Bits {
 public:
  explicit Bits(uint64_t key) : a_(random_bits(key, 0) | 1), b_(random_bits(key, 1)) {}
  uint64_t next() {
    uint64_t x = a_;
    const uint64_t y = b_;
    a_ = y;
    x ^= x << 23;
    b_ = x ^ y ^ (x >> 17) ^ (y >> 26);
    return b_ + y;
  }

 private:
  uint64_t a_, b_;
};

/// 65,536 normal values in a storage type, to be drawn from.
template <class T>
std::vector<T> drawn_values(const at::Tensor& stored) {
  const auto flat = stored.contiguous();
  std::vector<T> values(static_cast<std::size_t>(flat.numel()));
  std::memcpy(values.data(), flat.const_data_ptr(), flat.nbytes());
  return values;
}

at::Tensor normal_values() {
  auto values = at::empty({256, 256});
  for (int64_t i = 0; i < values.numel(); ++i) {
    values.data_ptr<float>()[i] = static_cast<float>(0.02 * random_normal(/*key=*/7, i));
  }
  return values;
}

template <class T>
void draw(const std::vector<T>& values, Bits& bits, std::vector<std::byte>& chunk) {
  auto* out = reinterpret_cast<T*>(chunk.data());
  uint64_t word = 0;
  for (std::size_t i = 0; i < chunk.size() / sizeof(T); ++i) {
    word = i % 4 == 0 ? bits.next() : word >> 16;
    out[i] = values[word & 0xffff];
  }
}

class Synthesizer {
 public:
  Synthesizer(const ModelConfig& config, const SynthesizeOptions& options)
      : options_(options),
        experts_(config.n_routed_experts),
        picks_(config.num_experts_per_tok),
        f32_(drawn_values<float>(normal_values())),
        bf16_(drawn_values<uint16_t>(normal_values().to(at::kBFloat16))),
        fp8_(drawn_values<uint8_t>(
            (normal_values() * std::ldexp(1.0, 127 - kFp8Scale)).to(at::kFloat8_e4m3fn))) {
    // Parameters whose initial values do not depend on the width are those of a narrow model.
    auto narrow = config;
    narrow.vocab_size = narrow.n_routed_experts = 8;
    narrow.num_experts_per_tok = 1;
    narrow.hidden_size = narrow.moe_intermediate_size = narrow.head_dim = narrow.q_lora_rank =
        narrow.o_lora_rank = narrow.index_head_dim = 8;
    narrow.qk_rope_head_dim = 2;
    narrow.num_attention_heads = narrow.o_groups = narrow.index_n_heads = 1;
    const Transformer model(narrow, at::kFloat, /*seed=*/0);
    for (const auto& [name, value] : model.parameters().tensors()) {
      if (kind_of(name)->role == ParameterRole::kMixing) {
        small_[name] = value.clone();
      }
    }
  }

  /// Whether the tensor becomes a hole in the file.
  bool is_hole(const std::string& name) const {
    if (options_.sizes_only) {
      return true;
    }
    const auto parsed = parsed_name(name);
    return parsed && parsed->kind->is_expert() && parsed->layer >= 0 &&
           !options_.expert_layers.contains(parsed->layer);
  }

  void write(const SafetensorsEntry& entry, AtomicFile& file) const {
    std::size_t remaining = entry.end - entry.begin;
    Bits bits(random_key(options_.seed, entry.name));
    std::vector<std::byte> chunk;
    for (std::size_t done = 0; remaining > 0; done += chunk.size()) {
      stop_if_interrupted();
      chunk.resize(std::min(remaining, kChunk));
      fill(entry, done, bits, chunk);
      file.write(chunk.data(), chunk.size());
      remaining -= chunk.size();
    }
  }

 private:
  static ParameterRole role_in_drafter(const std::string& name) {
    return name.ends_with("norm.weight") ? ParameterRole::kNorm : ParameterRole::kMatrix;
  }

  // The drafter's blocks are layers.
  const at::Tensor* small_value(const std::string& name) const {
    const auto found = small_.find(name);
    if (found != small_.end()) {
      return &found->second;
    }
    const auto parts = split_block(name);
    const auto like =
        small_.find((is_mtp(name) && parts.leaf.starts_with("hc_head") ? "" : "layers.0.") +
                    std::string(parts.leaf));
    return is_mtp(name) && like != small_.end() ? &like->second : nullptr;
  }

  void fill(const SafetensorsEntry& entry,
            std::size_t done,
            Bits& bits,
            std::vector<std::byte>& chunk) const {
    const auto& name = entry.name;
    const auto parsed = parsed_name(name);
    const auto role = parsed ? parsed->kind->role : role_in_drafter(name);
    if (const auto* small = small_value(name)) {
      require(small->nbytes() == chunk.size(), name, " has another size than expected");
      std::memcpy(chunk.data(), small->const_data_ptr(), chunk.size());
    } else if (entry.dtype == at::kChar) {
      for (std::size_t at = 0; at < chunk.size(); at += 8) {
        const uint64_t word = bits.next();
        std::memcpy(chunk.data() + at, &word, std::min<std::size_t>(8, chunk.size() - at));
      }
    } else if (entry.dtype == at::kFloat8_e4m3fn) {
      draw(fp8_, bits, chunk);
    } else if (is_scale(name)) {
      fill_scales(entry, chunk);
    } else if (entry.dtype == at::kLong) {
      auto* ids = reinterpret_cast<int64_t*>(chunk.data());
      for (std::size_t i = 0; i < chunk.size() / 8; ++i) {
        const auto at = static_cast<int64_t>(done / 8 + i);
        ids[i] = (at / picks_ * picks_ + at % picks_) % experts_;
      }
    } else if (entry.dtype == at::kBFloat16) {
      if (role == ParameterRole::kNorm) {
        std::fill_n(reinterpret_cast<uint16_t*>(chunk.data()), chunk.size() / 2, 0x3f80);
      } else {
        draw(bf16_, bits, chunk);
      }
    } else if (role == ParameterRole::kMatrix) {
      draw(f32_, bits, chunk);
    } else {
      std::fill(chunk.begin(), chunk.end(), std::byte{0});  // sinks, biases, position biases
    }
  }

  static void fill_scales(const SafetensorsEntry& entry, std::vector<std::byte>& chunk) {
    const bool fp4 = is_expert(entry.name) && entry.dtype == at::kFloat8_e8m0fnu;
    if (entry.dtype == at::kFloat) {
      std::fill_n(reinterpret_cast<float*>(chunk.data()),
                  chunk.size() / 4,
                  std::ldexp(1.0f, kFp8Scale - 127));
    } else {
      std::fill(chunk.begin(), chunk.end(), std::byte{fp4 ? kFp4Scale : kFp8Scale});
    }
  }

  const SynthesizeOptions& options_;
  int64_t experts_, picks_;
  std::vector<float> f32_;
  std::vector<uint16_t> bf16_;
  std::vector<uint8_t> fp8_;
  std::map<std::string, at::Tensor> small_;
};

}  // namespace

namespace {

std::vector<StoredTensor> all_tensors(const ModelConfig& config, const SynthesizeOptions& options) {
  auto tensors = release_tensors_of(config, options.layout);
  if (options.drafter_blocks > 0) {
    for (auto& tensor : drafter_tensors(config, options.drafter_blocks, options.layout)) {
      tensors.push_back(std::move(tensor));
    }
  }
  return tensors;
}

std::string config_json(const ModelConfig& config, const SynthesizeOptions& options) {
  auto json = model_json(config, options.layout, {});
  if (options.drafter_blocks == 0) {
    return json;
  }
  auto document = nlohmann::ordered_json::parse(json);
  add_drafter_keys(config, options.drafter_blocks, document);
  return document.dump(2) + "\n";
}

}  // namespace

void synthesize_release(const fs::path& path,
                        const ModelConfig& config,
                        const SynthesizeOptions& options) {
  require_absent(path, "choose another folder");
  const Synthesizer synthesizer(config, options);
  require(options.drafter_blocks == 0 || config.num_nextn_predict_layers == 0,
          "a model has an MTP block or a drafter, which both are called mtp");
  const auto shards = plan_shards(all_tensors(config, options), options.shard_bytes);
  std::size_t total = 0, needed = 0, done = 0;
  for (const auto& shard : shards) {
    total += shard.bytes;
    for (const auto& entry : shard.entries) {
      needed += synthesizer.is_hole(entry.name) ? 0 : entry.end - entry.begin;
    }
  }
  GrowingFolder growing(path, "another process is writing it");
  growing.clear();
  const TemporaryFolder folder(growing.partial());
  const auto room = fs::space(folder.path()).available;
  require(needed < room,
          path.string(),
          ": the disk has room for ",
          bytes_text(static_cast<int64_t>(room)),
          ", the checkpoint needs ",
          bytes_text(static_cast<int64_t>(needed)),
          "; give bytes to the experts of fewer layers");
  write_file_atomically(folder.path() / "config.json", config_json(config, options));
  for (const auto& shard : shards) {
    AtomicFile file(folder.path() / shard.file);
    file.write(shard.header);
    for (const auto& entry : shard.entries) {
      if (synthesizer.is_hole(entry.name)) {
        file.skip(entry.end - entry.begin);
      } else {
        synthesizer.write(entry, file);
      }
      done += entry.end - entry.begin;
      if (options.progress) {
        options.progress(done, total);
      }
    }
    file.commit();
  }
  if (shards.size() > 1) {
    write_file_atomically(folder.path() / "model.safetensors.index.json", index_json(shards));
  }
  growing.commit();
}

ModelConfig model_of_layers(const ModelConfig& config,
                            const std::vector<int64_t>& layers,
                            bool with_mtp) {
  auto result = config;
  result.num_hidden_layers = static_cast<int64_t>(layers.size());
  result.num_nextn_predict_layers = with_mtp ? config.num_nextn_predict_layers : 0;
  result.compress_ratios.clear();
  result.layer_types.clear();
  result.routing.clear();
  result.num_hash_layers = 0;  // `routing` says it layer by layer
  for (const int64_t layer : layers) {
    require(layer >= 0 && layer < config.num_hidden_layers,
            "layer ",
            layer,
            " is not one of the model's ",
            config.num_hidden_layers);
    const auto kept = config.layer(layer);
    result.compress_ratios.push_back(kept.ratio);
    result.layer_types.push_back(kept.attention);
    result.routing.push_back(kept.routing);
  }
  return result;
}

}  // namespace braid
