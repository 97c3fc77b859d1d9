#include "data/batch.h"

#include <algorithm>
#include <utility>

#include <ATen/ATen.h>

#include "core/error.h"

namespace braid {

void BatchShape::validate() const {
  require(rows >= 1, "[loader] a batch has at least 1 row, asked for ", rows);
  require(seq_len >= 2,
          "[loader] seq_len must be at least 2, got ",
          seq_len,
          ": with fewer inputs a row no token would see the one before it");
}

namespace {

// In plain loops, for the reason that empty_batch() has.
at::Tensor ones_at_targets(const at::Tensor& targets_BS) {
  const at::Tensor weights_BS = at::empty(targets_BS.sizes(), at::kFloat);
  const int64_t* targets = targets_BS.const_data_ptr<int64_t>();
  std::transform(targets,
                 targets + targets_BS.numel(),
                 weights_BS.mutable_data_ptr<float>(),
                 [](int64_t target) { return target == kIgnoredTarget ? 0.0f : 1.0f; });
  return weights_BS;
}

}  // namespace

Batch empty_batch(const DocumentStore& store, BatchShape shape) {
  const auto filled = [&](int64_t value) {
    const at::Tensor tensor = at::empty({shape.rows, shape.seq_len}, at::kLong);
    // Not at::full: batches are made in short-lived threads, which must not each start a team.
    std::fill_n(tensor.mutable_data_ptr<int64_t>(), tensor.numel(), value);
    return tensor;
  };
  return {.ids_BS = filled(store.pad_id()),
          .targets_BS = filled(kIgnoredTarget),
          .documents_BS = filled(-1),
          .positions_BS = filled(0),
          .weights_BS = {},
          .num_targets = 0,
          .contexts = std::vector<PackedRow>(static_cast<std::size_t>(shape.rows))};
}

int64_t write_row(const DocumentStore& store,
                  const PackedRow& row,
                  bool count_end_targets,
                  int64_t b,
                  Batch& batch) {
  const int64_t S = batch.ids_BS.size(1);
  int64_t* ids = batch.ids_BS.mutable_data_ptr<int64_t>() + b * S;
  int64_t* targets = batch.targets_BS.mutable_data_ptr<int64_t>() + b * S;
  int64_t* documents = batch.documents_BS.mutable_data_ptr<int64_t>() + b * S;
  int64_t* positions = batch.positions_BS.mutable_data_ptr<int64_t>() + b * S;
  if (store.has_weights() && !batch.weights_BS.defined()) {
    batch.weights_BS = ones_at_targets(batch.targets_BS);
  }
  float* weights =
      batch.weights_BS.defined() ? batch.weights_BS.mutable_data_ptr<float>() + b * S : nullptr;
  batch.contexts[static_cast<std::size_t>(b)] = row;
  int64_t s = 0, bytes = 0;
  for (std::size_t context = 0; context < row.size(); ++context) {
    const Chunk& chunk = row[context];
    // Input 0 is the begin token, then the document's tokens; each one's target is the next token,
    // of the last one the end token.
    const int64_t num_tokens = store.num_tokens(chunk.document), end = chunk.begin + chunk.length;
    const int64_t first = std::max<int64_t>(chunk.begin - 1, 0);
    const auto tokens = store.tokens(chunk.document, first, std::min(end, num_tokens));
    const auto is_target = store.targets(chunk.document, chunk.begin, end);
    const auto target_weights = weights == nullptr
                                    ? std::vector<float>()
                                    : store.target_weights(chunk.document, chunk.begin, end);
    for (int64_t i = 0; i < chunk.length; ++i, ++s) {
      const int64_t input = chunk.begin + i;
      const auto next = static_cast<std::size_t>(input - first);
      ids[s] = input == 0 ? store.begin_id() : tokens[next - 1];
      documents[s] = static_cast<int64_t>(context);
      positions[s] = i;
      const bool at_end = input == num_tokens;
      if (is_target[static_cast<std::size_t>(i)] == 0 || (at_end && !count_end_targets)) {
        continue;
      }
      targets[s] = at_end ? store.end_id() : tokens[next];
      if (weights != nullptr) {
        weights[s] = target_weights[static_cast<std::size_t>(i)];
      }
      bytes += at_end ? 0 : store.byte_length(targets[s]);
      ++batch.num_targets;
    }
  }
  return bytes;
}

namespace {

std::vector<PackedRow> packed_store(const DocumentStore& store, int64_t seq_len) {
  std::vector<Chunk> documents, chunks;
  for (int64_t document = 0; document < store.num_documents(); ++document) {
    documents.push_back({document, 0, store.num_inputs(document)});
    append_chunks(documents.back(), seq_len, chunks);
  }
  return store.documents_per_sample() > 1
             ? pack_together(documents, store.documents_per_sample(), seq_len)
             : pack_best_fit(std::move(chunks), seq_len);
}

// What the fullest row needs, so that a short text costs no more than it is long.
int64_t needed_length(const std::vector<PackedRow>& rows, int64_t seq_len, int64_t multiple) {
  int64_t longest = 0;
  for (const PackedRow& row : rows) {
    int64_t length = 0;
    for (const Chunk& chunk : row) {
      length += chunk.length;
    }
    longest = std::max(longest, length);
  }
  return std::min(seq_len, (longest + multiple - 1) / multiple * multiple);
}

}  // namespace

std::vector<Batch> evaluation_batches(const DocumentStore& store,
                                      int64_t seq_len,
                                      int64_t rows,
                                      int64_t shares) {
  BatchShape{rows, seq_len}.validate();
  const std::vector<PackedRow> packed = packed_store(store, seq_len);
  constexpr int64_t kBlock = 128;  // tokens; kernels like lengths that are not odd
  const int64_t length = needed_length(packed, seq_len, kBlock * shares);
  std::vector<Batch> batches;
  for (std::size_t first = 0; first < packed.size(); first += static_cast<std::size_t>(rows)) {
    const int64_t B = std::min(rows, static_cast<int64_t>(packed.size() - first));
    batches.push_back(empty_batch(store, {B, length}));
    for (int64_t b = 0; b < B; ++b) {
      write_row(store, packed[first + static_cast<std::size_t>(b)], false, b, batches.back());
    }
  }
  return batches;
}

}  // namespace braid
