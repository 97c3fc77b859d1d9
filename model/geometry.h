#pragma once
// Who may see whom: positions, masks and the grouping of tokens into compressed entries, computed
// once per forward pass and shared by all layers. Documents packed into one row never meet:
// positions, windows and compression restart at each (report 3.4.3).

#include <map>
#include <optional>
#include <set>
#include <vector>

#include <ATen/core/Tensor.h>

#include "kernels/visibility.h"
#include "model/config.h"
#include "model/rope_table.h"
#include "parallel/context_exchange.h"

namespace braid {

/// The compression ratios of a model's layers, and the windows of all, the MTP layer's too. Layers
/// that share one share what a pass knows of it.
std::set<int64_t> ratios_of(const ModelConfig& config);
std::set<std::optional<int64_t>> windows_of(const ModelConfig& config);

/// Where several ranks divide each sequence: the entries that each of them makes, in the order of
/// ranks, and their numbers among all.
struct DividedEntries {
  std::vector<int64_t> of_rank;  ///< entries of all its rows
  at::Tensor own;                ///< int64, flat: this rank's among its B * C, padding left out
  at::Tensor all_BC;             ///< int64: number of each entry among those of all ranks
};

/// The raw keys of layers with one window.
struct RawGeometry {
  KeyRange visible;
  std::vector<int64_t> rows_before;  ///< with_rows_before() of the keys
};

/// How tokens pool into entries for one compression ratio R. The compressor works on a buffer of
/// rows, one per token: the rows of this pass, behind those it kept from earlier passes or has from
/// the ranks to the left.
struct CompressionGeometry {
  at::Tensor
      rows_BCR;  ///< int64: rows of the entry's own R tokens; any valid row where there is no entry
  at::Tensor previous_BCR;  ///< int64: rows of the R tokens before them; any valid row where there
                            ///< are none
  at::Tensor has_previous_BC;  ///< bool: the document has a window before this entry's
  Rotation rotation;           ///< [B, C, P/2] at the entry's FIRST token
  KeyRange visible;            ///< of all entries (kept ones first): complete at the query, same
                               ///< document
  int64_t entries = 0;         ///< kept ones and those of this pass
  std::vector<int64_t> rows_before;  ///< with_rows_before() of the buffer
  DividedEntries divided;
};

/// The documents of all rows, numbered through.
struct DocumentNumbers {
  at::Tensor number_T;  ///< int64: the document of each of this rank's tokens; `count` for padding
  int64_t count = 0;
};

/// The documents of this rank's share of documents_BS (as in Tokens), on the host.
DocumentNumbers numbered_documents(const at::Tensor& documents_BS, const ContextRanks& ranks = {});

/// One rank's view, where several divide each sequence: S are its own tokens, entries those of all.
struct Geometry {
  ContextRanks ranks;
  DocumentNumbers documents;                           ///< of a pass over whole rows
  Rotation window_rotation;                            ///< [B, S, P/2], layers without compression
  Rotation compress_rotation;                          ///< [B, S, P/2], layers with compression
  std::map<std::optional<int64_t>, RawGeometry> raw;   ///< by LayerConfig::window
  std::map<int64_t, CompressionGeometry> compression;  ///< by ratio

  /// This rank's entries of one ratio, [B, C, H], to those of all ranks.
  at::Tensor with_entries_of_all(const at::Tensor& own_BCH, int64_t ratio) const;

  /// The same with its tensors on `device`, where layers read them.
  Geometry to(at::Device device) const;
};

/// A pass over whole rows. documents_BS: which document of its row a token belongs to (-1 =
/// padding, which sees only padding); each document is contiguous. positions_BS: position in the
/// document. int64, on the host, as the result is; of whole sequences, also where `ranks` divide
/// them.
Geometry packed_geometry(const ModelConfig& config,
                         const at::Tensor& documents_BS,
                         const at::Tensor& positions_BS,
                         at::ScalarType type,
                         const ContextRanks& ranks = {});

/// A pass over `count` further tokens of B documents of which `past` tokens each were consumed
/// before.
Geometry incremental_geometry(
    const ModelConfig& config, int64_t B, int64_t past, int64_t count, at::ScalarType type);

/// What layers keep between passes, as a function of `past`: the last raw keys, which the next
/// token sees through LayerConfig::window; and the first token whose compressor row is still needed
/// (an overlapping entry reaches back one window).
int64_t kept_raw_keys(std::optional<int64_t> window, int64_t past);
int64_t first_kept_row(int64_t ratio, int64_t past);

}  // namespace braid
