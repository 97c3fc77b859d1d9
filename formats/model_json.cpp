#include "formats/model_json.h"

#include <algorithm>
#include <cmath>
#include <set>
#include <string_view>

#include <nlohmann/json.hpp>

#include "checkpoint/strict_json.h"
#include "core/error.h"
#include "core/file.h"
#include "formats/model_json_keys.h"

namespace braid {
namespace {

using Json = nlohmann::json;

constexpr const char* kCsa = "compressed_sparse_attention";
constexpr const char* kHca = "heavily_compressed_attention";

ConfigNode node_of_json(const Json& json, const std::string& place) {
  ConfigNode node;
  if (json.is_string()) {
    node = ConfigNode::text(json.get<std::string>());
    node.quoted = true;  // text is no number, whatever it spells
  } else if (json.is_array()) {
    std::vector<ConfigNode> items;
    for (const auto& item : json) {
      items.push_back(node_of_json(item, place));
    }
    node = ConfigNode::sequence(std::move(items));
  } else if (json.is_object()) {
    node = ConfigNode::mapping({});
  } else if (!json.is_null()) {
    node = ConfigNode::plain(json.dump());
  }
  node.place = place;
  return node;
}

// A JSON object and where it is, for messages.
class Section {
 public:
  Section(const Json& json, std::string place) : json_(json), place_(std::move(place)) {
    require(json.is_object(), place_, ": expected an object, got ", json.type_name());
  }

  const Json& json() const { return json_; }
  const std::string& place() const { return place_; }
  bool has(const char* key) const { return json_.contains(key) && !json_.at(key).is_null(); }

  const Json& at(const char* key) const {
    require(has(key),
            place_,
            ": key '",
            key,
            "' is missing; is this the config.json of a DeepSeek-V4 model?");
    return json_.at(key);
  }

  Section section(const char* key) const { return {at(key), text(place_, ": ", key)}; }

  double number(const char* key) const {
    require(at(key).is_number(), place_, ": '", key, "' is ", at(key), ", expected a number");
    return at(key).get<double>();
  }

  std::vector<std::string> words(const char* key) const {
    require(at(key).is_array(), place_, ": '", key, "' is ", at(key), ", expected a list");
    std::vector<std::string> result;
    for (const auto& item : at(key)) {
      require(item.is_string(), place_, ": '", key, "' holds ", item, ", expected strings");
      result.push_back(item.get<std::string>());
    }
    return result;
  }

  /// The value as a node of the configuration, to be read with the ranges of its field.
  ConfigNode node(const char* key) const { return node_of_json(at(key), place_); }

  /// Requires the only values that Braid implements; null is as good as absent.
  void require_implemented(const OnlyValue& only) const {
    const auto values = Json::parse(only.values);
    require(!has(only.key) || std::ranges::find(values, json_.at(only.key)) != values.end(),
            place_,
            ": '",
            only.key,
            "' is ",
            json_.value(only.key, Json()),
            ", which changes what the model computes; Braid implements ",
            values.empty() ? "models without it" : joined_values(values),
            " only");
  }

 private:
  static std::string joined_values(const Json& values) {
    std::string result;
    for (const auto& value : values) {
      result += (result.empty() ? "" : " or ") + value.dump();
    }
    return result;
  }

  const Json& json_;
  std::string place_;
};

// The configuration's own spelling of what was read, each value with its place.
class Fields {
 public:
  void add(const char* key, ConfigNode value) { entries_.push_back({key, std::move(value)}); }
  void add(const char* key, const Section& from) { add(key, from.node(key)); }
  void add_if_there(const char* key, const Section& from) {
    if (from.has(key)) {
      add(key, from);
    }
  }
  ConfigNode take() { return ConfigNode::mapping(std::move(entries_)); }

 private:
  std::vector<ConfigNode::Entry> entries_;
};

std::string words_of_layers() {
  std::vector<std::string> words;
  for (const auto& each : kLayerWords) {
    words.emplace_back(each.word);
  }
  return joined(words);
}

ConfigNode choice(const std::string& name, const std::string& place) {
  auto node = ConfigNode::text(name);
  node.place = place;
  return node;
}

void add_layers_of_hf(const Section& json, Fields& fields) {
  const auto rates = json.section("compress_rates");
  std::vector<ConfigNode> kinds, ratios;
  for (const auto& word : json.words("layer_types")) {
    const auto known = std::ranges::find(kLayerWords, word, &LayerWord::word);
    require(known != kLayerWords.end(),
            json.place(),
            ": 'layer_types' holds '",
            word,
            "', expected one of ",
            words_of_layers());
    kinds.push_back(ConfigNode::text(enum_name(known->kind)));
    kinds.back().place = json.place();
    const bool compresses = word == kCsa || word == kHca;
    ratios.push_back(compresses ? rates.node(word.c_str()) : ConfigNode::plain("0"));
  }
  auto kinds_node = ConfigNode::sequence(std::move(kinds));
  auto ratios_node = ConfigNode::sequence(std::move(ratios));
  kinds_node.place = ratios_node.place = json.place();
  fields.add("layer_types", std::move(kinds_node));
  fields.add("compress_ratios", std::move(ratios_node));
}

void add_routing_of_hf(const Section& json, Fields& fields) {
  std::vector<ConfigNode> kinds;
  for (const auto& word : json.words("mlp_layer_types")) {
    require(word == "hash_moe" || word == "moe",
            json.place(),
            ": 'mlp_layer_types' holds '",
            word,
            "', expected hash_moe or moe");
    kinds.push_back(choice(word == "hash_moe" ? "hash" : "learned", json.place()));
  }
  auto node = ConfigNode::sequence(std::move(kinds));
  node.place = json.place();
  fields.add("routing", std::move(node));
}

// YaRN as Braid has it multiplies neither cosines nor scores by a factor.
void require_no_attention_factor(const Section& json) {
  json.require_implemented({"attention_factor", "[1, 1.0]"});
  json.require_implemented({"truncate", "[true]"});
  const Json nothing;
  const auto mscale = json.json().value("mscale", nothing),
             all_dim = json.json().value("mscale_all_dim", nothing);
  require(mscale == all_dim,
          json.place(),
          ": 'mscale' is ",
          mscale,
          " and 'mscale_all_dim' ",
          all_dim,
          ", which scales attention; Braid implements equal ones only");
}

void require_known_rope_keys(const Section& json) {
  for (const auto& [key, value] : json.json().items()) {
    require(value.is_null() || is_known(key, kRopeKeys),
            json.place(),
            ": '",
            key,
            "' is a key that Braid does not know, and it may change the rotary positions; Braid "
            "implements plain ones and YaRN with ",
            joined(kRopeKeys));
  }
}

std::string rope_type(const Section& json) {
  const char* kind = json.has("rope_type") ? "rope_type" : "type";
  json.require_implemented({kind, R"(["default", "yarn"])"});
  return json.has(kind) ? json.at(kind).get<std::string>() : "default";
}

void add_yarn(const Section& json, Fields& fields) {
  require_known_rope_keys(json);
  if (rope_type(json) == "default") {
    return;
  }
  require_no_attention_factor(json);
  Fields scaling;
  scaling.add("factor", json);
  scaling.add("original_max_position_embeddings", json);
  scaling.add_if_there("beta_fast", json);
  scaling.add_if_there("beta_slow", json);
  auto node = scaling.take();
  node.place = json.place();
  fields.add("rope_scaling", std::move(node));
}

int64_t rotary_channels(const Section& json, double head_dim) {
  const double channels = json.number("partial_rotary_factor") * head_dim;
  require(channels >= 0 && channels <= head_dim,
          json.place(),
          ": 'partial_rotary_factor' is ",
          json.at("partial_rotary_factor"),
          ", expected a number in [0, 1]");
  return std::llround(channels);
}

// Two spellings of one number must agree.
void require_rotary_channels(const Section& json, int64_t channels, double head_dim) {
  require(!json.has("partial_rotary_factor") || rotary_channels(json, head_dim) == channels,
          json.place(),
          ": 'partial_rotary_factor' is ",
          json.json().value("partial_rotary_factor", Json()),
          " of head_dim ",
          head_dim,
          ", but the model's rotary channels (qk_rope_head_dim) are ",
          channels);
}

void add_rope(const Section& json, Fields& fields) {
  const double head_dim = json.number("head_dim");
  const bool as_number = json.has("qk_rope_head_dim");
  const int64_t channels =
      as_number ? static_cast<int64_t>(std::clamp(json.number("qk_rope_head_dim"), -1e9, 1e9))
                : rotary_channels(json, head_dim);
  require_rotary_channels(json, channels, head_dim);
  auto node = as_number ? json.node("qk_rope_head_dim")
                        : node_of_json(channels, json.place() + ": partial_rotary_factor");
  fields.add("qk_rope_head_dim", std::move(node));
  if (!json.has("rope_parameters")) {
    fields.add("rope_theta", json);
    fields.add("compress_rope_theta", json);
    if (json.has("rope_scaling")) {
      // The release's rope_scaling carries a rope_theta of its own, which is not used.
      add_yarn(json.section("rope_scaling"), fields);
    }
    return;
  }
  const auto main = json.section("rope_parameters").section("main");
  const auto compress = json.section("rope_parameters").section("compress");
  require_known_rope_keys(main);
  require(rope_type(main) == "default",
          main.place(),
          ": is YaRN; Braid implements it for compressing layers only");
  require_rotary_channels(main, channels, head_dim);
  require_rotary_channels(compress, channels, head_dim);
  fields.add("rope_theta", main);
  fields.add("compress_rope_theta", compress.node("rope_theta"));
  add_yarn(compress, fields);
}

// A list that spells the layers a second time must say the same.
void require_same_layers(const Section& json, const ModelConfig& config) {
  const auto& ratios = json.json().value("compress_ratios", Json());
  const auto& hash_layers = json.json().value("num_hash_layers", Json());
  for (int64_t i = 0; i < config.num_hidden_layers; ++i) {
    const auto layer = config.layer(i);
    const auto index = static_cast<std::size_t>(i);
    require(!json.has("layer_types") || !ratios.is_array() || index >= ratios.size() ||
                ratios[index] == layer.ratio,
            json.place(),
            ": 'compress_ratios' and 'layer_types' contradict each other at layer ",
            i,
            "; keep one of them");
    const bool hash = layer.routing == RoutingKind::kHash;
    require(!json.has("mlp_layer_types") || !hash_layers.is_number_integer() ||
                hash == (i < hash_layers.get<int64_t>()),
            json.place(),
            ": 'num_hash_layers' and 'mlp_layer_types' contradict each other at layer ",
            i,
            "; keep one of them");
  }
}

bool says(const Json& value, const char* word) {
  return value.is_string() && value.get<std::string>().find(word) != std::string::npos;
}

// What model_type and architectures call the model, of a nested text_config too.
std::vector<Json> names_of_family(const Json& json) {
  std::vector<Json> names;
  const auto add = [&names](const Json& object) {
    if (!object.is_object()) {
      return;
    }
    names.push_back(object.value("model_type", Json()));
    const auto classes = object.value("architectures", Json());
    names.push_back(classes.is_array() && !classes.empty() ? classes.front() : Json());
  };
  add(json);
  add(json.value("text_config", Json()));
  return names;
}

void require_this_family(const Section& json) {
  constexpr const char* kNames[] = {"deepseek_v41", "deepseek_v4_1", "DeepseekV41", "DeepseekV4_1"};
  constexpr const char* kAdvice =
      "; expected the folder of a text model of DeepSeek-V4 (Flash, Pro, or one of their Bases)";
  const auto names = names_of_family(json.json());
  const auto newer = std::ranges::find_if(names, [&](const Json& name) {
    return std::ranges::any_of(kNames, [&name](const char* word) { return says(name, word); });
  });
  const char* key =
      newer == names.end() || (newer - names.begin()) % 2 == 0 ? "model_type" : "architectures";
  require(newer == names.end(),
          json.place(),
          ": '",
          key,
          "' is ",
          newer == names.end() ? Json() : *newer,
          ": DeepSeek-V4.1 is another architecture (CSA2, whose layers share compressed keys; "
          "single-pass mHC; Engram tables), which Braid does not implement",
          kAdvice);
  for (const char* images : {"vision_config", "text_config", "aligner_config", "vision_model"}) {
    require(!json.has(images),
            json.place(),
            ": describes a model of text and images (",
            images,
            "), as DeepSeek-V4-Flash-Vision is; Braid implements the text model deepseek_v4 only",
            kAdvice);
  }
  const auto &type = names[0], &name = names[1];
  require(type.is_null() || type == "deepseek_v4",
          json.place(),
          ": 'model_type' is ",
          type,
          ", another family; Braid implements \"deepseek_v4\" only",
          kAdvice);
  require(!type.is_null() || name.is_null() || says(name, "DeepseekV4"),
          json.place(),
          ": 'architectures' holds ",
          name,
          ", another family; Braid implements \"DeepseekV4ForCausalLM\" only",
          kAdvice);
}

// Others pack DeepSeek's weights anew, into codes of their own.
void require_no_repack(const Section& json) {
  constexpr const char* kModelOpt = "hf_quant_config.json";
  constexpr const char* kAdvice =
      ", a repack of other codes and scales (NVFP4 has a scale for 16 values); Braid reads the FP4 "
      "and FP8 that DeepSeek publishes, and weights that are not quantized: take the original "
      "folder";
  const auto quantization = json.json().value("quantization_config", Json());
  const auto method =
      quantization.is_object() ? quantization.value("quant_method", Json()) : Json();
  const auto kind = quantization.is_object()
                        ? quantization.value("quant_algo", quantization.value("format", Json()))
                        : Json();
  const bool is_nvfp4 = says(kind, "NVFP4") || says(kind, "nvfp4") || says(method, "nvfp4");
  require(!is_nvfp4 && method != "modelopt" && method != "compressed-tensors",
          json.place(),
          ": 'quantization_config' is ",
          method,
          kind.is_null() ? "" : " with " + kind.dump(),
          kAdvice);
  const auto beside = std::filesystem::path(json.place()).parent_path() / kModelOpt;
  require(!std::filesystem::exists(beside), beside.string(), ": says that this is", kAdvice + 1);
}

void require_implemented(const Section& json) {
  for (const auto& only : kOnlyValues) {
    json.require_implemented(only);
  }
  if (json.has("quantization_config")) {
    const auto quantization = json.section("quantization_config");
    quantization.at("quant_method");
    for (const auto& only : kOnlyQuantization) {
      quantization.require_implemented(only);
    }
  }
  if (json.has("v_head_dim")) {
    require(json.number("v_head_dim") == json.number("head_dim"),
            json.place(),
            ": 'v_head_dim' is ",
            json.at("v_head_dim"),
            "; in Braid values are the keys, of head_dim ",
            json.at("head_dim"),
            " channels");
  }
}

std::vector<std::string> unknown_keys(const Json& json) {
  std::vector<std::string> result;
  for (const auto& item : json.items()) {
    const std::string& key = item.key();
    const bool known =
        key.starts_with('_') || is_drafter_key(key) || is_known(key, kSameKeys) ||
        is_known(key, kOptionalKeys) || is_known(key, kSpelledKeys) ||
        is_known(key, kHarmlessKeys) ||
        std::ranges::any_of(kOnlyValues, [&](const auto& only) { return key == only.key; });
    if (!known && !item.value().is_null()) {
      result.push_back(key);
    }
  }
  return result;
}

// The drafter's blocks take the place of the MTP block, and have entries behind the layers'.
void remove_drafter(Json& json, const std::string& place) {
  json["num_nextn_predict_layers"] = 0;
  const auto layers = json.find("num_hidden_layers");
  const auto ratios = json.find("compress_ratios");
  if (layers == json.end() || !layers->is_number_unsigned() || ratios == json.end() ||
      !ratios->is_array()) {
    return;
  }
  for (auto i = layers->get<std::size_t>(); i < ratios->size(); ++i) {
    require((*ratios)[i] == 0,
            place,
            ": 'compress_ratios' of the DSpark drafter's blocks must be 0, entry ",
            i,
            " is ",
            (*ratios)[i]);
  }
  while (ratios->size() > layers->get<std::size_t>()) {
    ratios->erase(ratios->size() - 1);
  }
}

}  // namespace

bool is_drafter_key(std::string_view key) {
  return key.starts_with("dspark_");
}

ModelJson model_json_at(const std::filesystem::path& path) {
  require(std::filesystem::exists(path),
          path.string(),
          ": cannot be read; expected the config.json of a model");
  auto document = parse_strict_json(read_file(path), path.string());
  const Section json(document, path.string());
  require_this_family(json);
  require_no_repack(json);
  ModelJson result;
  for (const auto& [key, value] : document.items()) {
    result.has_drafter |= is_drafter_key(key);
  }
  if (result.has_drafter) {
    remove_drafter(document, path.string());
  }
  require_implemented(json);
  result.unknown_keys = unknown_keys(document);

  Fields fields;
  for (const char* key : kSameKeys) {
    fields.add(key, json);
  }
  for (const char* key : kOptionalKeys) {
    fields.add_if_there(key, json);
  }
  if (json.has("layer_types")) {
    add_layers_of_hf(json, fields);
  } else {
    fields.add("compress_ratios", json);
  }
  if (json.has("mlp_layer_types")) {
    add_routing_of_hf(json, fields);
  } else {
    fields.add("num_hash_layers", json);
  }
  add_rope(json, fields);
  auto& config = result.config;
  config.compress_ratios.clear();
  config.num_hash_layers = 0;
  ConfigPlaces places;
  auto tree = fields.take();
  tree.place = path.string();
  config_detail::read_value(tree, "", {}, places, config);
  try {
    config.validate();
  } catch (const ConfigError& error) {
    constexpr std::string_view kSection = "model.";
    fail(path.string(), ": '", error.key().substr(kSection.size()), "' ", error.message());
  }
  require_same_layers(json, config);
  return result;
}

ModelConfig read_model_json(const std::filesystem::path& path) {
  return model_json_at(path).config;
}

}  // namespace braid
