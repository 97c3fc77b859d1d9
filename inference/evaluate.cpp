#include "inference/evaluate.h"

#include <algorithm>
#include <numbers>

#include "core/error.h"
#include "core/ignored_target.h"
#include "inference/token_losses.h"

namespace braid {
namespace {

std::vector<PositionBucket> position_buckets(int64_t seq_len) {
  std::vector<PositionBucket> buckets;
  for (int64_t begin = 0, end = 16; begin < seq_len; begin = end, end *= 4) {
    buckets.push_back({begin, std::min(end, seq_len)});
  }
  return buckets;
}

// Adds the batch's weighted sums of nats to the buckets' losses; returns the sum of all nats.
double add_batch(const Batch& batch,
                 const std::vector<double>& nats,
                 std::vector<PositionBucket>& buckets) {
  const int64_t* positions = batch.positions_BS.const_data_ptr<int64_t>();
  const int64_t* targets = batch.targets_BS.const_data_ptr<int64_t>();
  const float* weights =
      batch.weights_BS.defined() ? batch.weights_BS.const_data_ptr<float>() : nullptr;
  double sum = 0;
  for (std::size_t i = 0; i < nats.size(); ++i) {
    if (targets[i] != kIgnoredTarget) {
      auto bucket = buckets.begin();
      while (positions[i] >= bucket->end) {
        ++bucket;
      }
      const double weight = weights == nullptr ? 1 : static_cast<double>(weights[i]);
      bucket->loss += weight * nats[i];
      bucket->weight += weight;
      ++bucket->tokens;
      sum += nats[i];
    }
  }
  return sum;
}

// Counts the answers of the batch's documents, which are not divided.
void count_answers(const DocumentStore& store,
                   const Batch& batch,
                   const std::vector<double>& is_likeliest,
                   AnswerAccuracy& accuracy) {
  const int64_t B = batch.ids_BS.size(0), S = batch.ids_BS.size(1);
  const int64_t* contexts = batch.documents_BS.const_data_ptr<int64_t>();
  const int64_t* positions = batch.positions_BS.const_data_ptr<int64_t>();
  for (int64_t first = 0; first < B * S; ++first) {
    if (contexts[first] < 0 || positions[first] != 0) {
      continue;
    }
    const auto& documents = batch.contexts[static_cast<std::size_t>(first / S)];
    const int64_t document = documents[static_cast<std::size_t>(contexts[first])];
    for (const auto& [begin, end, group] : store.answers(document)) {
      // What is predicted at position i is token i of the document.
      const auto at = is_likeliest.begin() + static_cast<std::ptrdiff_t>(first);
      const bool right = std::all_of(at + static_cast<std::ptrdiff_t>(begin),
                                     at + static_cast<std::ptrdiff_t>(end),
                                     [](double is) { return is == 1; });
      for (auto* counted : {&accuracy.all, &accuracy.groups[group]}) {
        ++counted->answers;
        counted->right += right ? 1 : 0;
      }
    }
  }
}

void require_whole_documents(const DocumentStore& store, int64_t seq_len) {
  for (int64_t document = 0; document < store.num_documents(); ++document) {
    require(store.num_inputs(document) <= seq_len,
            store.name(),
            ": document ",
            document,
            " has ",
            store.num_inputs(document),
            " tokens and a sequence ",
            seq_len,
            "; an answer needs what stands before it, so sequences must be as long");
  }
}

}  // namespace

Evaluation evaluate(const Transformer& model,
                    const DocumentStore& store,
                    int64_t seq_len,
                    int64_t rows,
                    const ProcessGrid* grid) {
  Evaluation result;
  result.positions = position_buckets(seq_len);
  double nats_of_targets = 0;
  const auto add = [&](const Batch& batch, const std::vector<double>& nats) {
    nats_of_targets += add_batch(batch, nats, result.positions);
    result.tokens += batch.num_targets;
  };
  if (store.answer_groups().empty()) {
    visit_token_losses(model, store, seq_len, rows, grid, add);
  } else {
    require_whole_documents(store, seq_len);
    auto& answers = result.answers.emplace();
    for (const auto& group : store.answer_groups()) {
      answers.groups.push_back({group});
    }
    visit_token_choices(
        model, store, seq_len, rows, grid, [&](const auto& batch, auto& nats, auto& is_likeliest) {
          add(batch, nats);
          count_answers(store, batch, is_likeliest, answers);
        });
    std::erase_if(answers.groups, [](const auto& group) { return group.answers == 0; });
  }
  double weighted_nats = 0, weight = 0;
  for (auto& bucket : result.positions) {
    weighted_nats += bucket.loss;
    weight += bucket.weight;
    bucket.loss /= bucket.weight;
  }
  result.loss = weighted_nats / weight;
  result.bits_per_byte =
      nats_of_targets / std::numbers::ln2 / static_cast<double>(store.text_bytes());
  return result;
}

}  // namespace braid
