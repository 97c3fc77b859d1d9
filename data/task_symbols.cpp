#include <algorithm>

#include "core/error.h"
#include "data/task.h"

namespace braid {
namespace {

bool is_printable(std::string_view text) {
  return !text.empty() && std::ranges::all_of(text, [](char c) { return '!' <= c && c <= '~'; });
}

}  // namespace

std::vector<int64_t> task_symbols(const Tokenizer& tokenizer,
                                  int64_t count,
                                  std::string_view what) {
  std::vector<int64_t> symbols, others;
  const auto wanted = static_cast<std::size_t>(count);
  for (int64_t id = 0; id < tokenizer.vocab_size() && symbols.size() < wanted; ++id) {
    if (tokenizer.byte_length(id) == 0) {
      continue;
    }
    const std::string text = tokenizer.decode({id});
    const bool readable = is_printable(text) && tokenizer.encode(text) == std::vector{id};
    (readable ? symbols : others).push_back(id);
  }
  const auto missing = std::min(wanted - symbols.size(), others.size());
  symbols.insert(
      symbols.end(), others.begin(), others.begin() + static_cast<std::ptrdiff_t>(missing));
  require(symbols.size() == wanted,
          "task ",
          what,
          ": needs ",
          count,
          " different tokens, and the tokenizer '",
          tokenizer.name(),
          "' has ",
          symbols.size(),
          " that stand for text; ask for fewer symbols");
  return symbols;
}

}  // namespace braid
