#pragma once
#include <functional>
#include <vector>

#include "inference/sampling.h"
#include "model/transformer.h"

namespace braid {

struct GenerateOptions {
  int64_t max_tokens = 256;
  Sampling sampling = {};
  uint64_t seed = 0;
  int64_t num_samples = 1;  ///< continuations of each prompt
  int64_t batch_size = 64;  ///< continuations computed together, at most
};

/// One continuation: which sample of which prompt, both from 0.
struct Continuation {
  int64_t prompt = 0, sample = 0;
};

enum class GenerationEnd {
  kEndToken,   ///< the model ended the document
  kStopped,    ///< the visitor asked for it
  kMaxTokens,  ///< max_tokens were drawn
};

struct GenerationVisitor {
  /// Sees each new id at once, the end token excepted; false ends the continuation.
  std::function<bool(const Continuation&, int64_t id)> token;
  std::function<void(const Continuation&, GenerationEnd)> end = [](const Continuation&,
                                                                   GenerationEnd) {};
  /// Sees the ids drawn for a batch before anything else does, and may change them. Ranks that
  /// share a model generate the same texts at once: what one of them draws must hold for all, whose
  /// logits may differ in their last bits.
  std::function<void(std::vector<int64_t>& ids)> agree = [](std::vector<int64_t>&) {};
};

/// Continues every prompt num_samples times, token by token with the decode state. Prompts of equal
/// length share batches; a continuation that has ended leaves its batch.
///
/// The i-th draw of a continuation is a pure function of (seed, prompt, sample, i), whatever is
/// computed beside it. Batches of other sizes round the logits differently in the last bits, which
/// tips a draw only if it falls within that rounding.
///
/// Throws Error for an empty prompt, one that max_tokens would carry beyond
/// max_position_embeddings, and options out of range, before anything is computed.
void generate(const Transformer& model,
              const std::vector<std::vector<int64_t>>& prompts,
              int64_t end_id,
              const GenerateOptions& options,
              const GenerationVisitor& visitor);

}  // namespace braid
