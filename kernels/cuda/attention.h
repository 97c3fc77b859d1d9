#pragma once
// What attention's kernels share: which keys a query sees, and the kernels by tensor cores.
#include <cmath>

#include "kernels/cuda/device.h"
#include "kernels/cuda/kernels.h"

namespace braid::cuda {

// How many of a list's entries come before `entry`; those that are -1 stand behind all.
__device__ inline int64_t place_in(const int64_t* list, int64_t size, int64_t entry) {
  int64_t begin = 0, end = size;
  while (begin < end) {
    const int64_t middle = (begin + end) / 2;
    const bool before = list[middle] >= 0 && list[middle] < entry;
    begin = before ? middle + 1 : begin;
    end = before ? end : middle;
  }
  return begin;
}

// The keys that a query sees: raw ones, then entries, those of a range or those that it chose.
struct SeenKeys {
  int64_t raw_first, raw, entry_first, count;
  const int64_t* chosen;

  __device__ SeenKeys(const AttentionKeys& k, int64_t query)
      : raw_first(k.window_first[query]),
        raw(larger(int64_t{0}, k.window_end[query] - raw_first)),
        entry_first(k.entry_first[query]),
        chosen(k.chosen == nullptr ? nullptr : k.chosen + query * k.K) {
    count = raw + (chosen != nullptr ? place_in(chosen, k.K, k.C)
                                     : larger(int64_t{0}, k.entry_end[query] - entry_first));
  }

  /// The entries [first, end).
  __device__ SeenKeys(int64_t first, int64_t end)
      : raw_first(0),
        raw(0),
        entry_first(first),
        count(larger(int64_t{0}, end - first)),
        chosen(nullptr) {}

  /// Row i < count of kv and compressed, those of a sequence.
  template <class E>
  __device__ const E* row(int64_t i, const E* kv, const E* compressed, int64_t H) const {
    if (i < raw) {
      return kv + (raw_first + i) * H;
    }
    return compressed + (chosen != nullptr ? chosen[i - raw] : entry_first + i - raw) * H;
  }
};

// Which of the query's keys a key is, or -1. Keys are raw ones [0, U), then entries.
__device__ inline int64_t slot_of(const AttentionKeys& k, int64_t query, int64_t key) {
  const int64_t first = k.window_first[query], end = k.window_end[query];
  if (key < k.U) {
    return key >= first && key < end ? key - first : -1;
  }
  const int64_t entry = key - k.U, raw = larger(int64_t{0}, end - first);
  if (k.chosen == nullptr) {
    const int64_t place = entry - k.entry_first[query];
    return place >= 0 && entry < k.entry_end[query] ? raw + place : -1;
  }
  const int64_t* list = k.chosen + query * k.K;
  const int64_t place = place_in(list, k.K, entry);
  return place < k.K && list[place] == entry ? raw + place : -1;
}

// The rows of a query's sequence.
template <class E>
struct Sequence {
  const E *kv, *compressed;

  __device__ Sequence(const AttentionProblem<float>& p, int64_t query)
      : kv(reinterpret_cast<const E*>(p.kv) + query / p.keys.S * p.keys.U * p.H),
        compressed(reinterpret_cast<const E*>(p.compressed) + query / p.keys.S * p.keys.C * p.H) {}
  /// Of keys that are all entries.
  __device__ explicit Sequence(const E* entries) : kv(nullptr), compressed(entries) {}
};

// ---- attention.cu ----

/// What the queries [first_query, + queries) add to the gradients of the keys that they see.
struct QuerySlots {
  const float* added;  // [queries, slots, H]
  int64_t slots, first_query, queries;
};
struct KeyGradients {
  float *raw, *entries;  // [B, U, H], [B, C, H]
};
/// Adds them to the keys' gradients, in the order of queries. H is kCudaAttentionWidth at most.
void add_slots_to_keys(
    const AttentionKeys&, int64_t H, const QuerySlots&, const KeyGradients&, void* stream);

// ---- attention_mma.cu, attention_warpgroup.cu: for bfloat16 rows of whole pieces ----

/// False where they do not take the problem, or a block does not have the shared memory; then
/// nothing is queued.
bool attention_warpgroup_forward(const AttentionProblem<float>&,
                                 const AttentionResults<float>&,
                                 void* stream);
bool attention_mma_forward(const AttentionProblem<float>&,
                           const AttentionResults<float>&,
                           void* stream);
/// Queries [first, first + count): dq, and what they add to the keys' gradients.
bool attention_warpgroup_backward(const AttentionProblem<float>&,
                                  const AttentionResults<float>&,
                                  const AttentionGradients<float>&,
                                  const AttentionWork&,
                                  int64_t first,
                                  int64_t count,
                                  void* stream);
bool attention_mma_backward(const AttentionProblem<float>&,
                            const AttentionResults<float>&,
                            const AttentionGradients<float>&,
                            const AttentionWork&,
                            int64_t first,
                            int64_t count,
                            void* stream);

}  // namespace braid::cuda
