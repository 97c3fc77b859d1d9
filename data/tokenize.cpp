#include "data/tokenize.h"

#include <algorithm>
#include <string>

#include <nlohmann/json.hpp>

#include "core/error.h"
#include "core/interruption.h"
#include "core/work.h"
#include "data/text_documents.h"

namespace braid {

void TokenStatistics::add(const std::vector<int64_t>& ids,
                          const std::function<int64_t(int64_t)>& byte_length) {
  ++documents;
  tokens += static_cast<int64_t>(ids.size());
  longest = std::max(longest, static_cast<int64_t>(ids.size()));
  for (const int64_t id : ids) {
    const int64_t bytes = byte_length(id);
    special += bytes == 0 ? 1 : 0;
    text_bytes += bytes;
  }
}

TokenStatistics statistics_of(const TokenStore& store) {
  const Work work("documents counted", store.num_documents());
  TokenStatistics result;
  for (int64_t document = 0; document < store.num_documents(); ++document) {
    stop_if_interrupted();
    result.add(store.tokens(document), [&](int64_t id) { return store.byte_length(id); });
    Work::did(1);
  }
  return result;
}

TokenStatistics write_token_rows(const TextSource& source,
                                 const Tokenizer& tokenizer,
                                 const std::function<void(std::string_view)>& write,
                                 std::vector<std::string>& notes) {
  const Work work("text tokenized", bytes_of(source), WorkUnit::kBytes);
  TokenStatistics result;
  const auto documents = open_documents(source, tokenizer);
  for (Document document; documents->next(document);) {
    stop_if_interrupted();
    const nlohmann::ordered_json row = {
        {"text", tokenizer.decode(document.ids, SpecialTokens::kSpell)}, {"ids", document.ids}};
    write(row.dump(-1, ' ', false, nlohmann::ordered_json::error_handler_t::replace) + "\n");
    result.add(document.ids, [&](int64_t id) { return tokenizer.byte_length(id); });
  }
  const auto found = documents->notes();
  notes.insert(notes.end(), found.begin(), found.end());
  require(result.documents > 0,
          name_of(source),
          ": holds no document (it is empty, or nothing but white space)");
  return result;
}

}  // namespace braid
