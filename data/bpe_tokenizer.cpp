#include "data/bpe_tokenizer.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include <nlohmann/json.hpp>

#include "core/error.h"
#include "core/file.h"
#include "core/interruption.h"
#include "core/utf8.h"
#include "data/piece_cache.h"
#include "data/tokenizer_json.h"
#include "data/v4_splitter.h"
#include "data/v4_tokens.h"

namespace braid {
namespace {

bool cuts_as_v4(const TokenizerJson& file) {
  return std::equal(file.patterns.begin(),
                    file.patterns.end(),
                    V4Splitter::kPatterns.begin(),
                    V4Splitter::kPatterns.end(),
                    [](const auto& is, const char* v4) { return is.regex == v4; });
}

bool is_white_space(const AddedToken& token) {
  return !token.special && token.content.find_first_not_of(" \t\r\n") == std::string::npos;
}

template <class Condition>
std::vector<AddedToken> tokens_that(const TokenizerJson& file, const Condition& condition) {
  std::vector<AddedToken> result;
  std::copy_if(file.added.begin(), file.added.end(), std::back_inserter(result), condition);
  return result;
}

// Bytes at the beginning that are valid UTF-8.
std::size_t valid_prefix(std::string_view text) {
  std::size_t at = 0;
  while (at < text.size()) {
    uint64_t eight = 0;
    if (at + 8 <= text.size()) {
      std::memcpy(&eight, text.data() + at, 8);
      if ((eight & 0x8080808080808080u) == 0) {
        at += 8;
        continue;
      }
    }
    const auto [length, fitting] = utf8_sequence_at(text.substr(at));
    if (length != fitting) {
      break;
    }
    at += length;
  }
  return at;
}

// Bytes at the beginning that belong to no character.
std::size_t invalid_prefix(std::string_view text) {
  std::size_t at = 0;
  while (at < text.size()) {
    const auto [length, fitting] = utf8_sequence_at(text.substr(at));
    if (length == fitting) {
      break;
    }
    at += fitting;
  }
  return at;
}

// What tokenizer_config.json says under a key: a spelling, {"content": spelling} or nothing.
std::string named_token(const nlohmann::json& config, const char* key) {
  const auto found = config.find(key);
  if (found == config.end() || found->is_null()) {
    return "";
  }
  const nlohmann::json& value =
      found->is_object() && found->contains("content") ? (*found)["content"] : *found;
  require(value.is_string(),
          "tokenizer_config.json: ",
          key,
          ": is ",
          found->type_name(),
          "; expected a string, or an object with a string under 'content'");
  return value.get<std::string>();
}

}  // namespace

/// What one call of encode() needs for itself.
struct BpeTokenizer::Workspace {
  PieceCache cache;
  BpeMerges::Scratch scratch;
};

/// Encodes the pieces that a splitter makes.
class BpeTokenizer::PieceEncoder : public PieceSink {
 public:
  PieceEncoder(const BpeTokenizer& tokenizer, Workspace& workspace, std::vector<int64_t>& ids)
      : tokenizer_(tokenizer), workspace_(workspace), ids_(ids) {}

  void take(std::string_view piece) override {
    stop_if_interrupted();  // a document may be all of a corpus
    if (piece.size() > PieceCache::kLongestPiece) {
      merge(piece);
      return;
    }
    auto& entry = workspace_.cache.at(piece);
    if (entry.holds(piece)) {
      ids_.insert(ids_.end(), entry.ids, entry.ids + entry.count);
      return;
    }
    const std::size_t begin = ids_.size();
    merge(piece);
    entry.keep(piece, ids_, begin);
  }

 private:
  void merge(std::string_view piece) {
    if (!tokenizer_.whole_pieces_.empty()) {
      if (const auto whole = tokenizer_.whole_pieces_.find(piece);
          whole != tokenizer_.whole_pieces_.end()) {
        ids_.push_back(whole->second);
        return;
      }
    }
    tokenizer_.merges_.merge(piece, workspace_.scratch, ids_);
  }

  const BpeTokenizer& tokenizer_;
  Workspace& workspace_;
  std::vector<int64_t>& ids_;
};

BpeTokenizer::BpeTokenizer(std::string_view tokenizer_json,
                           const std::optional<std::string>& config_json,
                           const std::string& name)
    : BpeTokenizer(parse_tokenizer_json(tokenizer_json, name),
                   xxh3_128(tokenizer_json).substr(0, 16),
                   config_json,
                   name) {}

BpeTokenizer::BpeTokenizer(TokenizerJson file,
                           const std::string& digest,
                           const std::optional<std::string>& config_json,
                           const std::string& name)
    : name_((cuts_as_v4(file) ? "v4-" : "bpe-") + digest),
      entries_(std::move(file.entries)),
      special_(entries_.size()),
      merges_(file.byte_ids, file.merges),
      splitter_(splitter_of(file)),
      raw_(tokens_that(file, [](const AddedToken& token) { return !token.normalized; })),
      normalized_(tokens_that(file, [](const AddedToken& token) { return token.normalized; })),
      spaces_(tokens_that(file, is_white_space)) {
  for (const AddedToken& token : file.added) {
    if (!is_white_space(token)) {
      special_[static_cast<std::size_t>(token.id)] = true;
      special_ids_.emplace(entries_[static_cast<std::size_t>(token.id)], token.id);
    }
  }
  for (std::size_t id = 0; file.ignore_merges && id < entries_.size(); ++id) {
    if (!special_[id] && !entries_[id].empty()) {
      whole_pieces_.emplace(entries_[id], id);
    }
  }
  choose_special_ids(config_json, name);
}

BpeTokenizer::~BpeTokenizer() = default;

std::unique_ptr<Splitter> BpeTokenizer::splitter_of(const TokenizerJson& file) {
  if (file.patterns.empty()) {
    return std::make_unique<WholeText>();
  }
  if (cuts_as_v4(file)) {
    return std::make_unique<V4Splitter>();
  }
  return std::make_unique<PatternSplitter>(file.patterns);
}

void BpeTokenizer::choose_special_ids(const std::optional<std::string>& config_json,
                                      const std::string& name) {
  const auto v4_begin = special_id(v4_tokens::kBegin), v4_end = special_id(v4_tokens::kEnd);
  if (v4_begin && v4_end) {
    begin_id_ = *v4_begin;
    end_id_ = *v4_end;
    pad_id_ = special_id(v4_tokens::kPad).value_or(end_id_);
    return;
  }
  require(config_json.has_value(),
          name,
          ": has no token '",
          v4_tokens::kEnd,
          "', and no tokenizer_config.json beside it says which token ends a text; expected one "
          "that names it as eos_token");
  const auto config = nlohmann::json::parse(*config_json, nullptr, /*allow_exceptions=*/false);
  require(config.is_object(), name, ": the tokenizer_config.json beside it is no JSON object");
  const auto id_of = [&](const char* key, std::optional<int64_t> absent) {
    const std::string spelling = named_token(config, key);
    const auto id = spelling.empty() ? absent : special_id(spelling);
    require(id.has_value(),
            name,
            ": the tokenizer_config.json beside it ",
            spelling.empty()
                ? text("has no ", key)
                : text("names '", spelling, "' as ", key, ", which is no added token"));
    return *id;
  };
  end_id_ = id_of("eos_token", std::nullopt);
  begin_id_ = id_of("bos_token", end_id_);
  pad_id_ = id_of("pad_token", end_id_);
}

std::unique_ptr<BpeTokenizer::Workspace> BpeTokenizer::borrow_workspace() const {
  {
    const std::lock_guard lock(mutex_);
    if (!workspaces_.empty()) {
      auto workspace = std::move(workspaces_.back());
      workspaces_.pop_back();
      return workspace;
    }
  }
  return std::make_unique<Workspace>();
}

void BpeTokenizer::return_workspace(std::unique_ptr<Workspace> workspace) const {
  const std::lock_guard lock(mutex_);
  workspaces_.push_back(std::move(workspace));
}

void BpeTokenizer::encode_stretch(std::string_view text,
                                  Workspace& workspace,
                                  std::vector<int64_t>& ids) const {
  PieceEncoder encoder(*this, workspace, ids);
  while (!text.empty()) {
    const std::size_t valid = valid_prefix(text);
    splitter_->split(text.substr(0, valid), encoder);
    text.remove_prefix(valid);
    if (!text.empty()) {
      const std::size_t invalid = invalid_prefix(text);
      encoder.take(text.substr(0, invalid));
      text.remove_prefix(invalid);
    }
  }
}

std::vector<int64_t> BpeTokenizer::encode(std::string_view text) const {
  std::vector<int64_t> ids;
  ids.reserve(text.size() / 3 + 1);
  auto workspace = borrow_workspace();
  const auto stretch = [&](std::string_view part) { encode_stretch(part, *workspace, ids); };
  if (spaces_.empty()) {
    stretch(text);
  } else {
    spaces_.cut(text, stretch, [&](int64_t id) { ids.push_back(id); });
  }
  return_workspace(std::move(workspace));
  return ids;
}

std::vector<int64_t> BpeTokenizer::encode_spelled(std::string_view text) const {
  std::vector<int64_t> ids;
  auto workspace = borrow_workspace();
  const auto token = [&](int64_t id) { ids.push_back(id); };
  raw_.cut(
      text,
      [&](std::string_view part) {
        normalized_.cut(
            part, [&](std::string_view plain) { encode_stretch(plain, *workspace, ids); }, token);
      },
      token);
  return_workspace(std::move(workspace));
  return ids;
}

std::optional<int64_t> BpeTokenizer::special_id(std::string_view spelling) const {
  const auto found = special_ids_.find(spelling);
  return found == special_ids_.end() ? std::nullopt : std::optional(found->second);
}

void BpeTokenizer::check_id(int64_t id) const {
  require(0 <= id && id < vocab_size(),
          "[",
          name_,
          " tokenizer] id ",
          id,
          " is outside 0..",
          vocab_size() - 1);
}

std::string BpeTokenizer::decode(const std::vector<int64_t>& ids, SpecialTokens special) const {
  std::string result;
  for (const int64_t id : ids) {
    check_id(id);
    const auto i = static_cast<std::size_t>(id);
    if (!special_[i] || special == SpecialTokens::kSpell) {
      result += entries_[i];
    }
  }
  return result;
}

int64_t BpeTokenizer::byte_length(int64_t id) const {
  check_id(id);
  const auto i = static_cast<std::size_t>(id);
  return special_[i] ? 0 : static_cast<int64_t>(entries_[i].size());
}

std::unique_ptr<BpeTokenizer> read_bpe_tokenizer(const std::filesystem::path& path) {
  const auto file = std::filesystem::is_directory(path) ? path / "tokenizer.json" : path;
  const auto config = file.parent_path() / "tokenizer_config.json";
  std::optional<std::string> config_json;
  if (std::filesystem::exists(config)) {
    config_json = read_file(config);
  }
  return std::make_unique<BpeTokenizer>(read_file(file), config_json, file.string());
}

}  // namespace braid
