#include "data/byte_tokenizer.h"

#include <array>
#include <string>
#include <unordered_map>

#include <nlohmann/json.hpp>

#include "core/error.h"
#include "data/added_tokens.h"
#include "data/byte_level.h"
#include "data/v4_tokens.h"

namespace braid {
namespace {

constexpr int64_t kFirstByte = 3;
constexpr int64_t kFirstChatToken = kFirstByte + 256;

constexpr std::array kSentenceTokens = {v4_tokens::kBegin, v4_tokens::kEnd, v4_tokens::kPad};
constexpr std::array kChatTokens = {v4_tokens::kUser,
                                    v4_tokens::kAssistant,
                                    v4_tokens::kThink,
                                    v4_tokens::kEndThink,
                                    v4_tokens::kDsml,
                                    v4_tokens::kLatestReminder,
                                    v4_tokens::kAction,
                                    v4_tokens::kQuery,
                                    v4_tokens::kAuthority,
                                    v4_tokens::kDomain,
                                    v4_tokens::kTitle,
                                    v4_tokens::kReadUrl};
constexpr int64_t kFirstPlaceholder = kFirstChatToken + static_cast<int64_t>(kChatTokens.size());

bool is_byte(int64_t id) {
  return kFirstByte <= id && id < kFirstChatToken;
}

std::string special_text(int64_t id) {
  if (id < kFirstByte) {
    return kSentenceTokens[static_cast<std::size_t>(id)];
  }
  if (id < kFirstPlaceholder) {
    return kChatTokens[static_cast<std::size_t>(id - kFirstChatToken)];
  }
  return text("<｜place▁holder▁no▁", id - kFirstPlaceholder, "｜>");
}

std::vector<AddedToken> special_tokens(int64_t vocab_size) {
  std::vector<AddedToken> tokens;
  for (int64_t id = 0; id < vocab_size; ++id) {
    if (!is_byte(id)) {
      tokens.push_back({.id = id, .content = special_text(id)});
    }
  }
  return tokens;
}

}  // namespace

std::vector<int64_t> ByteTokenizer::encode(std::string_view text) const {
  std::vector<int64_t> ids;
  ids.reserve(text.size());
  for (const char c : text) {
    ids.push_back(kFirstByte + static_cast<unsigned char>(c));
  }
  return ids;
}

std::vector<int64_t> ByteTokenizer::encode_spelled(std::string_view text) const {
  static const AddedTokenFinder finder(special_tokens(vocab_size()));
  std::vector<int64_t> ids;
  finder.cut(
      text,
      [&](std::string_view plain) {
        const auto more = encode(plain);
        ids.insert(ids.end(), more.begin(), more.end());
      },
      [&](int64_t id) { ids.push_back(id); });
  return ids;
}

std::optional<int64_t> ByteTokenizer::special_id(std::string_view spelling) const {
  static const auto ids = [this] {
    std::unordered_map<std::string, int64_t> result;
    for (const AddedToken& token : special_tokens(vocab_size())) {
      result.emplace(token.content, token.id);
    }
    return result;
  }();
  const auto found = ids.find(std::string(spelling));
  return found == ids.end() ? std::nullopt : std::optional(found->second);
}

std::string ByteTokenizer::decode(const std::vector<int64_t>& ids, SpecialTokens special) const {
  std::string result;
  for (const int64_t id : ids) {
    require(0 <= id && id < vocab_size(),
            "[bytes tokenizer] id ",
            id,
            " is outside 0..",
            vocab_size() - 1);
    if (is_byte(id)) {
      result += static_cast<char>(id - kFirstByte);
    } else if (special == SpecialTokens::kSpell) {
      result += special_text(id);
    }
  }
  return result;
}

int64_t ByteTokenizer::byte_length(int64_t id) const {
  require(0 <= id && id < vocab_size(),
          "[bytes tokenizer] id ",
          id,
          " is outside 0..",
          vocab_size() - 1);
  return is_byte(id) ? 1 : 0;
}

std::string byte_tokenizer_json() {
  using nlohmann::ordered_json;
  const int64_t vocab_size = ByteTokenizer().vocab_size();
  ordered_json vocab, added = ordered_json::array();
  for (int64_t id = 0; id < kFirstChatToken; ++id) {
    vocab[is_byte(id) ? byte_symbol(static_cast<uint8_t>(id - kFirstByte)) : special_text(id)] = id;
  }
  for (const AddedToken& token : special_tokens(vocab_size)) {
    added.push_back({{"id", token.id},
                     {"content", token.content},
                     {"single_word", false},
                     {"lstrip", false},
                     {"rstrip", false},
                     {"normalized", false},
                     {"special", true}});
  }
  const ordered_json byte_level = {{"type", "ByteLevel"},
                                   {"add_prefix_space", false},
                                   {"trim_offsets", false},
                                   {"use_regex", false}};
  const ordered_json file = {{"version", "1.0"},
                             {"truncation", nullptr},
                             {"padding", nullptr},
                             {"added_tokens", added},
                             {"normalizer", nullptr},
                             {"pre_tokenizer", byte_level},
                             {"post_processor", byte_level},
                             {"decoder", byte_level},
                             {"model",
                              {{"type", "BPE"},
                               {"dropout", nullptr},
                               {"unk_token", nullptr},
                               {"continuing_subword_prefix", nullptr},
                               {"end_of_word_suffix", nullptr},
                               {"fuse_unk", false},
                               {"byte_fallback", false},
                               {"vocab", vocab},
                               {"merges", ordered_json::array()}}}};
  return file.dump(1) + "\n";
}

std::string byte_tokenizer_config_json() {
  const nlohmann::ordered_json config = {{"tokenizer_class", "PreTrainedTokenizerFast"},
                                         {"add_bos_token", false},
                                         {"add_eos_token", false},
                                         {"bos_token", v4_tokens::kBegin},
                                         {"eos_token", v4_tokens::kEnd},
                                         {"pad_token", v4_tokens::kPad},
                                         {"clean_up_tokenization_spaces", false}};
  return config.dump(1) + "\n";
}

}  // namespace braid
