#include "data/loader.h"

#include <algorithm>
#include <utility>

#include <ATen/ATen.h>

#include "core/error.h"
#include "core/random.h"

namespace braid {
namespace {

void require_context(int64_t seq_len) {
  require(seq_len >= 2,
          "[loader] seq_len must be at least 2, got ",
          seq_len,
          ": with fewer inputs a row no token would see the one before it");
}

/// Fills the row `b` of `batch` and adds its targets to batch.num_targets.
void write_row(const TokenStore& store,
               const PackedRow& row,
               bool count_end_targets,
               int64_t b,
               Batch& batch) {
  const int64_t S = batch.ids_BS.size(1);
  int64_t* ids = batch.ids_BS.mutable_data_ptr<int64_t>() + b * S;
  int64_t* targets = batch.targets_BS.mutable_data_ptr<int64_t>() + b * S;
  int64_t* documents = batch.documents_BS.mutable_data_ptr<int64_t>() + b * S;
  int64_t* positions = batch.positions_BS.mutable_data_ptr<int64_t>() + b * S;
  int64_t s = 0;
  for (std::size_t context = 0; context < row.size(); ++context) {
    const Chunk& chunk = row[context];
    const int64_t num_tokens = store.num_tokens(chunk.document);
    for (int64_t i = 0; i < chunk.length; ++i, ++s) {
      const int64_t input = chunk.begin + i;  // 0 is the begin token, then the document's tokens
      const bool at_end = input == num_tokens;
      ids[s] = input == 0 ? store.begin_id() : store.token(chunk.document, input - 1);
      targets[s] = !at_end             ? store.token(chunk.document, input)
                   : count_end_targets ? store.end_id()
                                       : kIgnoredTarget;
      documents[s] = static_cast<int64_t>(context);
      positions[s] = i;
      batch.num_targets += targets[s] != kIgnoredTarget;
    }
  }
}

Batch empty_batch(const TokenStore& store, int64_t rows, int64_t seq_len) {
  const auto filled = [&](int64_t value) { return at::full({rows, seq_len}, value, at::kLong); };
  return {filled(store.pad_id()), filled(kIgnoredTarget), filled(-1), filled(0), 0};
}

}  // namespace

Loader::Loader(const TokenStore& store, LoaderOptions options) : store_(store), options_(options) {
  require_context(options_.seq_len);
  require(options_.pack_window >= 1,
          "[loader] pack_window must be at least 1 document, got ",
          options_.pack_window);
  plan_window();
}

void Loader::plan_window() {
  const int64_t num_documents = store_.num_documents();
  const int64_t last = std::min(first_document_ + options_.pack_window, num_documents);
  const auto shuffled = [](uint64_t key, int64_t index, int64_t size) {
    return static_cast<int64_t>(
        permuted_index(key, static_cast<uint64_t>(index), static_cast<uint64_t>(size)));
  };
  const uint64_t document_key = random_key(options_.seed, text("epoch ", epoch_));
  std::vector<Chunk> chunks;
  for (int64_t i = first_document_; i < last; ++i) {
    const int64_t document = options_.shuffle ? shuffled(document_key, i, num_documents) : i;
    append_chunks(document, store_.num_tokens(document), options_.seq_len, chunks);
  }
  rows_ = pack_best_fit(std::move(chunks), options_.seq_len);
  if (options_.shuffle) {  // packing has sorted them by length, and a long document's rows adjoin
    const uint64_t row_key =
        random_key(options_.seed, text("epoch ", epoch_, " window ", first_document_));
    const auto size = static_cast<int64_t>(rows_.size());
    std::vector<PackedRow> rows(rows_.size());
    for (int64_t i = 0; i < size; ++i) {
      rows[static_cast<std::size_t>(i)] =
          std::move(rows_[static_cast<std::size_t>(shuffled(row_key, i, size))]);
    }
    rows_ = std::move(rows);
  }
}

void Loader::next_window() {
  window_start_ += static_cast<int64_t>(rows_.size());
  row_ = 0;
  first_document_ += options_.pack_window;
  if (first_document_ >= store_.num_documents()) {
    ++epoch_;
    first_document_ = 0;
  }
  plan_window();
}

Batch Loader::next(int64_t rows) {
  require(rows >= 1, "[loader] a batch has at least 1 row, asked for ", rows);
  Batch batch = empty_batch(store_, rows, options_.seq_len);
  for (int64_t b = 0; b < rows; ++b) {
    if (row_ == static_cast<int64_t>(rows_.size())) {
      next_window();
    }
    write_row(store_, rows_[static_cast<std::size_t>(row_++)], true, b, batch);
  }
  return batch;
}

void Loader::seek(int64_t position) {
  require(position >= 0, "[loader] cannot seek to position ", position, "; positions start at 0");
  if (position < window_start_) {
    epoch_ = first_document_ = window_start_ = 0;
    plan_window();
  }
  while (position > window_start_ + static_cast<int64_t>(rows_.size())) {
    next_window();
  }
  row_ = position - window_start_;
}

double Loader::epochs() const {
  const int64_t window = std::min(options_.pack_window, store_.num_documents() - first_document_);
  const double done = static_cast<double>(first_document_) +
                      static_cast<double>(window * row_) / static_cast<double>(rows_.size());
  return static_cast<double>(epoch_) + done / static_cast<double>(store_.num_documents());
}

std::vector<Batch> evaluation_batches(const TokenStore& store, int64_t seq_len, int64_t rows) {
  require_context(seq_len);
  require(rows >= 1, "[loader] a batch has at least 1 row, asked for ", rows);
  std::vector<Chunk> chunks;
  for (int64_t document = 0; document < store.num_documents(); ++document) {
    append_chunks(document, store.num_tokens(document), seq_len, chunks);
  }
  const std::vector<PackedRow> packed = pack_best_fit(std::move(chunks), seq_len);
  std::vector<Batch> batches;
  for (std::size_t first = 0; first < packed.size(); first += static_cast<std::size_t>(rows)) {
    const int64_t B = std::min(rows, static_cast<int64_t>(packed.size() - first));
    batches.push_back(empty_batch(store, B, seq_len));
    for (int64_t b = 0; b < B; ++b) {
      write_row(store, packed[first + static_cast<std::size_t>(b)], false, b, batches.back());
    }
  }
  return batches;
}

}  // namespace braid
