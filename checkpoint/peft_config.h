#pragma once
#include <filesystem>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <nlohmann/json.hpp>

namespace braid {

/// What an adapter_config.json says.
class PeftConfig {
 public:
  /// Throws Error with file and key for what is missing, ill-typed, or not implemented.
  explicit PeftConfig(const std::filesystem::path& file);

  /// Of the module or parameter with this path ("model.layers.0.self_attn.q_a_proj",
  /// "model.layers.0.mlp.experts.down_proj").
  int64_t rank_of(const std::string& path) const;
  double alpha_of(const std::string& path) const;
  /// Whether rank_pattern says something of it.
  bool has_rank_pattern_for(const std::string& path) const;
  /// Whether target_parameters name the parameter with this path.
  bool targets_parameter(std::string_view path) const;
  double scale(double alpha, int64_t rank) const;

  bool rslora() const { return rslora_; }
  bool dora() const { return dora_; }
  const std::string& file() const { return file_; }
  const std::string& base_model() const { return base_model_; }
  const std::vector<std::string>& unknown_keys() const { return unknown_keys_; }

 private:
  using Pattern = std::pair<std::string, double>;

  void require_implemented(const nlohmann::json& json);
  std::vector<Pattern> patterns(const nlohmann::ordered_json& json, const char* key) const;
  int64_t whole_rank(const nlohmann::ordered_json& value, const std::string& key) const;
  bool flag(const nlohmann::ordered_json& json, const char* key) const;
  double positive(const nlohmann::ordered_json& value, const std::string& key) const;
  const Pattern* pattern_for(const std::vector<Pattern>& patterns, const std::string& path) const;

  std::string file_, base_model_;
  int64_t rank_ = 0;
  double alpha_ = 0;
  bool rslora_ = false, dora_ = false;
  std::vector<Pattern> rank_patterns_, alpha_patterns_;
  std::vector<std::string> target_parameters_, unknown_keys_;
};

}  // namespace braid
