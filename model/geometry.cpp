#include "model/geometry.h"

#include <algorithm>
#include <utility>
#include <vector>

#include <ATen/ATen.h>

#include "core/sizes.h"

namespace braid {

std::set<int64_t> ratios_of(const ModelConfig& config) {
  std::set<int64_t> ratios;
  for (int64_t i = 0; i < config.num_hidden_layers; ++i) {
    if (const auto layer = config.layer(i); layer.compresses()) {
      ratios.insert(layer.ratio);
    }
  }
  return ratios;
}

std::set<std::optional<int64_t>> windows_of(const ModelConfig& config) {
  std::set<std::optional<int64_t>> windows = {config.mtp_layer().window};
  for (int64_t i = 0; i < config.num_hidden_layers; ++i) {
    windows.insert(config.layer(i).window);
  }
  return windows;
}

namespace {

KeyRange own_share(const KeyRange& range, const ContextRanks& ranks) {
  return {ranks.own_share(range.first_BS).contiguous(),
          ranks.own_share(range.end_BS).contiguous(),
          range.most};
}

// Whether any layer's entries of this ratio reach back one window.
bool overlaps(const ModelConfig& config, int64_t ratio) {
  for (int64_t i = 0; i < config.num_hidden_layers; ++i) {
    const auto layer = config.layer(i);
    if (layer.attention == AttentionKind::kCsa && layer.ratio == ratio) {
      return true;
    }
  }
  return false;
}

struct Entry {
  int64_t row;       // of its first token
  int64_t position;  // of its first token
};

// The entries of each row, [b][c], and of all entries which of them each token sees.
struct Entries {
  std::vector<std::vector<Entry>> of_row;
  KeyRange visible;
  int64_t most = 0;  // of any row
};

Entries entries_of(const at::Tensor& documents_BS, const at::Tensor& positions_BS, int64_t R) {
  const auto [B, S] = sizes<2>(documents_BS);
  const auto documents = documents_BS.accessor<int64_t, 2>(),
             positions = positions_BS.accessor<int64_t, 2>();
  Entries result{std::vector<std::vector<Entry>>(B),
                 {at::zeros({B, S}, at::kLong), at::zeros({B, S}, at::kLong)}};
  auto visible_first = result.visible.first_BS.accessor<int64_t, 2>(),
       visible_end = result.visible.end_BS.accessor<int64_t, 2>();
  for (int64_t b = 0; b < B; ++b) {
    // A document's entries are contiguous, in the order of its tokens.
    auto& entries = result.of_row[b];
    int64_t first = 0;
    for (int64_t s = 0; s < S; ++s) {
      if (s == 0 || documents[b][s] != documents[b][s - 1]) {
        first = static_cast<int64_t>(entries.size());
      }
      if (s >= R - 1 && documents[b][s] >= 0 && (positions[b][s] + 1) % R == 0) {
        entries.push_back({s - R + 1, positions[b][s] - R + 1});
      }
      visible_first[b][s] = first;
      visible_end[b][s] = static_cast<int64_t>(entries.size());
    }
    result.most = std::max(result.most, static_cast<int64_t>(entries.size()));
  }
  return result;
}

// A rank makes the entries whose last token it has. Fills in how all ranks divide them, and
// returns for each row the first of this rank's and their number.
std::vector<std::pair<int64_t, int64_t>> divide(const Entries& entries,
                                                const ContextRanks& ranks,
                                                int64_t S,
                                                int64_t R,
                                                bool overlap,
                                                CompressionGeometry& geometry) {
  const auto B = static_cast<int64_t>(entries.of_row.size());
  const int64_t share = S / ranks.size();
  auto& divided = geometry.divided;
  divided.all_BC = at::zeros({B, entries.most}, at::kLong);
  auto all = divided.all_BC.accessor<int64_t, 2>();
  std::vector<std::pair<int64_t, int64_t>> own(B);
  std::vector<std::size_t> next(B, 0);  // by row: the first that no rank has made
  int64_t number = 0;
  for (int64_t r = 0; r < ranks.size(); ++r) {
    int64_t before = 0;
    const int64_t first_number = number;
    for (int64_t b = 0; b < B; ++b) {
      const auto& row = entries.of_row[b];
      const std::size_t first = next[b];
      for (auto& c = next[b]; c < row.size() && row[c].row + R <= (r + 1) * share; ++c) {
        const bool has_previous = overlap && row[c].position > 0;
        before = std::max(before, r * share - row[c].row + (has_previous ? R : 0));
        all[b][static_cast<int64_t>(c)] = number++;
      }
      if (r == ranks.rank()) {
        own[b] = {first, next[b] - first};
      }
    }
    geometry.rows_before.push_back(before);
    divided.of_rank.push_back(number - first_number);
  }
  return own;
}

CompressionGeometry compression_of(const ModelConfig& config,
                                   const at::Tensor& documents_BS,
                                   const at::Tensor& positions_BS,
                                   int64_t R,
                                   at::ScalarType type,
                                   const ContextRanks& ranks) {
  const auto [B, S] = sizes<2>(documents_BS);
  const auto entries = entries_of(documents_BS, positions_BS, R);
  CompressionGeometry result;
  result.entries = entries.most;
  result.visible = own_share(entries.visible, ranks);
  const auto own = divide(entries, ranks, S, R, overlaps(config, R), result);
  int64_t count = 0;
  for (const auto& [first, number] : own) {
    count = std::max(count, number);
  }
  // Row 0 of the buffer is this token of the sequence.
  const int64_t share = S / ranks.size(), before = result.rows_before[ranks.rank()],
                start = ranks.rank() * share - before, rows = before + share;
  auto first_BC = at::full({B, count}, start, at::kLong),
       position_BC = at::zeros({B, count}, at::kLong);
  auto first_row = first_BC.accessor<int64_t, 2>(), position = position_BC.accessor<int64_t, 2>();
  std::vector<int64_t> numbers;
  for (int64_t b = 0; b < B; ++b) {
    for (int64_t c = 0; c < own[b].second; ++c) {
      const auto& entry = entries.of_row[b][own[b].first + c];
      first_row[b][c] = entry.row;
      position[b][c] = entry.position;
      numbers.push_back(b * count + c);
    }
  }
  result.divided.own = at::tensor(numbers, at::kLong);
  const auto rows_BCR = (first_BC - start).unsqueeze(-1) + at::arange(R, at::kLong);
  result.rows_BCR = rows_BCR.clamp_max(rows - 1);
  result.previous_BCR = (rows_BCR - R).clamp(0, rows - 1);
  result.has_previous_BC = position_BC > 0;
  result.rotation = rotation(rope_frequencies(config, true), position_BC, type);
  return result;
}

void move(at::Tensor& tensor, at::Device device) {
  if (tensor.defined()) {
    tensor = tensor.to(device, /*non_blocking=*/true);
  }
}

void move(KeyRange& range, at::Device device) {
  move(range.first_BS, device);
  move(range.end_BS, device);
}

void move(Rotation& rotation, at::Device device) {
  move(rotation.cos, device);
  move(rotation.sin, device);
}

void move(CompressionGeometry& compression, at::Device device) {
  move(compression.rows_BCR, device);
  move(compression.previous_BCR, device);
  move(compression.has_previous_BC, device);
  move(compression.rotation, device);
  move(compression.visible, device);
  move(compression.divided.own, device);
  move(compression.divided.all_BC, device);
}

// The row of the first token of each token's document.
at::Tensor document_starts(const at::Tensor& documents_BS) {
  const auto [B, S] = sizes<2>(documents_BS);
  auto starts_BS = at::zeros({B, S}, at::kLong);
  const auto documents = documents_BS.accessor<int64_t, 2>();
  auto starts = starts_BS.accessor<int64_t, 2>();
  for (int64_t b = 0; b < B; ++b) {
    for (int64_t s = 1; s < S; ++s) {
      starts[b][s] = documents[b][s] == documents[b][s - 1] ? starts[b][s - 1] : s;
    }
  }
  return starts_BS;
}

// The part of a range that this rank's tokens see, in a buffer that begins as far before them as
// any of them sees. Fills in how far that is on every rank.
KeyRange own_keys(const KeyRange& range,
                  const ContextRanks& ranks,
                  std::vector<int64_t>& rows_before) {
  const int64_t share = range.first_BS.size(1) / ranks.size();
  for (int64_t r = 0; r < ranks.size(); ++r) {
    // What a token sees begins no earlier than what those before it see.
    const int64_t first = range.first_BS.select(1, r * share).min().item<int64_t>();
    rows_before.push_back(r * share - first);
  }
  const int64_t start = ranks.rank() * share - rows_before[ranks.rank()];
  const auto own = own_share(range, ranks);
  return {own.first_BS - start, own.end_BS - start, own.most};
}

}  // namespace

at::Tensor Geometry::with_entries_of_all(const at::Tensor& own_BCH, int64_t ratio) const {
  if (ranks.size() == 1) {
    return own_BCH;
  }
  const auto& divided = compression.at(ratio).divided;
  const auto own = own_BCH.flatten(0, 1).index_select(0, divided.own);
  const auto all = rows_of_all(ranks, own, divided.of_rank);
  return all.index_select(0, divided.all_BC.flatten())
      .view({divided.all_BC.size(0), divided.all_BC.size(1), own_BCH.size(2)});
}

Geometry Geometry::to(at::Device device) const {
  auto result = *this;
  move(result.documents.number_T, device);
  move(result.window_rotation, device);
  move(result.compress_rotation, device);
  for (auto& [window, of_window] : result.raw) {
    move(of_window.visible, device);
  }
  for (auto& [ratio, of_ratio] : result.compression) {
    move(of_ratio, device);
  }
  return result;
}

DocumentNumbers numbered_documents(const at::Tensor& documents_BS, const ContextRanks& ranks) {
  const int64_t per_row = documents_BS.max().item<int64_t>() + 1, B = documents_BS.size(0);
  const auto row_B1 = at::arange(B, at::kLong).unsqueeze(1) * per_row;
  const auto number_BS = at::where(documents_BS >= 0, documents_BS + row_B1, B * per_row);
  return {ranks.own_share(number_BS).flatten(), B * per_row};
}

Geometry packed_geometry(const ModelConfig& config,
                         const at::Tensor& documents_BS,
                         const at::Tensor& positions_BS,
                         at::ScalarType type,
                         const ContextRanks& ranks) {
  const auto [B, S] = sizes<2>(documents_BS);
  require(S % ranks.size() == 0,
          "[geometry] sequences of ",
          S,
          " tokens cannot be divided among ",
          ranks.size(),
          " ranks; possible here: ",
          S / ranks.size() * ranks.size(),
          ", ",
          (S / ranks.size() + 1) * ranks.size());
  Geometry result;
  result.ranks = ranks;
  result.documents = numbered_documents(documents_BS, ranks);
  const auto own_positions_BS = ranks.own_share(positions_BS);
  result.window_rotation = rotation(rope_frequencies(config, false), own_positions_BS, type);
  result.compress_rotation = rotation(rope_frequencies(config, true), own_positions_BS, type);
  const auto end_BS = at::arange(1, S + 1, at::kLong).expand({B, S});
  const auto start_BS = document_starts(documents_BS);
  for (const auto& window : windows_of(config)) {
    const auto first_BS = window ? at::maximum(end_BS - *window, start_BS) : start_BS;
    auto& raw = result.raw[window];
    raw.visible = own_keys({first_BS, end_BS, window.value_or(-1)}, ranks, raw.rows_before);
  }
  for (const int64_t R : ratios_of(config)) {
    result.compression[R] = compression_of(config, documents_BS, positions_BS, R, type, ranks);
  }
  return result;
}

int64_t kept_raw_keys(std::optional<int64_t> window, int64_t past) {
  return window ? std::min(past, *window - 1) : past;
}

int64_t first_kept_row(int64_t ratio, int64_t past) {
  return std::max<int64_t>(0, (past / ratio - 1) * ratio);
}

Geometry incremental_geometry(
    const ModelConfig& config, int64_t B, int64_t past, int64_t count, at::ScalarType type) {
  const auto positions = at::arange(past, past + count, at::kLong);
  const auto positions_BS = positions.expand({B, count});
  Geometry result;
  result.window_rotation = rotation(rope_frequencies(config, false), positions_BS, type);
  result.compress_rotation = rotation(rope_frequencies(config, true), positions_BS, type);
  const auto all = at::arange(past + 1, past + count + 1, at::kLong);
  const auto for_all = [&](const at::Tensor& row_S) { return row_S.expand({B, count}); };
  for (const auto& window : windows_of(config)) {
    // Raw keys begin with those that were kept.
    const int64_t kept = kept_raw_keys(window, past);
    const auto end = at::arange(kept + 1, kept + count + 1, at::kLong);
    const auto first = window ? (end - *window).clamp_min(0) : at::zeros_like(end);
    result.raw[window].visible = {for_all(first), for_all(end)};
  }
  for (const int64_t R : ratios_of(config)) {
    const auto first =
        at::arange(past / R, (past + count) / R, at::kLong) * R;  // new entries' first tokens
    const auto rows = first.unsqueeze(-1) + at::arange(R, at::kLong) - first_kept_row(R, past);
    CompressionGeometry geometry;
    geometry.rows_BCR = rows.expand({B, first.size(0), R});
    geometry.previous_BCR = (rows - R).clamp_min(0).expand({B, first.size(0), R});
    geometry.has_previous_BC = (first > 0).expand({B, first.size(0)});
    geometry.rotation =
        rotation(rope_frequencies(config, true), first.expand({B, first.size(0)}), type);
    geometry.visible = {for_all(at::zeros_like(all)), for_all(all.div(R, "floor"))};
    geometry.entries = (past + count) / R;
    result.compression[R] = geometry;
  }
  return result;
}

}  // namespace braid
