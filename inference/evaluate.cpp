#include "inference/evaluate.h"

#include <algorithm>
#include <array>
#include <numbers>

#include "core/error.h"
#include "core/ignored_target.h"
#include "data/chat_parts.h"
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

/// A weighted mean while it is summed up.
struct LossSum {
  double nats = 0, weight = 0;
  int64_t tokens = 0;

  void add(double token_nats, double token_weight) {
    nats += token_weight * token_nats;
    weight += token_weight;
    ++tokens;
  }
  void add(const LossSum& other) {
    nats += other.nats;
    weight += other.weight;
    tokens += other.tokens;
  }
  double mean() const { return nats / weight; }
};

/// What of a target is asked for.
struct JudgedTarget {
  int64_t document = 0;
  int64_t index = 0;     ///< of its id in the document
  int64_t position = 0;  ///< that it is predicted from, in its context
  double nats = 0, weight = 1;
};

template <class Visit>
void visit_targets(const Batch& batch, const std::vector<double>& nats, const Visit& visit) {
  const auto S = static_cast<std::size_t>(batch.ids_BS.size(1));
  const int64_t* positions = batch.positions_BS.const_data_ptr<int64_t>();
  const int64_t* targets = batch.targets_BS.const_data_ptr<int64_t>();
  const int64_t* contexts = batch.documents_BS.const_data_ptr<int64_t>();
  const float* weights =
      batch.weights_BS.defined() ? batch.weights_BS.const_data_ptr<float>() : nullptr;
  for (std::size_t i = 0; i < nats.size(); ++i) {
    if (targets[i] != kIgnoredTarget) {
      const Chunk& context = batch.contexts[i / S][static_cast<std::size_t>(contexts[i])];
      // Input 0 of a document is the begin token, so input i predicts id i.
      visit(JudgedTarget{.document = context.document,
                         .index = context.begin + positions[i],
                         .position = positions[i],
                         .nats = nats[i],
                         .weight = weights == nullptr ? 1 : static_cast<double>(weights[i])});
    }
  }
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
    const int64_t document = documents[static_cast<std::size_t>(contexts[first])].document;
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

/// Losses by the part of the conversation that a target is in.
class PartSums {
 public:
  PartSums(const DocumentStore& store, const Tokenizer& tokenizer) {
    const ChatPartReader reader(tokenizer);
    for (int64_t document = 0; document < store.num_documents(); ++document) {
      parts_.push_back(reader.parts(store.tokens(document)));
    }
  }

  void add(const JudgedTarget& target) {
    const auto& parts = parts_[static_cast<std::size_t>(target.document)];
    const auto part = std::ranges::upper_bound(parts, target.index, {}, &ChatPartSpan::end);
    if (part != parts.end()) {
      sums_[static_cast<std::size_t>(part->part)].add(target.nats, target.weight);
    }
  }

  std::vector<RoleLoss> roles() const {
    using P = ChatPart;
    std::vector<RoleLoss> result;
    append("system", of(P::kSystem), result);
    append("user", of(P::kUser), result);
    append("tool", of(P::kTool), result);
    append("latest_reminder", of(P::kLatestReminder), result);
    append("header", of(P::kHeader), result);
    LossSum assistant;
    std::vector<RoleLoss> parts;
    for (const auto& [name, part] : {std::pair("reasoning", P::kReasoning),
                                     std::pair("text", P::kText),
                                     std::pair("tool_calls", P::kCalls),
                                     std::pair("end_token", P::kEnd)}) {
      assistant.add(of(part));
      append("assistant", of(part), parts, name);
    }
    append("assistant", assistant, result);
    result.insert(result.end(), parts.begin(), parts.end());
    return result;
  }

 private:
  const LossSum& of(ChatPart part) const { return sums_[static_cast<std::size_t>(part)]; }

  static void append(const char* role,
                     const LossSum& sum,
                     std::vector<RoleLoss>& roles,
                     const char* part = "") {
    if (sum.tokens > 0) {
      roles.push_back({role, part, sum.mean(), sum.tokens, sum.weight});
    }
  }

  std::vector<std::vector<ChatPartSpan>> parts_;  // of each document
  std::array<LossSum, kChatParts> sums_ = {};
};

}  // namespace

Evaluation evaluate(const Transformer& model,
                    const DocumentStore& store,
                    int64_t seq_len,
                    int64_t rows,
                    const ProcessGrid* grid,
                    const Tokenizer* tokenizer) {
  Evaluation result;
  result.positions = position_buckets(seq_len);
  std::vector<LossSum> by_position(result.positions.size());
  std::optional<PartSums> by_part;
  if (tokenizer != nullptr) {
    by_part.emplace(store, *tokenizer);
  }
  double nats_of_targets = 0;
  const auto add = [&](const JudgedTarget& target) {
    std::size_t bucket = 0;
    while (target.position >= result.positions[bucket].end) {
      ++bucket;
    }
    by_position[bucket].add(target.nats, target.weight);
    if (by_part) {
      by_part->add(target);
    }
    nats_of_targets += target.nats;
  };
  const auto add_batch = [&](const Batch& batch, const std::vector<double>& nats) {
    visit_targets(batch, nats, add);
    result.tokens += batch.num_targets;
  };
  if (store.answer_groups().empty()) {
    visit_token_losses(model, store, seq_len, rows, grid, add_batch);
  } else {
    require_whole_documents(store, seq_len);
    auto& answers = result.answers.emplace();
    for (const auto& group : store.answer_groups()) {
      answers.groups.push_back({group});
    }
    visit_token_choices(
        model, store, seq_len, rows, grid, [&](const auto& batch, auto& nats, auto& is_likeliest) {
          add_batch(batch, nats);
          count_answers(store, batch, is_likeliest, answers);
        });
    std::erase_if(answers.groups, [](const auto& group) { return group.answers == 0; });
  }
  LossSum all;
  for (std::size_t i = 0; i < by_position.size(); ++i) {
    const LossSum& sum = by_position[i];
    all.add(sum);
    result.positions[i].loss = sum.mean();
    result.positions[i].tokens = sum.tokens;
    result.positions[i].weight = sum.weight;
  }
  result.loss = all.mean();
  result.bits_per_byte =
      nats_of_targets / std::numbers::ln2 / static_cast<double>(store.text_bytes());
  if (by_part) {
    result.roles = by_part->roles();
  }
  return result;
}

}  // namespace braid
