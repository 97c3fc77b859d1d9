#pragma once
#include "data/tokenizer.h"

namespace braid {

/// One id per byte, no file needed: 0, 1, 2 = begin, end, padding as in DeepSeek-V4; byte b = 3 +
/// b; V4's chat tokens at 259..270; the rest up to 320 are placeholders that no text ever uses.
class ByteTokenizer : public Tokenizer {
 public:
  std::string name() const override { return "bytes"; }
  int64_t vocab_size() const override { return 320; }
  int64_t begin_id() const override { return 0; }
  int64_t end_id() const override { return 1; }
  int64_t pad_id() const override { return 2; }
  std::vector<int64_t> encode(std::string_view text) const override;
  std::vector<int64_t> encode_spelled(std::string_view text) const override;
  std::optional<int64_t> special_id(std::string_view spelling) const override;
  std::string decode(const std::vector<int64_t>& ids,
                     SpecialTokens special = SpecialTokens::kDrop) const override;
  int64_t byte_length(int64_t id) const override;
};

/// The same tokenizer as a Hugging Face tokenizer.json and the tokenizer_config.json beside it.
std::string byte_tokenizer_json();
std::string byte_tokenizer_config_json();

}  // namespace braid
