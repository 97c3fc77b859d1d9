// The loss of an indexer, for a chunk of queries in four steps, a query to a block: what share of
// their weights the attention's heads give to each entry; the index's scores; the divergence of the
// two and its gradient by each score; the gradients of queries, weights and keys. Heads meet keys
// in tiles (heads_and_keys.h).
#include "kernels/cuda/best_scores.h"
#include "kernels/cuda/index_scores.h"
#include "kernels/cuda/tables.h"

namespace braid::cuda {
namespace {

constexpr int kThreads = kHeadsThreads;
constexpr float kNever = -1e30f;  // a logit that never counts
static_assert(kThreads == kChoiceThreads);

// ---- The four steps ----

// The entries alone, as keys of the index.
template <class E>
__host__ __device__ AttentionKeys index_keys(const IndexerKlArguments<E>& p) {
  const AttentionKeys& keys = p.teacher.keys;
  return {keys.entry_first,  // a window in which there is nothing
          keys.entry_first,
          keys.entry_first,
          keys.entry_end,
          keys.chosen,
          keys.B,
          keys.S,
          p.I,
          0,
          keys.C,
          keys.K};
}

// shares [queries, slots]: the sum over heads of e^(z - log of the head's sum), up to a factor of
// each query that keeps the largest from underflowing.
template <class Heads>
__global__ void __launch_bounds__(kThreads, 1)
    kl_target_kernel(AttentionProblem<float> p, IndexerKlWork work, int64_t first_query) {
  using E = typename Heads::Element;
  BRAID_DYNAMIC_SHARED(memory);
  BRAID_SHARED(float[Heads::kKeyParts][Heads::kHeads][3], of_parts);  // largest, sum, of entries
  Heads heads(memory, p.H);
  const int64_t query = first_query + blockIdx.x, N = p.keys.N;
  const SeenKeys seen(p.keys, query);
  const Sequence<E> of(p, query);
  const E* rows = reinterpret_cast<const E*>(p.q) + query * N * p.H;
  float* log_sums = work.log_sums + blockIdx.x * N;
  float share = kNever;  // the largest one of an entry, as a logarithm
  for (int64_t group = 0; group < N; group += Heads::kHeads) {
    heads.load_heads(rows, group, N);
    float largest[Heads::kHeadsOfThread], sum[Heads::kHeadsOfThread] = {};
    float of_entries[Heads::kHeadsOfThread];
#pragma unroll
    for (int i = 0; i < Heads::kHeadsOfThread; ++i) {
      largest[i] = of_entries[i] = kNever;
    }
    heads.for_each_tile(seen, of, 0, [&](int64_t first) {
      float z[Heads::kHeadsOfThread][Heads::kKeysOfThread];
      heads.products(z);
#pragma unroll
      for (int i = 0; i < Heads::kHeadsOfThread; ++i) {
        float top = largest[i];
#pragma unroll
        for (int j = 0; j < Heads::kKeysOfThread; ++j) {
          const int64_t key = first + Heads::key(j);
          z[i][j] = key < seen.count ? p.scale * z[i][j] : -INFINITY;
          top = larger(top, z[i][j]);
          of_entries[i] = key >= seen.raw ? larger(of_entries[i], z[i][j]) : of_entries[i];
        }
        sum[i] *= expf(largest[i] - top);
        largest[i] = top;
#pragma unroll
        for (int j = 0; j < Heads::kKeysOfThread; ++j) {
          sum[i] += expf(z[i][j] - top);
        }
      }
    });
#pragma unroll
    for (int i = 0; i < Heads::kHeadsOfThread; ++i) {
      const float top = Heads::largest_over_keys(largest[i]);
      const float all = Heads::over_keys(sum[i] * expf(largest[i] - top));
      const float entry = Heads::largest_over_keys(of_entries[i]);
      if (Heads::leads_keys()) {
        float* part = of_parts[Heads::key_part()][Heads::head(i)];
        part[0] = top;
        part[1] = all;
        part[2] = entry;
      }
    }
    __syncthreads();
    const int64_t head = group + thread_index();
    if (thread_index() < Heads::kHeads && head < N) {
      float top = p.sink[head], entry = kNever;
      for (int part = 0; part < Heads::kKeyParts; ++part) {
        top = larger(top, of_parts[part][thread_index()][0]);
        entry = larger(entry, of_parts[part][thread_index()][2]);
      }
      float all = expf(p.sink[head] - top);
      for (int part = 0; part < Heads::kKeyParts; ++part) {
        const float* numbers = of_parts[part][thread_index()];
        all += numbers[1] * expf(numbers[0] - top);
      }
      log_sums[head] = top + logf(all);
      share = larger(share, entry - log_sums[head]);
    }
  }
  share = block_largest<kThreads>(share);  // and from here on all see the sums
  for (int64_t group = 0; group < N; group += Heads::kHeads) {
    heads.load_heads(rows, group, N);
    float shift[Heads::kHeadsOfThread];
#pragma unroll
    for (int i = 0; i < Heads::kHeadsOfThread; ++i) {
      const int64_t head = group + Heads::head(i);
      shift[i] = head < N ? log_sums[head] + share : INFINITY;
    }
    heads.for_each_tile(seen, of, seen.raw, [&](int64_t first) {
      float z[Heads::kHeadsOfThread][Heads::kKeysOfThread], x[Heads::kKeysOfThread] = {};
      heads.products(z);
#pragma unroll
      for (int i = 0; i < Heads::kHeadsOfThread; ++i) {
#pragma unroll
        for (int j = 0; j < Heads::kKeysOfThread; ++j) {
          x[j] += expf(p.scale * z[i][j] - shift[i]);
        }
      }
      float* shares = work.shares + blockIdx.x * work.slots + first - seen.raw;
      store_over_heads<Heads>(x, shares, seen.count - first, group == 0);
    });
  }
}

// scores [queries, slots]
template <class Heads>
__global__ void __launch_bounds__(Heads::kThreads)
    kl_scores_kernel(IndexerKlArguments<typename Heads::Element> p,
                     IndexerKlWork work,
                     int64_t first_query) {
  using E = typename Heads::Element;
  BRAID_DYNAMIC_SHARED(memory);
  Heads heads(memory, p.h);
  const int64_t query = first_query + blockIdx.x;
  const AttentionKeys keys = index_keys(p);
  store_index_scores(heads,
                     IndexQuery<E>{p.q + query * p.I * p.h,
                                   p.weight + query * p.I,
                                   p.I,
                                   SeenKeys(keys, query),
                                   Sequence<E>(p.keys + query / keys.S * keys.C * p.h)},
                     work.scores + blockIdx.x * work.slots);
}

// kl and recall; scores become their gradients.
__global__ void __launch_bounds__(kThreads, 4) kl_divergence_kernel(AttentionKeys keys,
                                                                    IndexerKlWork work,
                                                                    int64_t first_query,
                                                                    int64_t recalled,
                                                                    float* kl,
                                                                    float* recall) {
  const int64_t query = first_query + blockIdx.x, count = SeenKeys(keys, query).count;
  const float* shares = work.shares + blockIdx.x * work.slots;
  float* scores = work.scores + blockIdx.x * work.slots;
  if (count == 0) {  // the whole block
    if (thread_index() == 0) {
      kl[query] = 0;
      recall[query] = -1;
    }
    return;
  }
  float top = -INFINITY;
  for (int64_t j = thread_index(); j < count; j += kThreads) {
    top = larger(top, scores[j]);
  }
  top = block_largest<kThreads>(top);
  float sums[2] = {};  // of shares, and of e^score
  for (int64_t j = thread_index(); j < count; j += kThreads) {
    sums[0] += shares[j];
    sums[1] += expf(scores[j] - top);
  }
  block_sums<kThreads>(sums);
  float found = 0;
  if (recalled > 0 && count > recalled) {
    choose_best(scores, 0, count, recalled, [&](int64_t j, int64_t) { found += shares[j]; });
    found = block_sum<kThreads>(found);
  } else {
    found = -sums[0];
  }
  const float log_shares = logf(sums[0]), log_scores = top + logf(sums[1]);
  float divergence = 0;
  for (int64_t j = thread_index(); j < count; j += kThreads) {
    const float share = shares[j], p = share / sums[0], log_q = scores[j] - log_scores;
    divergence += share > 0 ? p * (logf(share) - log_shares - log_q) : 0.0f;
    scores[j] = expf(log_q) - p;
  }
  divergence = block_sum<kThreads>(divergence);
  if (thread_index() == 0) {
    kl[query] = divergence;
    recall[query] = found / sums[0];
  }
}

// The gradients of the scores, in their place, become those of what they are made of.
template <class Heads>
__global__ void __launch_bounds__(kThreads, 2)
    kl_gradient_kernel(IndexerKlArguments<typename Heads::Element> p,
                       IndexerKlOutputs<typename Heads::Element> r,
                       IndexerKlWork work,
                       int64_t first_query) {
  using E = typename Heads::Element;
  BRAID_DYNAMIC_SHARED(memory);
  BRAID_SHARED(float[Heads::kKeyParts][Heads::kHeads], of_parts);
  Heads heads(memory, p.h);
  const int64_t query = first_query + blockIdx.x;
  const AttentionKeys keys = index_keys(p);
  const SeenKeys seen(keys, query);
  const Sequence<E> of(p.keys + query / keys.S * keys.C * p.h);
  const float* dscores = work.scores + blockIdx.x * work.slots;
  for (int64_t group = 0; group < p.I; group += Heads::kHeads) {
    heads.load_heads(p.q + query * p.I * p.h, group, p.I);
    float weight[Heads::kHeadsOfThread], dweight[Heads::kHeadsOfThread] = {};
    load_head_weights<Heads>(weight, p.weight + query * p.I, group, p.I);
    typename Heads::Sums dq = {};
    heads.for_each_tile(seen, of, 0, [&](int64_t first) {
      float z[Heads::kHeadsOfThread][Heads::kKeysOfThread];
      heads.products(z);
#pragma unroll
      for (int j = 0; j < Heads::kKeysOfThread; ++j) {
        const int64_t key = first + Heads::key(j);
        const float dscore = key < seen.count ? dscores[key] : 0.0f;
#pragma unroll
        for (int i = 0; i < Heads::kHeadsOfThread; ++i) {
          const bool is_positive = z[i][j] > 0;
          dweight[i] += is_positive ? dscore * z[i][j] : 0.0f;
          z[i][j] = is_positive ? dscore * weight[i] : 0.0f;
        }
      }
      heads.store_weights(z);
      __syncthreads();
      heads.add_keys_to(dq, seen.count - first);
      float* slots = work.added + (blockIdx.x * work.slots + first) * p.h;
      heads.add_heads_to(slots, seen.count - first, group == 0);
    });
    heads.store(dq, r.dq + query * p.I * p.h, group, p.I);
#pragma unroll
    for (int i = 0; i < Heads::kHeadsOfThread; ++i) {
      const float sum = Heads::over_keys(dweight[i]);
      if (Heads::leads_keys()) {
        of_parts[Heads::key_part()][Heads::head(i)] = sum;
      }
    }
    __syncthreads();
    const int64_t head = group + thread_index();
    if (thread_index() < Heads::kHeads && head < p.I) {
      float sum = 0;
      for (int part = 0; part < Heads::kKeyParts; ++part) {
        sum += of_parts[part][thread_index()];
      }
      r.dweight[query * p.I + head] = sum;
    }
  }
}

// ---- Launches ----

template <class E>
void queue_target(const AttentionProblem<float>& p,
                  const IndexerKlWork& work,
                  int64_t first,
                  int64_t count,
                  void* stream) {
  with_heads<E, kMostChannels>(p.H, are_whole(p.H, p.q, p.kv, p.compressed), [&](auto* heads) {
    using Heads = std::remove_pointer_t<decltype(heads)>;
    launch_with_shared(kl_target_kernel<Heads>,
                       blocks_of(count, 1),
                       kThreads,
                       Heads::bytes(p.H),
                       stream,
                       p,
                       work,
                       first);
  });
}

template <class E>
void indexer_kl(const IndexerKlArguments<E>& p,
                const IndexerKlOutputs<E>& r,
                const IndexerKlWork& work,
                void* stream) {
  require(has_indexer_kl(p.teacher.H, p.h),
          "[indexer_kl] no kernel for ",
          p.teacher.H,
          " and ",
          p.h,
          " channels; there are some for ",
          kCudaAttentionWidth);
  const auto keys = index_keys(p);
  const int64_t queries = keys.B * keys.S;
  for (int64_t first = 0; first < queries; first += work.queries) {
    const int64_t count = queries - first < work.queries ? queries - first : work.queries;
    if (p.teacher.bf16) {
      queue_target<Bfloat16>(p.teacher, work, first, count, stream);
    } else {
      queue_target<float>(p.teacher, work, first, count, stream);
    }
    const auto blocks = blocks_of(count, 1);
    const bool whole = are_whole(p.h, p.q, p.keys, r.dq);
    with_index_heads<E>(p.h, whole, [&](auto* heads) {
      using Heads = std::remove_pointer_t<decltype(heads)>;
      launch_with_shared(kl_scores_kernel<Heads>,
                         blocks,
                         Heads::kThreads,
                         Heads::bytes(p.h),
                         stream,
                         p,
                         work,
                         first);
    });
    launch(kl_divergence_kernel,
           blocks,
           kThreads,
           stream,
           keys,
           work,
           first,
           p.recalled,
           r.kl,
           r.recall);
    if (r.dq != nullptr) {
      with_heads<E, kIndexWidth>(p.h, whole, [&](auto* heads) {
        using Heads = std::remove_pointer_t<decltype(heads)>;
        launch_with_shared(kl_gradient_kernel<Heads>,
                           blocks,
                           kThreads,
                           Heads::bytes(p.h),
                           stream,
                           p,
                           r,
                           work,
                           first);
      });
      add_slots_to_keys(
          keys, p.h, {work.added, work.slots, first, count}, {nullptr, r.dkeys}, stream);
    }
  }
}

}  // namespace

void add_indexer_kl(CudaKernels& table) {
  table.float32.indexer_kl = indexer_kl<float>;
  table.bfloat16.indexer_kl = indexer_kl<Bfloat16>;
}

}  // namespace braid::cuda
