#include <optional>
#include <stdexcept>
#include <string>

#include <nlohmann/json.hpp>

#include "core/error.h"
#include "data/bpe_tokenizer.h"
#include "data/byte_tokenizer.h"
#include "tests/fuzz/targets.h"

namespace braid::testing {
namespace {

// What is always there for a patch to change: a file with all 256 bytes is longer than inputs are.
std::string patched(std::string_view patch) {
  const auto change = nlohmann::json::parse(patch, nullptr, /*allow_exceptions=*/false);
  if (change.is_discarded()) {
    return std::string(patch);
  }
  auto file = nlohmann::json::parse(byte_tokenizer_json());
  file.merge_patch(change);
  return file.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
}

void check(const Tokenizer& tokenizer, const std::string& text) {
  const auto ids = tokenizer.encode(text);
  std::size_t bytes = 0;
  for (const int64_t id : ids) {
    bytes += static_cast<std::size_t>(tokenizer.byte_length(id));
  }
  if (tokenizer.decode(ids) != text || bytes != text.size()) {
    throw std::logic_error("a text does not come back from its ids");
  }
  tokenizer.decode(tokenizer.encode_spelled(text), SpecialTokens::kSpell);
}

}  // namespace

bool read_tokenizer(std::string_view bytes) {
  if (bytes.empty()) {
    return false;
  }
  const bool is_patch = bytes[0] == '+';
  const std::string file = is_patch ? patched(bytes.substr(1)) : std::string(bytes);
  try {
    const BpeTokenizer tokenizer(file, std::nullopt, "input");
    check(tokenizer, "");
    check(tokenizer, "it's  12345 words,\n\n\t 日本語 \xFF <think> ab abab");
    check(tokenizer, std::string(bytes));
  } catch (const Error&) {
    return false;
  }
  return true;
}

}  // namespace braid::testing
