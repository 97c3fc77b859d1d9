#include "kernels/cpu/compress_loops.h"

#include <limits>

#include "kernels/cpu/loops.h"

namespace braid::BRAID_CPU_ISA {
namespace {

constexpr int64_t kLanes = 16;

template <bool kWhole, class T>
void add(const T* from, T* into, int64_t some) {
  const int64_t lanes = kWhole ? kLanes : some;
  for (int64_t lane = 0; lane < lanes; ++lane) {
    into[lane] += from[lane];
  }
}

// Calls f(offset into projected, offset into ape) of the first key channel of every token that
// entry c pools.
template <class T, class F>
void for_each_token(const PooledSequence<T>& p, int64_t c, const F& f) {
  const bool overlap = p.previous != nullptr;
  if (overlap && p.has_previous[c]) {
    for (int64_t i = 0; i < p.R; ++i) {
      f(p.previous[c * p.R + i] * 2 * p.width, i * p.width);
    }
  }
  const int64_t half = overlap ? p.H : 0;
  for (int64_t i = 0; i < p.R; ++i) {
    f(p.rows[c * p.R + i] * 2 * p.width + half, i * p.width + half);
  }
}

// Channels [h, h + lanes) of entry c; a whole block's loops have constant length.
template <bool kWhole, class T>
void pool(const PooledSequence<T>& p, int64_t c, int64_t h, int64_t some, T* entries, T* log_sum) {
  const int64_t lanes = kWhole ? kLanes : some;
  const T *keys = p.projected + h, *gates = keys + p.width, *ape = p.ape + h;
  T largest[kLanes], sum[kLanes] = {}, weighted[kLanes] = {};
  for (int64_t lane = 0; lane < kLanes; ++lane) {
    largest[lane] = std::numeric_limits<T>::lowest();
  }
  for_each_token(p, c, [&](int64_t row, int64_t slot) {
    for (int64_t lane = 0; lane < lanes; ++lane) {
      const T gate = gates[row + lane] + ape[slot + lane];
      largest[lane] = gate > largest[lane] ? gate : largest[lane];
    }
  });
  for_each_token(p, c, [&](int64_t row, int64_t slot) {
    for (int64_t lane = 0; lane < lanes; ++lane) {
      const T e = exponential(gates[row + lane] + ape[slot + lane] - largest[lane]);
      sum[lane] += e;
      weighted[lane] += e * keys[row + lane];
    }
  });
  for (int64_t lane = 0; lane < lanes; ++lane) {
    entries[c * p.H + h + lane] = weighted[lane] / sum[lane];
    log_sum[c * p.H + h + lane] = largest[lane] + logarithm(sum[lane]);
  }
}

// dk = P de, dg = P (k - e) de.
template <bool kWhole, class T>
void pool_backward(const PooledSequence<T>& p,
                   const T* entries,
                   const T* log_sum,
                   const T* dentries,
                   T* dprojected,
                   T* dape,
                   int64_t C,
                   int64_t h,
                   int64_t some) {
  const int64_t lanes = kWhole ? kLanes : some;
  const T *keys = p.projected + h, *gates = keys + p.width, *ape = p.ape + h;
  T *dkeys = dprojected + h, *dgates = dkeys + p.width;
  for (int64_t c = 0; c < C; ++c) {
    const T *e = entries + c * p.H + h, *log_row = log_sum + c * p.H + h,
            *de = dentries + c * p.H + h;
    for_each_token(p, c, [&](int64_t row, int64_t slot) {
      T pooled[kLanes], change[kLanes];
      for (int64_t lane = 0; lane < lanes; ++lane) {
        const T share = exponential(gates[row + lane] + ape[slot + lane] - log_row[lane]);
        pooled[lane] = share * de[lane];
        change[lane] = pooled[lane] * (keys[row + lane] - e[lane]);
      }
      add<kWhole>(pooled, dkeys + row, lanes);
      add<kWhole>(change, dgates + row, lanes);
      add<kWhole>(change, dape + slot + h, lanes);
    });
  }
}

}  // namespace

template <class T>
void compress_forward(
    const PooledSequence<T>& p, T* entries, T* log_sum, int64_t begin, int64_t end) {
  for (int64_t c = begin; c < end; ++c) {
    int64_t h = 0;
    for (; h + kLanes <= p.H; h += kLanes) {
      pool<true>(p, c, h, kLanes, entries, log_sum);
    }
    if (h < p.H) {
      pool<false>(p, c, h, p.H - h, entries, log_sum);
    }
  }
}

template <class T>
void compress_backward(const PooledSequence<T>& p,
                       const T* entries,
                       const T* log_sum,
                       const T* dentries,
                       T* dprojected,
                       T* dape,
                       int64_t C,
                       int64_t begin,
                       int64_t end) {
  int64_t h = begin;
  for (; h + kLanes <= end; h += kLanes) {
    pool_backward<true>(p, entries, log_sum, dentries, dprojected, dape, C, h, kLanes);
  }
  if (h < end) {
    pool_backward<false>(p, entries, log_sum, dentries, dprojected, dape, C, h, end - h);
  }
}

#define BRAID_INSTANTIATE(T)                                                          \
  template void compress_forward(const PooledSequence<T>&, T*, T*, int64_t, int64_t); \
  template void compress_backward(                                                    \
      const PooledSequence<T>&, const T*, const T*, const T*, T*, T*, int64_t, int64_t, int64_t);
BRAID_INSTANTIATE(float)
BRAID_INSTANTIATE(double)
#undef BRAID_INSTANTIATE

}  // namespace braid::BRAID_CPU_ISA
