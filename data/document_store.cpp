#include "data/document_store.h"

namespace braid {

std::vector<float> DocumentStore::target_weights(int64_t /*document*/,
                                                 int64_t begin,
                                                 int64_t end) const {
  return std::vector<float>(static_cast<std::size_t>(end - begin), 1);
}

int64_t DocumentStore::num_inputs(int64_t document) const {
  const int64_t size = num_tokens(document);
  return size + (targets(document, size, size + 1).front() != 0 ? 1 : 0);
}

Document DocumentStore::document(int64_t document) const {
  Document result;
  result.ids = tokens(document);
  const auto size = static_cast<int64_t>(result.ids.size()) + 1;
  const auto is_target = targets(document, 0, size);
  auto weights = target_weights(document, 0, size);
  for (std::size_t i = 0; i < weights.size(); ++i) {
    weights[i] = is_target[i] == 0 ? 0 : weights[i];
  }
  result.targets = target_spans(weights);
  return result;
}

const std::vector<std::string>& DocumentStore::answer_groups() const {
  static const std::vector<std::string> none;
  return none;
}

}  // namespace braid
