#pragma once
#include <ATen/core/Tensor.h>

#include "model/geometry.h"
#include "model/parameters.h"

namespace braid {

/// What a compressor carries from one pass to the next.
struct CompressorState {
  /// Wide keys and gates of the last tokens, which later entries may pool; X channels of both.
  at::Tensor projected_BUX;
  int64_t first_row = 0;   ///< position of the token that row 0 belongs to
  at::Tensor entries_BCH;  ///< entries emitted so far; they never change
};

/// Pools every R tokens into one entry: a softmax over the tokens, per channel, weighs their keys
/// (docs/equations.md (21) to (23)). With overlap (CSA) an entry also pools the R tokens before its
/// own: the FIRST half of the projections serves tokens of the previous window, the second half the
/// entry's own. Tokens of an incomplete window give no entry.
class Compressor {
 public:
  Compressor(const Scope& scope,
             int64_t hidden_size,
             int64_t channels,
             int64_t ratio,
             bool overlap,
             double eps);

  /// h_BSD -> entries_BCH, normed and rotated, in h's type, of all ranks that divide the sequences;
  /// with a state: kept entries, then new ones.
  at::Tensor forward(const at::Tensor& h_BSD,
                     const Geometry& geometry,
                     CompressorState* state) const;

 private:
  int64_t ratio_;
  bool overlap_;
  double eps_;
  at::Tensor ape_, norm_;
  Linear wkv_, wgate_;
};

}  // namespace braid
