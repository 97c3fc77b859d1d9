#include "model/geometry.h"

#include <algorithm>
#include <set>

#include <ATen/ATen.h>

#include "core/sizes.h"

namespace braid {
namespace {

// What the layers of a model need to be told.
struct Needs {
  std::set<int64_t> ratios;
  bool full = false;
};

Needs needs_of(const ModelConfig& config) {
  Needs needs;
  for (int64_t i = 0; i < config.num_hidden_layers; ++i) {
    const auto layer = config.layer(i);
    if (layer.compresses()) {
      needs.ratios.insert(layer.ratio);
    }
    needs.full |= layer.attention == AttentionKind::kFull;
  }
  return needs;
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
  auto document_BC = at::full({B, count}, -2, at::kLong);  // no token has this document
  for (int64_t b = 0; b < B; ++b) {
    for (std::size_t c = 0; c < entries[b].size(); ++c) {
      first_BC.accessor<int64_t, 2>()[b][c] = entries[b][c].row;
      position_BC.accessor<int64_t, 2>()[b][c] = entries[b][c].position;
      document_BC.accessor<int64_t, 2>()[b][c] = entries[b][c].document;
    }
  }
  const auto slot_R = at::arange(R, at::kLong);
  CompressionGeometry result;
  result.rows_BCR = (first_BC.unsqueeze(-1) + slot_R).clamp_max(S - 1);
  result.previous_BCR = (first_BC.unsqueeze(-1) - R + slot_R).clamp(0, S - 1);
  result.has_previous_BC = position_BC > 0;
  result.rotation = rotation(rope_frequencies(config, true), position_BC, type);
  const auto complete = (position_BC + R).unsqueeze(1) <= positions_BS.unsqueeze(-1) + 1;
  result.visible_BSC = complete.logical_and(document_BC.unsqueeze(1) == documents_BS.unsqueeze(-1));
  return result;
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
  const auto index = at::arange(S, at::kLong);
  const auto distance_SU = index.unsqueeze(1) - index.unsqueeze(0);
  const auto same_document = documents_BS.unsqueeze(2) == documents_BS.unsqueeze(1);
  const auto causal = same_document.logical_and(distance_SU >= 0);
  result.window_BSU = causal.logical_and(distance_SU < config.sliding_window);
  const auto needs = needs_of(config);
  if (needs.full) {
    result.full_BSU = causal;
  }
  for (const int64_t R : needs.ratios) {
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
  const auto key_position =
      at::arange(past - kept_window_keys(config, past), past + count, at::kLong);
  const auto distance_SU = positions.unsqueeze(1) - key_position.unsqueeze(0);
  result.window_BSU = (distance_SU >= 0)
                          .logical_and(distance_SU < config.sliding_window)
                          .expand({B, count, key_position.size(0)});
  const auto needs = needs_of(config);
  if (needs.full) {
    const auto all = at::arange(past + count, at::kLong);
    result.full_BSU = (positions.unsqueeze(1) >= all.unsqueeze(0)).expand({B, count, past + count});
  }
  for (const int64_t R : needs.ratios) {
    const auto first =
        at::arange(past / R, (past + count) / R, at::kLong) * R;  // new entries' first tokens
    const auto rows = first.unsqueeze(-1) + at::arange(R, at::kLong) - first_kept_row(R, past);
    const auto all_entries = at::arange((past + count) / R, at::kLong);
    CompressionGeometry geometry;
    geometry.rows_BCR = rows.expand({B, first.size(0), R});
    geometry.previous_BCR = (rows - R).clamp_min(0).expand({B, first.size(0), R});
    geometry.has_previous_BC = (first > 0).expand({B, first.size(0)});
    geometry.rotation =
        rotation(rope_frequencies(config, true), first.expand({B, first.size(0)}), type);
    geometry.visible_BSC = (((all_entries + 1) * R).unsqueeze(0) <= positions.unsqueeze(-1) + 1)
                               .expand({B, count, all_entries.size(0)});
    result.compression[R] = geometry;
  }
  return result;
}

}  // namespace braid
