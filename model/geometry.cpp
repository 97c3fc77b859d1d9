#include "model/geometry.h"

#include <algorithm>
#include <set>

#include <ATen/ATen.h>

#include "core/sizes.h"

namespace braid {
namespace {

std::set<int64_t> ratios_of(const ModelConfig& config) {
  std::set<int64_t> ratios;
  for (int64_t i = 0; i < config.num_hidden_layers; ++i) {
    if (const auto layer = config.layer(i); layer.compresses()) {
      ratios.insert(layer.ratio);
    }
  }
  return ratios;
}

struct Entry {
  int64_t row;       // of its first token
  int64_t position;  // of its first token
  int64_t document;
};

CompressionGeometry compression_of(const ModelConfig& config,
                                   const at::Tensor& documents_BS,
                                   const at::Tensor& positions_BS,
                                   int64_t R,
                                   at::ScalarType type) {
  const auto [B, S] = sizes<2>(documents_BS);
  const auto documents = documents_BS.accessor<int64_t, 2>(),
             positions = positions_BS.accessor<int64_t, 2>();
  std::vector<std::vector<Entry>> entries(B);
  std::size_t C = 0;
  for (int64_t b = 0; b < B; ++b) {
    for (int64_t s = R - 1; s < S; ++s) {
      if (documents[b][s] >= 0 && (positions[b][s] + 1) % R == 0) {
        entries[b].push_back({s - R + 1, positions[b][s] - R + 1, documents[b][s]});
      }
    }
    C = std::max(C, entries[b].size());
  }
  const auto count = static_cast<int64_t>(C);
  auto first_BC = at::zeros({B, count}, at::kLong), position_BC = at::zeros({B, count}, at::kLong);
  CompressionGeometry result;
  result.entries = count;
  result.visible = {at::zeros({B, S}, at::kLong), at::zeros({B, S}, at::kLong)};
  auto visible_first = result.visible.first_BS.accessor<int64_t, 2>(),
       visible_end = result.visible.end_BS.accessor<int64_t, 2>();
  for (int64_t b = 0; b < B; ++b) {
    for (std::size_t c = 0; c < entries[b].size(); ++c) {
      first_BC.accessor<int64_t, 2>()[b][c] = entries[b][c].row;
      position_BC.accessor<int64_t, 2>()[b][c] = entries[b][c].position;
    }
    // A document's entries stand together, in the order of its tokens.
    int64_t end = 0, first = 0;
    for (int64_t s = 0; s < S; ++s) {
      if (s == 0 || documents[b][s] != documents[b][s - 1]) {
        first = end;
      }
      end += documents[b][s] >= 0 && (positions[b][s] + 1) % R == 0 && s >= R - 1;
      visible_first[b][s] = first;
      visible_end[b][s] = end;
    }
  }
  const auto slot_R = at::arange(R, at::kLong);
  result.rows_BCR = (first_BC.unsqueeze(-1) + slot_R).clamp_max(S - 1);
  result.previous_BCR = (first_BC.unsqueeze(-1) - R + slot_R).clamp(0, S - 1);
  result.has_previous_BC = position_BC > 0;
  result.rotation = rotation(rope_frequencies(config, true), position_BC, type);
  return result;
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

}  // namespace

Geometry packed_geometry(const ModelConfig& config,
                         const at::Tensor& documents_BS,
                         const at::Tensor& positions_BS,
                         at::ScalarType type) {
  const auto [B, S] = sizes<2>(documents_BS);
  Geometry result;
  result.window_rotation = rotation(rope_frequencies(config, false), positions_BS, type);
  result.compress_rotation = rotation(rope_frequencies(config, true), positions_BS, type);
  const auto end_BS = at::arange(1, S + 1, at::kLong).expand({B, S});
  const auto start_BS = document_starts(documents_BS);
  result.window = {at::maximum(end_BS - config.sliding_window, start_BS), end_BS};
  result.full = {start_BS, end_BS};
  for (const int64_t R : ratios_of(config)) {
    result.compression[R] = compression_of(config, documents_BS, positions_BS, R, type);
  }
  return result;
}

int64_t kept_window_keys(const ModelConfig& config, int64_t past) {
  return std::min(past, config.sliding_window - 1);
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
  // Raw keys begin with those that were kept.
  const int64_t kept = kept_window_keys(config, past);
  const auto window_end = at::arange(kept + 1, kept + count + 1, at::kLong),
             all = at::arange(past + 1, past + count + 1, at::kLong);
  const auto for_all = [&](const at::Tensor& row_S) { return row_S.expand({B, count}); };
  result.window = {for_all((window_end - config.sliding_window).clamp_min(0)), for_all(window_end)};
  result.full = {for_all(at::zeros_like(all)), for_all(all)};
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
