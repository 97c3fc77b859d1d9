#pragma once
// Shape suffixes used in all of Braid: x_BSD is a tensor of shape [B, S, D]. A letter has the
// meaning below in every file, but for the letters that a file declares as local at its head.
//
//   B  sequences of a batch             S  tokens of a sequence (queries)
//   T  tokens, B * S flattened          U  key positions of the raw (window) keys
//   C  compressed entries               R  tokens that one compressed entry pools (the ratio)
//   D  residual width                   M  residual streams
//   N  attention heads                  H  channels of a head (of an attention's or an indexer's)
//   P  rotary channels                  L  low-rank query latent
//   G  output-projection groups         O  low-rank output latent per group
//   I  indexer heads                    E  routed experts (of this rank, where ranks divide them)
//   K  picked per token (experts, entries)
//   F  expert width                     V  vocabulary
//   X  channels of any kind             1  an axis of size one
//
// Gradients are dx_BSD. Names that reach a file never carry a suffix.
