#include "kernels/index_topk_cpu.h"

namespace braid::BRAID_CPU_ISA {

template <class T>
void weighted_relu_sum(
    const T* products, const T* weight, T* scores, int64_t heads, int64_t count, int64_t stride) {
  for (int64_t c = 0; c < count; ++c) {
    scores[c] = 0;
  }
  for (int64_t h = 0; h < heads; ++h, products += stride) {
    const T w = weight[h];
    for (int64_t c = 0; c < count; ++c) {
      const T p = products[c];
      scores[c] += w * (p > 0 ? p : T{0});
    }
  }
}

template <class T>
int64_t next_above(const T* scores, int64_t begin, int64_t end, T threshold) {
  constexpr int64_t kLanes = 32;
  for (; begin + kLanes <= end; begin += kLanes) {
    int any = 0;
    for (int64_t lane = 0; lane < kLanes; ++lane) {
      any |= scores[begin + lane] > threshold;
    }
    if (any != 0) {
      break;
    }
  }
  while (begin < end && !(scores[begin] > threshold)) {
    ++begin;
  }
  return begin;
}

#define BRAID_INSTANTIATE(T)                                                          \
  template void weighted_relu_sum(const T*, const T*, T*, int64_t, int64_t, int64_t); \
  template int64_t next_above(const T*, int64_t, int64_t, T);
BRAID_INSTANTIATE(float)
BRAID_INSTANTIATE(double)
#undef BRAID_INSTANTIATE

}  // namespace braid::BRAID_CPU_ISA
