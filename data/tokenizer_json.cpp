#include "data/tokenizer_json.h"

#include <optional>
#include <string_view>
#include <unordered_map>
#include <unordered_set>
#include <utility>

#include <nlohmann/json.hpp>

#include "core/error.h"
#include "data/byte_level.h"

namespace braid {
namespace {

using nlohmann::json;

constexpr uint64_t kMostIds = uint64_t{1} << 22;
constexpr std::size_t kLongestEntry = 65535;  // a token store keeps byte lengths in 2 bytes
constexpr uint32_t kNoId = ~uint32_t{0};

// What ByteLevel cuts by when its use_regex is set (GPT-2).
constexpr const char* kByteLevelPattern =
    "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+";

/// A value of the file and its path, which begins every message.
class JsonPlace {
 public:
  JsonPlace(const json& value, const std::string& file, std::string path = {})
      : value_(&value), file_(file), path_(std::move(path)) {}

  template <class... Parts>
  [[noreturn]] void refuse(const Parts&... parts) const {
    fail(place(), ": ", parts...);
  }

  /// "tokenizer.json: model.merges[3]"
  std::string place() const { return path_.empty() ? file_ : text(file_, ": ", path_); }
  const json& value() const { return *value_; }
  bool is_null() const { return value_->is_null(); }

  /// The value under a key; null where there is none.
  JsonPlace at(const char* key) const {
    static const json null;
    require_kind(value_->is_object(), "an object");
    const auto found = value_->find(key);
    return under(found == value_->end() ? null : *found, text(path_.empty() ? "" : ".", key));
  }

  JsonPlace item(std::size_t i) const { return under((*value_)[i], text("[", i, "]")); }

  JsonPlace under(const json& value, const std::string& step) const {
    return {value, file_, path_ + step};
  }

  std::vector<JsonPlace> items() const {
    require_kind(value_->is_array(), "a list");
    std::vector<JsonPlace> result;
    for (std::size_t i = 0; i < value_->size(); ++i) {
      result.push_back(item(i));
    }
    return result;
  }

  const std::string& string() const {
    require_kind(value_->is_string(), "a string");
    return value_->get_ref<const std::string&>();
  }

  /// `absent` where there is no such value.
  bool flag(bool absent) const {
    require_kind(value_->is_boolean() || is_null(), "true or false");
    return is_null() ? absent : value_->get<bool>();
  }

  int64_t id() const {
    require_kind(value_->is_number_integer(), "a whole number");
    if (!value_->is_number_unsigned() || value_->get<uint64_t>() >= kMostIds) {
      refuse("is ", value_->dump(), "; expected an id in 0..", kMostIds - 1);
    }
    return value_->get<int64_t>();
  }

  void require_kind(bool is, const char* expected) const {
    if (!is) {
      refuse("is ", is_null() ? "missing" : value_->type_name(), "; expected ", expected);
    }
  }

 private:
  const json* value_;
  const std::string& file_;
  std::string path_;
};

/// Reads the file's parts into one TokenizerJson.
class TokenizerJsonReader {
 public:
  explicit TokenizerJsonReader(const JsonPlace& root) : root_(root) {}

  TokenizerJson read() {
    root_.require_kind(root_.value().is_object(), "an object");
    read_model(root_.at("model"));
    read_added_tokens(root_.at("added_tokens"));
    read_normalizer(root_.at("normalizer"));
    read_pre_tokenizer(root_.at("pre_tokenizer"));
    if (!byte_level_) {
      root_.at("pre_tokenizer")
          .refuse("holds no ByteLevel; only vocabularies over bytes are supported");
    }
    check_post_processor(root_.at("post_processor"));
    check_decoder(root_.at("decoder"));
    return std::move(result_);
  }

 private:
  void read_model(const JsonPlace& model) {
    model.require_kind(model.value().is_object(), "an object");
    if (const auto type = model.at("type"); !type.is_null() && type.string() != "BPE") {
      type.refuse("'", type.string(), "' is not supported; expected 'BPE'");
    }
    if (const auto dropout = model.at("dropout");
        !dropout.is_null() && !(dropout.value().is_number() && dropout.value() == 0)) {
      dropout.refuse(
          "is ", dropout.value().dump(), "; merges left out at random are not supported");
    }
    for (const char* key : {"continuing_subword_prefix", "end_of_word_suffix"}) {
      if (const auto affix = model.at(key); !affix.is_null() && !affix.string().empty()) {
        affix.refuse("is '", affix.string(), "', which is not supported; expected none");
      }
    }
    if (const auto fallback = model.at("byte_fallback"); fallback.flag(false)) {
      fallback.refuse("is true, which is not supported; expected a vocabulary over bytes");
    }
    result_.ignore_merges = model.at("ignore_merges").flag(false);
    read_vocabulary(model.at("vocab"));
    read_merges(model.at("merges"));
  }

  void read_vocabulary(const JsonPlace& vocab) {
    vocab.require_kind(vocab.value().is_object(), "an object of ids");
    ids_.reserve(vocab.value().size());
    for (const auto& [spelling, value] : vocab.value().items()) {
      // A place is made for a message alone: there are many entries.
      const auto place = [&, &key = spelling, &entry = value] {
        return vocab.under(entry, text("[\"", key, "\"]"));
      };
      const bool is_id = value.is_number_unsigned() && value.get<uint64_t>() < kMostIds;
      const int64_t id = is_id ? value.get<int64_t>() : place().id();
      if (spelling.empty()) {
        place().refuse("is an entry without a character");
      }
      add_entry(id, bytes_of_symbols(spelling).value_or(spelling), place);
      ids_.emplace(spelling, static_cast<uint32_t>(id));
    }
    for (int byte = 0; byte < 256; ++byte) {
      const auto symbol = byte_symbol(static_cast<uint8_t>(byte));
      const uint32_t id = id_of(symbol);
      if (id == kNoId) {
        vocab.refuse("has no entry '",
                     symbol,
                     "', which stands for the byte ",
                     byte,
                     "; only vocabularies that hold all 256 bytes are supported");
      }
      result_.byte_ids[static_cast<std::size_t>(byte)] = id;
    }
  }

  template <class PlaceOf>
  void add_entry(int64_t id, std::string bytes, const PlaceOf& place) {
    if (bytes.size() > kLongestEntry) {
      place().refuse(
          "stands for ", bytes.size(), " bytes; at most ", kLongestEntry, " are supported");
    }
    const auto i = static_cast<std::size_t>(id);
    if (i >= result_.entries.size()) {
      result_.entries.resize(i + 1);
    }
    if (!result_.entries[i].empty()) {
      place().refuse("has the id ", id, ", which another token has too");
    }
    result_.entries[i] = std::move(bytes);
  }

  uint32_t id_of(std::string_view spelling) const {
    const auto found = ids_.find(spelling);
    return found == ids_.end() ? kNoId : found->second;
  }

  // "left right", or ["left", "right"]
  void read_merges(const JsonPlace& merges) {
    merges.require_kind(merges.value().is_array(), "a list");
    std::string merged;
    for (std::size_t i = 0; i < merges.value().size(); ++i) {
      const json& merge = merges.value()[i];
      std::string_view left, right;
      if (merge.is_string()) {
        const std::string_view both = merge.get_ref<const std::string&>();
        const auto space = both.find(' ');
        left = both.substr(0, space);
        right = space == both.npos ? std::string_view() : both.substr(space + 1);
      } else if (merge.is_array() && merge.size() == 2 && merge[0].is_string() &&
                 merge[1].is_string()) {
        left = merge[0].get_ref<const std::string&>();
        right = merge[1].get_ref<const std::string&>();
      }
      if (left.empty() || right.empty()) {
        merges.item(i).refuse("is ",
                              shortened(merge),
                              "; expected \"left right\" or [\"left\", "
                              "\"right\"]");
      }
      merged.assign(left).append(right);
      const BpeMerge ids{id_of(left), id_of(right), id_of(merged)};
      for (const auto& [id, spelling] : {std::pair{ids.left, left},
                                         std::pair{ids.right, right},
                                         std::pair{ids.merged, std::string_view(merged)}}) {
        if (id == kNoId) {
          merges.item(i).refuse("'", spelling, "' is not in the vocabulary");
        }
      }
      result_.merges.push_back(ids);
    }
  }

  static std::string shortened(const json& value) {
    auto result = value.dump(-1, ' ', false, json::error_handler_t::replace);
    if (result.size() > 80) {
      result.resize(80);
    }
    return result;
  }

  void read_added_tokens(const JsonPlace& tokens) {
    if (tokens.is_null()) {
      return;
    }
    std::unordered_set<std::string> seen;
    const std::vector<bool> made = ids_made_of_text();
    for (const JsonPlace& place : tokens.items()) {
      AddedToken token;
      token.id = place.at("id").id();
      token.content = place.at("content").string();
      token.special = place.at("special").flag(false);
      token.normalized = place.at("normalized").flag(!token.special);
      token.takes_left_spaces = place.at("lstrip").flag(false);
      token.takes_right_spaces = place.at("rstrip").flag(false);
      if (place.at("single_word").flag(false)) {
        place.at("single_word").refuse("is true, which is not supported; expected false");
      }
      if (token.content.empty()) {
        place.at("content").refuse("is empty");
      }
      if (!seen.insert(token.content).second) {
        place.at("content").refuse("'", token.content, "' comes twice");
      }
      if (const uint32_t id = id_of(token.content); id == kNoId) {
        add_entry(token.id, token.content, [&] { return place.at("id"); });
      } else if (id != token.id) {
        place.at("id").refuse(
            "is ", token.id, ", but '", token.content, "' has the id ", id, " in model.vocab");
      } else if (made[id]) {
        place.at("content").refuse("'",
                                   token.content,
                                   "' is also what text becomes without it; tokens that are both "
                                   "are not supported");
      } else {
        result_.entries[id] = token.content;
      }
      result_.added.push_back(std::move(token));
    }
  }

  // Which ids may come out of text by the vocabulary alone.
  std::vector<bool> ids_made_of_text() const {
    std::vector<bool> made(result_.entries.size());
    for (const uint32_t id : result_.byte_ids) {
      made[id] = true;
    }
    for (const BpeMerge& merge : result_.merges) {
      made[merge.merged] = true;
    }
    return made;
  }

  void read_normalizer(const JsonPlace& normalizer) {
    if (normalizer.is_null()) {
      return;
    }
    const auto type = normalizer.at("type");
    if (type.string() != "Sequence") {
      type.refuse("'",
                  type.string(),
                  "' is not supported; expected no normalizer, for text must "
                  "come back from its ids byte for byte");
    }
    for (const JsonPlace& part : normalizer.at("normalizers").items()) {
      read_normalizer(part);
    }
  }

  void read_pre_tokenizer(const JsonPlace& stage) {
    const auto type = stage.at("type");
    if (type.string() == "Sequence") {
      for (const JsonPlace& part : stage.at("pretokenizers").items()) {
        read_pre_tokenizer(part);
      }
    } else if (byte_level_) {
      type.refuse("'", type.string(), "' after ByteLevel is not supported");
    } else if (type.string() == "ByteLevel") {
      read_byte_level(stage);
    } else if (type.string() == "Split") {
      read_split(stage);
    } else {
      type.refuse("'",
                  type.string(),
                  "' is not supported; expected Split, ByteLevel or a Sequence "
                  "of them");
    }
  }

  void read_byte_level(const JsonPlace& stage) {
    byte_level_ = true;
    if (const auto prefix = stage.at("add_prefix_space"); prefix.flag(true)) {
      prefix.refuse(
          "is true, which is not supported: it puts a space before every text; expected "
          "false");
    }
    if (stage.at("use_regex").flag(true)) {
      result_.patterns.push_back({kByteLevelPattern, stage.place() + ".use_regex"});
    }
  }

  void read_split(const JsonPlace& stage) {
    if (const auto behavior = stage.at("behavior"); behavior.string() != "Isolated") {
      behavior.refuse("'", behavior.string(), "' is not supported; expected 'Isolated'");
    }
    if (const auto invert = stage.at("invert"); invert.flag(false)) {
      invert.refuse("is true, which is not supported; expected false");
    }
    const auto pattern = stage.at("pattern");
    pattern.require_kind(pattern.value().is_object(), "an object");
    if (pattern.at("Regex").is_null()) {
      result_.patterns.push_back(
          {literal(pattern.at("String").string()), pattern.place() + ".String"});
    } else {
      result_.patterns.push_back({pattern.at("Regex").string(), pattern.place() + ".Regex"});
    }
  }

  // The regular expression of a text.
  static std::string literal(const std::string& exact) {
    std::string result;
    for (const char c : exact) {
      if (std::string_view("\\^$.|?*+()[]{}").find(c) != std::string_view::npos) {
        result += '\\';
      }
      result += c;
    }
    return result;
  }

  void check_post_processor(const JsonPlace& processor) const {
    if (processor.is_null()) {
      return;
    }
    const auto type = processor.at("type");
    if (type.string() == "Sequence") {
      for (const JsonPlace& part : processor.at("processors").items()) {
        check_post_processor(part);
      }
    } else if (type.string() != "ByteLevel" && type.string() != "TemplateProcessing") {
      type.refuse("'",
                  type.string(),
                  "' is not supported; expected ByteLevel, TemplateProcessing "
                  "or none");
    }
  }

  void check_decoder(const JsonPlace& decoder) const {
    if (decoder.is_null()) {
      return;
    }
    const auto type = decoder.at("type");
    if (type.string() == "Sequence") {
      for (const JsonPlace& part : decoder.at("decoders").items()) {
        check_decoder(part);
      }
    } else if (type.string() != "ByteLevel") {
      type.refuse("'", type.string(), "' is not supported; expected ByteLevel");
    }
  }

  JsonPlace root_;
  TokenizerJson result_;
  std::unordered_map<std::string_view, uint32_t> ids_;  // into the file's JSON
  bool byte_level_ = false;
};

}  // namespace

TokenizerJson parse_tokenizer_json(std::string_view bytes, const std::string& name) {
  json root;
  try {
    root = json::parse(bytes.begin(), bytes.end());
  } catch (const json::parse_error& error) {
    fail(name, ": is not valid JSON at byte ", error.byte, "; expected a tokenizer.json");
  } catch (const json::out_of_range& error) {  // 1e400
    fail(name, ": holds a number that is not possible (", error.what(), ")");
  }
  return TokenizerJsonReader(JsonPlace(root, name)).read();
}

}  // namespace braid
