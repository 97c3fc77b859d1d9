#include "kernels/cpu/index_topk_loops.h"

#include <cstring>
#include <limits>
#include <type_traits>

namespace braid::BRAID_CPU_ISA {
namespace {

#if defined(__AVX512F__)
constexpr int64_t kBytes = 64;
#elif defined(__AVX2__)
constexpr int64_t kBytes = 32;
#else
constexpr int64_t kBytes = 16;
#endif

}  // namespace

template <class T>
void weighted_relu_rows(const T* products, const T* weight, T* scores, int64_t heads) {
  typedef T Vector __attribute__((vector_size(kBytes)));  // NOLINT: an alias cannot depend on T
  constexpr int64_t kWidth = kBytes / static_cast<int64_t>(sizeof(T)), kVectors = 4;
  static_assert(kPanelEntries % (kVectors * kWidth) == 0);
  for (int64_t first = 0; first < kPanelEntries; first += kVectors * kWidth) {
    Vector sum[kVectors] = {};
    for (int64_t head = 0; head < heads; ++head) {
#pragma GCC unroll 4
      for (int64_t v = 0; v < kVectors; ++v) {
        Vector product;
        std::memcpy(&product, products + head * kPanelEntries + first + v * kWidth, sizeof product);
        const Vector zero = {};
        sum[v] += weight[head] * (product > zero ? product : zero);
      }
    }
    std::memcpy(scores + first, sum, sizeof sum);
  }
}

template <class T>
int64_t append_above(
    const T* scores, int64_t count, T threshold, int64_t first, T* above, int64_t* places) {
  constexpr int64_t kStretch = 16;  // looked at together: most hold none
  int64_t found = 0;
  for (int64_t begin = 0; begin < count; begin += kStretch) {
    const int64_t end = begin + kStretch < count ? begin + kStretch : count;
    if (end - begin == kStretch) {
      int any = 0;
      for (int64_t i = begin; i < begin + kStretch; ++i) {
        any |= scores[i] > threshold;
      }
      if (any == 0) {
        continue;
      }
    }
    for (int64_t i = begin; i < end; ++i) {
      above[found] = scores[i];
      places[found] = first + i;
      found += scores[i] > threshold;
    }
  }
  return found;
}

// By their bits as integers of the same order, one bit of the result after the other: as many
// passes as it has bits, none of which a processor has to guess its way through.
template <class T>
T kth_largest(const T* numbers, int64_t count, int64_t k, OrderedBits<T>* keys) {
  using Key = OrderedBits<T>;
  using Unsigned = std::make_unsigned_t<Key>;
  constexpr Key kAllButSign = std::numeric_limits<Key>::max();
  constexpr int kBits = 8 * sizeof(Key);
  for (int64_t i = 0; i < count; ++i) {
    Key bits;
    std::memcpy(&bits, numbers + i, sizeof bits);
    keys[i] = bits ^ ((bits >> (kBits - 1)) & kAllButSign);
  }
  auto best = static_cast<Unsigned>(std::numeric_limits<Key>::min());
  for (int bit = kBits - 1; bit >= 0; --bit) {
    const auto next = static_cast<Unsigned>(best + (Unsigned{1} << bit));
    const auto key = static_cast<Key>(next);
    Key as_large = 0;
    for (int64_t i = 0; i < count; ++i) {
      as_large += keys[i] >= key;
    }
    best = as_large >= k ? next : best;
  }
  auto key = static_cast<Key>(best);
  key ^= (key >> (kBits - 1)) & kAllButSign;
  T result;
  std::memcpy(&result, &key, sizeof result);
  return result;
}

#define BRAID_INSTANTIATE(T)                                                  \
  template void weighted_relu_rows(const T*, const T*, T*, int64_t);          \
  template int64_t append_above(const T*, int64_t, T, int64_t, T*, int64_t*); \
  template T kth_largest(const T*, int64_t, int64_t, OrderedBits<T>*);
BRAID_INSTANTIATE(float)
BRAID_INSTANTIATE(double)
#undef BRAID_INSTANTIATE

}  // namespace braid::BRAID_CPU_ISA
