#pragma once
// All kernels in CUDA C++ as one table of functions. Nothing of LibTorch: the .cu files take flat
// arguments, those of the CPU drivers (kernels/op_cpu.h), and compile in a second or two.
#include <algorithm>
#include <cstdint>
#include <type_traits>

#include "kernels/attention_cpu.h"
#include "kernels/bfloat16.h"
#include "kernels/code_arrays.h"
#include "kernels/expert_rows_cpu.h"
#include "kernels/index_topk_cpu.h"
#include "kernels/mhc_cpu.h"
#include "kernels/rms_norm_cpu.h"
#include "kernels/rope_cpu.h"
#include "kernels/routing_cpu.h"
#include "kernels/sinkhorn_cpu.h"
#include "kernels/streams_cpu.h"
#include "kernels/swiglu_cpu.h"
#include "kernels/update_cpu.h"

namespace braid {

/// What attention's backward pass works in: memory for `queries` queries at a time, each of which
/// sees `slots` keys at most.
struct AttentionWork {
  float* mean;   ///< [B, S, N]: of the gradients of a row's weights
  float* added;  ///< [queries, slots, H]: what a query adds to the gradient of a key that it sees
  int64_t queries, slots;
};

/// Products of R rows, sorted by expert, with the matrices [O, I] of E experts: the rows of expert
/// e are [bounds[e], bounds[e + 1]), which the device alone knows.
struct ExpertProducts {
  const int64_t* bounds;  ///< [E + 1]
  int64_t R, E, O, I;
  const Bfloat16* a;         ///< [R, I], or [R, O] by columns
  const Bfloat16* matrices;  ///< [E, O, I]
  Bfloat16* out;             ///< a W^T [R, O], or a W [R, I]
  bool accumulate;           ///< adds to out
};
/// The gradients of the matrices: of each expert a^T b of its rows, zero where it has none.
struct ExpertGradientProducts {
  const int64_t* bounds;
  int64_t E, O, I;
  const Bfloat16 *a, *b;  ///< [R, O], [R, I]
  float* out;             ///< [E, O, I]
};
inline bool has_expert_products(int64_t O, int64_t I) {
  return O % 8 == 0 && I % 8 == 0;
}

/// Products of rows with FP4 matrices [O, I] (kernels/codec.h), of one shape, whose codes begin at
/// multiples of 16 bytes: with those of consecutive experts, as above, or all R rows with one.
struct Fp4Matrix {
  const uint8_t *values, *scales;
};
struct Fp4Products {
  static constexpr int kMost = 64;
  const int64_t* bounds;  ///< [count + 1]; null for one matrix
  int64_t R, O, I;
  const Bfloat16* a;  ///< [R, I], or [R, O] by columns
  Bfloat16* out;      ///< a W^T [R, O], or a W [R, I]
  bool accumulate;    ///< adds to out
  int count;
  Fp4Matrix matrices[kMost];
};
inline bool has_fp4_products(int64_t O, int64_t I) {
  return O % 8 == 0 && I % kFp4Group == 0;
}

/// Products of `count` pairs of matrices, factors in bfloat16 and sums in float32:
///   of_product a b + of_added added + of_identity I, or with a b^T where it is symmetric.
struct MatrixProducts {
  const Bfloat16 *a, *b;  ///< [count, rows, depth]; [count, depth, columns] or, symmetric, as a
  /// Results [count, rows, columns], either of them null if not wanted. Of symmetric ones `wide`
  /// and `added` have the lower triangle alone.
  float* wide;
  Bfloat16* narrow;
  const float* added;  ///< or null
  float of_product, of_added, of_identity;
  int64_t count, rows, columns, depth;
  bool symmetric;
};
inline bool has_matrix_products(int64_t columns, int64_t depth) {
  return columns % 8 == 0 && depth % 8 == 0 && depth > 0;
}

/// Tensors that AdamW updates in one launch.
struct AdamWBatch {
  static constexpr int kMost = 48;
  int count;
  AdamWProblem<float> of[kMost];
};

/// Tensors whose squares are summed in two launches.
struct SquaredNorm {
  const float* x;
  int64_t count;
  double* sum;
};
struct SquaredNorms {
  static constexpr int kMost = 128;
  int count;
  SquaredNorm of[kMost];
  double* parts;  ///< [kMost, kCudaNormParts], work memory
};

/// What the indexer's choice works in.
struct IndexTopkWork {
  float* scores;  ///< [queries, C], of so many queries at a time
  int64_t queries;
};

/// The loss of an indexer (kernels/indexer_kl.h) whose queries and keys are of type E. The entries
/// that the index sees are those of the teacher's keys.
template <class E>
struct IndexerKlArguments {
  AttentionProblem<float> teacher;
  const E *q, *keys;    ///< [B, S, I, h], [B, C, h]
  const float* weight;  ///< [B, S, I]
  int64_t I, h, recalled;
};
/// Gradients are null where none are wanted.
template <class E>
struct IndexerKlOutputs {
  float *kl, *recall;  ///< [B, S]; a query's term of recall_sum, negative where it has none
  E* dq;
  float *dweight, *dkeys;  ///< dkeys is added to
};
/// What it works in: memory for `queries` queries at a time, of which each sees `slots` entries at
/// most.
struct IndexerKlWork {
  float* log_sums;         ///< [queries, N]
  float *shares, *scores;  ///< [queries, slots]
  float* added;            ///< [queries, slots, h], where gradients are wanted
  int64_t queries, slots;
};

/// The kernels for activations of type E, with T its wide type (precision.h). A null pointer is a
/// kernel that is not written: the operation then takes its twin. Each function queues its work on
/// `stream` (a cudaStream_t) and returns; it throws Error where the device refuses the launch.
/// Sums have a fixed order: the same arguments give the same bits.
///
/// Kernels of wide tensors alone (Sinkhorn, routing, ...) stand in float's table only.
template <class E>
struct CudaKernelsOf {
  using T = std::conditional_t<std::is_same_v<E, double>, double, float>;
  using Stream = void*;

  /// H is kCudaAttentionWidth at most.
  void (*attention_forward)(const AttentionProblem<T>&,
                            const AttentionResults<T>&,
                            Stream) = nullptr;
  void (*attention_backward)(const AttentionProblem<T>&,
                             const AttentionResults<T>&,
                             const AttentionGradients<T>&,
                             const AttentionWork&,
                             Stream) = nullptr;

  void (*rms_norm_forward)(const RmsNormProblem<E, T>&, E* y, T* inverse_rms, Stream) = nullptr;
  void (*rms_norm_backward)(const RmsNormProblem<E, T>&,
                            const T* inverse_rms,
                            const E* dy,
                            E* dx,
                            T* dweight_parts,
                            int64_t parts,
                            Stream) = nullptr;

  void (*rope)(const RopeProblem<T>&, const E* x, E* y, Stream) = nullptr;

  void (*swiglu_forward)(const SwigluProblem<E, T>&, E* h, Stream) = nullptr;
  void (*swiglu_backward)(
      const SwigluProblem<E, T>&, const E* dh, E* dgate, E* dup, T* dweight, Stream) = nullptr;

  /// Where has_cuda_streams().
  void (*expand_forward)(const ExpandProblem<E, T>&, E* out, Stream) = nullptr;
  void (*expand_backward)(const ExpandProblem<E, T>&,
                          const E* dout,
                          const ExpandGradients<E, T>&,
                          Stream) = nullptr;
  void (*mhc_enter_forward)(
      const MhcProblem<T>&, const E* X, const MhcResults<E, T>&, int64_t tokens, Stream) = nullptr;
  /// slopes [2, tokens, K] is work memory.
  void (*mhc_enter_backward)(const MhcProblem<T>&,
                             const E* X,
                             const MhcResults<E, T>&,
                             const MhcGradients<E, T>&,
                             const MhcParts&,
                             int64_t stride,
                             T* slopes,
                             Stream) = nullptr;
  void (*sinkhorn_forward)(const SinkhornProblem<T>&, T* matrix, Stream) = nullptr;
  void (*sinkhorn_backward)(const SinkhornProblem<T>&,
                            const T* dmatrix,
                            T* dlogits,
                            Stream) = nullptr;

  void (*routing_forward)(
      const RoutingProblem<T>&, int64_t* experts, T* scores, T* weights, Stream) = nullptr;
  void (*routing_backward)(const RoutingProblem<T>&,
                           const int64_t* experts,
                           const T* scores,
                           const T* dscores,
                           const T* dweights,
                           T* dlogits,
                           Stream) = nullptr;

  /// Of at most kCudaOrderedExperts.
  void (*order_by_expert)(const ExpertOrderProblem&, Stream) = nullptr;
  void (*permute_to_experts)(const ExpertRowsProblem&,
                             const E* x,
                             const T* weights,
                             E* rows,
                             T* row_weights,
                             Stream) = nullptr;
  void (*permute_to_experts_backward)(const ExpertRowsProblem&,
                                      const E* drows,
                                      const T* drow_weights,
                                      E* dx,
                                      T* dweights,
                                      Stream) = nullptr;
  void (*combine_of_experts)(const ExpertRowsProblem&, const E* rows, T* out, Stream) = nullptr;
  void (*combine_of_experts_backward)(const ExpertRowsProblem&,
                                      const T* dout,
                                      E* drows,
                                      Stream) = nullptr;

  /// out [block.rows, block.columns].
  void (*decode_block)(const CodeArrays<const uint8_t>&,
                       const CodeBlock&,
                       E* out,
                       Stream) = nullptr;

  /// chosen [B, S, k].
  void (*index_topk)(const IndexTopkProblem<E, T>&,
                     int64_t* chosen,
                     const IndexTopkWork&,
                     Stream) = nullptr;

  /// Where has_indexer_kl().
  void (*indexer_kl)(const IndexerKlArguments<E>&,
                     const IndexerKlOutputs<E>&,
                     const IndexerKlWork&,
                     Stream) = nullptr;

  /// Of bfloat16 alone; where has_expert_products().
  void (*multiply_expert_rows)(const ExpertProducts&, bool by_columns, Stream) = nullptr;
  void (*multiply_expert_gradients)(const ExpertGradientProducts&, Stream) = nullptr;

  /// Of bfloat16 alone; where has_fp4_products().
  void (*multiply_fp4)(const Fp4Products&, bool by_columns, Stream) = nullptr;

  /// Of bfloat16 alone; where has_matrix_products().
  void (*multiply_matrices)(const MatrixProducts&, Stream) = nullptr;

  /// Losses and, in place of the logits, their gradients (kernels/cpu/cross_entropy_loops.h). A
  /// target that is negative gives a loss and gradients of 0.
  void (*cross_entropy_rows)(T* logits,
                             const int64_t* targets,
                             const T* weights,
                             T* losses,
                             int64_t rows,
                             int64_t V,
                             bool gradients,
                             Stream) = nullptr;

  void (*update_by_adamw)(const AdamWBatch&, Stream) = nullptr;
  void (*squared_norms)(const SquaredNorms&, Stream) = nullptr;
};

struct CudaKernels {
  CudaKernelsOf<float> float32;
  CudaKernelsOf<Bfloat16> bfloat16;
};

/// The table of the kernels in this folder.
const CudaKernels& cuda_kernel_table();

/// How many parts of the rows the gradient of an RMS norm's weight is summed over: enough to keep a
/// device busy, and a function of the shape alone.
inline int64_t cuda_rms_norm_parts(int64_t rows, int64_t D) {
  return std::clamp<int64_t>(rows, 1, D <= 1024 ? 2048 : 512);
}
/// The widest row of an RMS norm.
inline constexpr int64_t kCudaRmsNormWidth = 8192;

/// The number of streams that mHC's kernels are made for, and the most of Sinkhorn's iterations.
inline constexpr int kCudaStreams = 4, kCudaSinkhornIterations = 32;
/// Whether they take M streams of D channels.
inline bool has_cuda_streams(int64_t M, int64_t D, int64_t iterations = 1) {
  return M == kCudaStreams && D % 8 == 0 && iterations <= kCudaSinkhornIterations;
}

inline constexpr int64_t kCudaAttentionWidth = 512;
/// How many queries attention's backward pass takes at a time: those for whose slots a quarter of a
/// gigabyte is enough, or one.
inline int64_t cuda_attention_queries(int64_t queries, int64_t slots, int64_t H) {
  constexpr int64_t kNumbers = int64_t{1} << 26;
  const int64_t fitting = kNumbers / std::max<int64_t>(1, slots * H);
  return std::max<int64_t>(1, std::min(queries, fitting));
}

/// Whether there is a kernel for the loss of an index of h channels and attention of H.
inline bool has_indexer_kl(int64_t H, int64_t h) {
  return H <= kCudaAttentionWidth && h <= kCudaAttentionWidth;
}

/// Of how many queries the indexer has the scores at a time: a quarter of a gigabyte's, or one's.
inline int64_t cuda_index_queries(int64_t queries, int64_t C) {
  constexpr int64_t kNumbers = int64_t{1} << 26, kMost = 32768;
  const int64_t fitting = std::min(kMost, kNumbers / std::max<int64_t>(1, C));
  return std::max<int64_t>(1, std::min(queries, fitting));
}

inline constexpr int64_t kCudaOrderedExperts = 1024;

/// In how many parts a tensor's squares are summed at most.
inline constexpr int64_t kCudaNormParts = 1024;

}  // namespace braid
