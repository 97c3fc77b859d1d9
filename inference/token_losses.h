#pragma once
#include <cstdint>
#include <functional>
#include <vector>

#include "data/batch.h"
#include "model/transformer.h"
#include "parallel/grid.h"

namespace braid {

/// Gets a batch and the cross-entropy in nats of each of its targets, [B, S] in rows, 0 where
/// nothing is counted.
using TokenLossVisitor = std::function<void(const Batch& batch, const std::vector<double>& nats)>;

/// Runs the model on every document of a store, whole up to seq_len tokens of context, `rows`
/// sequences at once, and hands each batch on. With a `grid`, all its ranks call this, divide
/// batches and sequences as in training, and visit the same batches in the same order, bit for bit,
/// on any number of data-parallel ranks. Throws Interrupted when a signal asks to stop.
void visit_token_losses(const Transformer& model,
                        const DocumentStore& store,
                        int64_t seq_len,
                        int64_t rows,
                        const ProcessGrid* grid,
                        const TokenLossVisitor& visit);

/// Gets the same and, for each target, 1 where no id is likelier, else 0; [B, S] in rows.
using TokenChoiceVisitor = std::function<void(
    const Batch& batch, const std::vector<double>& nats, const std::vector<double>& is_likeliest)>;

/// The same; it also computes the logits of each target once more.
void visit_token_choices(const Transformer& model,
                         const DocumentStore& store,
                         int64_t seq_len,
                         int64_t rows,
                         const ProcessGrid* grid,
                         const TokenChoiceVisitor& visit);

/// What the targets of one document weigh with a model.
struct DocumentScore {
  double log_probability = 0;  ///< sum over its targets, in nats
  int64_t targets = 0;
};

/// Of every document of a store, see visit_token_losses(). End tokens are not counted.
std::vector<DocumentScore> document_scores(const Transformer& model,
                                           const DocumentStore& store,
                                           int64_t seq_len,
                                           int64_t rows,
                                           const ProcessGrid* grid);

}  // namespace braid
