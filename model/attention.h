#pragma once
#include <optional>
#include <vector>

#include <ATen/core/Tensor.h>

#include "model/compressor.h"
#include "model/indexer.h"
#include "model/observer.h"
#include "model/pass.h"

namespace braid {

/// What one attention layer keeps while generating.
struct AttentionState {
  at::Tensor kv_BUH;  ///< normed and rotated keys of the last tokens
  CompressorState compressor, indexer;
};

/// What a generation carries from token to token.
struct DecodeState {
  int64_t past = 0;  ///< tokens consumed
  std::vector<AttentionState> layers;
};

/// Attention of every kind (docs/equations.md (16) to (20)): low-rank queries, one key-value head
/// shared by all query heads, sinks, partial RoPE that is undone on the output, grouped low-rank
/// output projection.
class Attention {
 public:
  Attention(const Scope& scope, const ModelConfig& config, const LayerConfig& layer);

  struct Output {
    at::Tensor y_BSD;
    at::Tensor indexer_kl_sum;      ///< with options.indexer_loss in a CSA layer
    at::Tensor indexer_recall_sum;  ///< the same, with dense attention and a top-k
  };

  /// h_BSD, the normed input. With a state the pass continues the state's documents.
  Output forward(const at::Tensor& h_BSD,
                 const Geometry& geometry,
                 const PassOptions& options,
                 AttentionState* state = nullptr,
                 LayerObserver shown = {}) const;

 private:
  struct Projections {
    at::Tensor latent_BSL;  // normed, of the queries
    at::Tensor q_BSNH;
    at::Tensor kv_BSH;  // this pass's raw keys
  };
  struct CompressedKeys {
    at::Tensor keys_BCH;
    SeenEntries seen;
    std::optional<IndexParts> index;  // where a choice or a loss needs it
  };

  Projections projections(const at::Tensor& h_BSD, const Rotation& rotation) const;
  at::Tensor raw_keys(const at::Tensor& kv_BSH,
                      const Geometry& geometry,
                      AttentionState* state) const;
  CompressedKeys compressed_keys(const at::Tensor& h_BSD,
                                 const at::Tensor& latent_BSL,
                                 const Geometry& geometry,
                                 const PassOptions& options,
                                 AttentionState* state) const;
  bool needs_index(int64_t entries, const PassOptions& options, const AttentionState* state) const;
  at::Tensor output(const at::Tensor& o_BSNH, const Rotation& rotation) const;
  void report_indexer_loss(const CompressedKeys& compressed,
                           const AttentionTeacher& teacher,
                           const PassOptions& options,
                           Output& result) const;

  LayerConfig layer_;
  int64_t num_heads_, head_dim_, groups_;
  std::optional<int64_t> topk_;
  double eps_;
  at::Tensor sink_, q_norm_, kv_norm_;
  Linear wq_a_, wq_b_, wkv_, wo_a_, wo_b_;
  std::optional<Compressor> compressor_;
  std::optional<Indexer> indexer_;
};

}  // namespace braid
