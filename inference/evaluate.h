#pragma once
#include <optional>
#include <string>
#include <vector>

#include "data/document_store.h"
#include "data/tokenizer.h"
#include "inference/preferences.h"
#include "model/transformer.h"
#include "parallel/grid.h"

namespace braid {

/// The tokens predicted from positions begin..end-1 of their contexts.
struct PositionBucket {
  int64_t begin = 0, end = 0;
  double loss = 0;  ///< mean cross-entropy in nats per token; NaN without tokens
  int64_t tokens = 0;
  double weight = 0;  ///< of these tokens in all: their number, unless targets have weights
};

/// How many answers of a synthetic task are right: all tokens of them the likeliest, each given
/// what stands before it.
struct AnswerAccuracy {
  struct Group {
    std::string name;  ///< "distance_64"
    int64_t answers = 0, right = 0;
    double accuracy() const { return static_cast<double>(right) / static_cast<double>(answers); }
  };
  Group all;                  ///< without a name
  std::vector<Group> groups;  ///< those that have answers
};

/// The targets of the messages of one role in conversations, as the model reads them
/// (data/chat_parts.h).
struct RoleLoss {
  /// system, user, tool, latest_reminder, assistant, or header: the template's tokens.
  std::string role;
  /// Of the assistant's also one part: reasoning, text, tool_calls or end_token; empty = all.
  std::string part;
  double loss = 0;  ///< as Evaluation::loss
  int64_t tokens = 0;
  double weight = 0;  ///< of these tokens in all
};

struct Evaluation {
  /// Mean cross-entropy in nats per target, weighted where targets have weights; end tokens not
  /// counted.
  double loss = 0;
  double bits_per_byte = 0;  ///< sum of nats / ln 2 / bytes of text that the targets stand for
  int64_t tokens = 0;
  std::vector<PositionBucket> positions;  ///< [0, 16), [16, 64), [64, 256), ... up to seq_len
  std::vector<RoleLoss> roles = {};       ///< that have targets; parts follow their whole
  std::optional<PreferenceEvaluation> preferences = {};  ///< of pairs; `loss` is then its loss
  std::optional<AnswerAccuracy> answers = {};            ///< of a synthetic task
};

/// The model on every document of a store, whole up to seq_len tokens of context, `rows` sequences
/// at once. A prediction sees its position and those before it in its context. With a `grid`, all
/// its ranks call this, see visit_token_losses(). With the store's `tokenizer` losses are also told
/// by role.
Evaluation evaluate(const Transformer& model,
                    const DocumentStore& store,
                    int64_t seq_len,
                    int64_t rows,
                    const ProcessGrid* grid = nullptr,
                    const Tokenizer* tokenizer = nullptr);

}  // namespace braid
