#include "data/byte_tokenizer.h"

#include <array>

#include "core/error.h"

namespace braid {
namespace {

constexpr int64_t kFirstByte = 3;
constexpr int64_t kFirstChatToken = kFirstByte + 256;

// The bars are U+FF5C, the low lines U+2581, as in V4's tokenizer.json.
constexpr std::array<const char*, 3> kSentenceTokens = {
    "<｜begin▁of▁sentence｜>", "<｜end▁of▁sentence｜>", "<｜▁pad▁｜>"};
constexpr std::array<const char*, 12> kChatTokens = {"<｜User｜>",
                                                     "<｜Assistant｜>",
                                                     "<think>",
                                                     "</think>",
                                                     "｜DSML｜",
                                                     "<｜latest_reminder｜>",
                                                     "<｜action｜>",
                                                     "<｜query｜>",
                                                     "<｜authority｜>",
                                                     "<｜domain｜>",
                                                     "<｜title｜>",
                                                     "<｜read_url｜>"};
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

}  // namespace

std::vector<int64_t> ByteTokenizer::encode(std::string_view text) const {
  std::vector<int64_t> ids;
  ids.reserve(text.size());
  for (const char c : text) {
    ids.push_back(kFirstByte + static_cast<unsigned char>(c));
  }
  return ids;
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

}  // namespace braid
