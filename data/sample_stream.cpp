#include "data/sample_stream.h"

#include <algorithm>
#include <utility>

#include <ATen/ATen.h>

#include "core/error.h"
#include "core/file.h"
#include "core/random.h"

namespace braid {
namespace {

int64_t num_inputs(const std::vector<Chunk>& chunks) {
  int64_t inputs = 0;
  for (const Chunk& chunk : chunks) {
    inputs += chunk.length;
  }
  return inputs;
}

int64_t shuffled(uint64_t key, int64_t index, int64_t size) {
  return static_cast<int64_t>(
      permuted_index(key, static_cast<uint64_t>(index), static_cast<uint64_t>(size)));
}

}  // namespace

SampleStream::SampleStream(const DocumentStore& store, StreamOptions options)
    : store_(&store), options_(options) {
  require(options_.pack_window >= 1,
          "[loader] pack_window must be at least 1 document, got ",
          options_.pack_window);
  state_.order = xxh3_128(text(store.sources_digest(),
                               " seed ",
                               options_.seed,
                               " window ",
                               options_.pack_window,
                               " shuffle ",
                               options_.shuffle));
  begin_window();
}

int64_t SampleStream::window_end() const {
  return std::min(state_.document + options_.pack_window * store_->documents_per_sample(),
                  store_->num_documents());
}

// The whole documents of the window, not planned yet.
void SampleStream::begin_window() {
  state_.taken.clear();
  rows_.clear();
  seq_len_ = row_ = 0;
  stretches_.clear();
  const uint64_t key = random_key(options_.seed, text("epoch ", state_.epoch));
  const int64_t together = store_->documents_per_sample();
  const int64_t samples = store_->num_documents() / together;
  for (int64_t i = state_.document; i < window_end(); ++i) {
    const int64_t sample = options_.shuffle ? shuffled(key, i / together, samples) : i / together;
    const int64_t document = sample * together + i % together;
    stretches_.push_back({document, 0, store_->num_inputs(document)});
  }
  inputs_ = num_inputs(stretches_);
}

void SampleStream::next_window() {
  state_.document += options_.pack_window * store_->documents_per_sample();
  if (state_.document >= store_->num_documents()) {
    ++state_.epoch;
    state_.document = 0;
  }
  begin_window();
}

void SampleStream::plan(int64_t seq_len) {
  if (store_->documents_per_sample() > 1) {
    rows_ = pack_together(stretches_, store_->documents_per_sample(), seq_len);
  } else {
    std::vector<Chunk> chunks;
    for (const Chunk& stretch : stretches_) {
      append_chunks(stretch, seq_len, chunks);
    }
    rows_ = pack_best_fit(std::move(chunks), seq_len);
  }
  seq_len_ = seq_len;
  row_ = 0;
  if (!options_.shuffle) {
    return;
  }
  // Packing has sorted the rows by length, and those of a long document follow each other.
  const std::string plan_number =
      state_.taken.empty() ? std::string() : text(" plan ", state_.taken.size());
  const uint64_t key = random_key(
      options_.seed, text("epoch ", state_.epoch, " window ", state_.document, plan_number));
  const auto size = static_cast<int64_t>(rows_.size());
  std::vector<PackedRow> rows(rows_.size());
  for (int64_t i = 0; i < size; ++i) {
    rows[static_cast<std::size_t>(i)] =
        std::move(rows_[static_cast<std::size_t>(shuffled(key, i, size))]);
  }
  rows_ = std::move(rows);
}

// Drops the plan, of which some rows are taken; the others are what the next one is made from.
void SampleStream::keep_remaining() {
  std::vector<Chunk> remaining;
  for (auto row = static_cast<std::size_t>(row_); row < rows_.size(); ++row) {
    remaining.insert(remaining.end(), rows_[row].begin(), rows_[row].end());
  }
  stretches_ = joined_stretches(std::move(remaining));
}

void SampleStream::next(Batch& batch, int64_t b) {
  const PackedRow& row = take(batch.ids_BS.size(1));
  state_.bytes += write_row(*store_, row, true, b, batch);
}

const PackedRow& SampleStream::take(int64_t seq_len) {
  if (seq_len_ != 0 && row_ == static_cast<int64_t>(rows_.size())) {
    next_window();
  }
  if (seq_len != seq_len_) {
    if (row_ > 0) {
      keep_remaining();
    }
    plan(seq_len);
  }
  if (row_ == 0) {
    state_.taken.push_back({seq_len_, 0});
  }
  ++state_.taken.back().rows;
  return rows_[static_cast<std::size_t>(row_++)];
}

bool SampleStream::restore(const StreamState& state) {
  const bool same_order = state.order == state_.order;
  state_.bytes = state.bytes;
  state_.epoch = same_order ? state.epoch : state.epoch + 1;
  state_.document = same_order ? state.document : 0;
  require(state_.document < store_->num_documents(),
          store_->name(),
          ": cannot continue at document ",
          state_.document,
          " of ",
          store_->num_documents(),
          "; the stored position of the data is damaged");
  begin_window();
  if (!same_order) {
    return false;
  }
  for (const auto& [seq_len, rows] : state.taken) {
    if (row_ > 0) {
      keep_remaining();
    }
    plan(seq_len);
    require(0 < rows && rows <= static_cast<int64_t>(rows_.size()),
            store_->name(),
            ": cannot continue after row ",
            rows,
            " of the ",
            rows_.size(),
            " in the window at document ",
            state_.document,
            "; the stored position of the data is damaged");
    row_ = rows;
    state_.taken.push_back({seq_len, rows});
  }
  return true;
}

int64_t SampleStream::remaining_inputs() const {
  if (seq_len_ == 0) {
    return inputs_;
  }
  int64_t inputs = 0;
  for (auto row = static_cast<std::size_t>(row_); row < rows_.size(); ++row) {
    inputs += num_inputs(rows_[row]);
  }
  return inputs;
}

double SampleStream::epochs() const {
  const auto window = static_cast<double>(window_end() - state_.document);
  const double fraction =
      static_cast<double>(inputs_ - remaining_inputs()) / static_cast<double>(inputs_);
  return static_cast<double>(state_.epoch) +
         (static_cast<double>(state_.document) + window * fraction) /
             static_cast<double>(store_->num_documents());
}

double SampleStream::filled_share(int64_t seq_len) const {
  SampleStream planned(*store_, options_);
  int64_t inputs = 0, rows = 0;
  do {
    planned.plan(seq_len);
    inputs += planned.inputs_;
    rows += static_cast<int64_t>(planned.rows_.size());
    planned.next_window();
  } while (planned.state_.epoch == 0);
  return static_cast<double>(inputs) / static_cast<double>(rows * seq_len);
}

}  // namespace braid
