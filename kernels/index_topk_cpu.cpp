#include "kernels/index_topk_cpu.h"

#include <cstring>

namespace braid::BRAID_CPU_ISA {
namespace {

// Products of kPanelHeads x kVectors registers stay in registers while channels go by.
#if defined(__AVX512F__)
constexpr int64_t kBytes = 64, kVectors = 4;
#elif defined(__AVX2__)
constexpr int64_t kBytes = 32, kVectors = 2;
#else
constexpr int64_t kBytes = 16, kVectors = 2;
#endif

}  // namespace

template <class T>
void score_panel(const T* q,
                 const T* weight,
                 const T* panel,
                 T* scores,
                 int64_t queries,
                 int64_t groups,
                 int64_t H) {
  typedef T Vector __attribute__((vector_size(kBytes)));  // NOLINT: an alias cannot depend on T
  constexpr int64_t kWidth = kBytes / static_cast<int64_t>(sizeof(T)), kStep = kVectors * kWidth;
  static_assert(kPanelEntries % kStep == 0);
  for (int64_t t = 0; t < queries; ++t, scores += kPanelEntries) {
    for (int64_t first = 0; first < kPanelEntries; first += kStep) {
      Vector sum[kVectors] = {};
      for (int64_t group = t * groups; group < (t + 1) * groups; ++group) {
        const T *channel = q + group * kPanelHeads * H, *keys = panel + first;
        Vector products[kPanelHeads][kVectors] = {};
        for (int64_t i = 0; i < H; ++i, channel += kPanelHeads, keys += kPanelEntries) {
          Vector key[kVectors];
#pragma GCC unroll 4
          for (int64_t v = 0; v < kVectors; ++v) {
            std::memcpy(&key[v], keys + v * kWidth, sizeof(Vector));
          }
#pragma GCC unroll 4
          for (int64_t head = 0; head < kPanelHeads; ++head) {
#pragma GCC unroll 4
            for (int64_t v = 0; v < kVectors; ++v) {
              products[head][v] += channel[head] * key[v];
            }
          }
        }
#pragma GCC unroll 4
        for (int64_t head = 0; head < kPanelHeads; ++head) {
#pragma GCC unroll 4
          for (int64_t v = 0; v < kVectors; ++v) {
            const Vector zero = {}, product = products[head][v];
            sum[v] += weight[group * kPanelHeads + head] * (product > zero ? product : zero);
          }
        }
      }
      std::memcpy(scores + first, sum, sizeof sum);
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

#define BRAID_INSTANTIATE(T)                                                              \
  template void score_panel(const T*, const T*, const T*, T*, int64_t, int64_t, int64_t); \
  template int64_t next_above(const T*, int64_t, int64_t, T);
BRAID_INSTANTIATE(float)
BRAID_INSTANTIATE(double)
#undef BRAID_INSTANTIATE

}  // namespace braid::BRAID_CPU_ISA
