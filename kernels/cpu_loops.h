#pragma once
// Loops shared by the *_cpu.cpp files; included after BRAID_CPU_ISA names the instruction set.
#include <cstdint>

namespace braid::BRAID_CPU_ISA {
namespace {

/// sum_i a[i] b[i].  Independent partial sums give the compiler vector lanes; their order is fixed.
template <class T>
[[maybe_unused]] T dot(const T* a, const T* b, int64_t size) {
  constexpr int64_t kLanes = 16;
  T partial[kLanes] = {};
  int64_t i = 0;
  for (; i + kLanes <= size; i += kLanes) {
    for (int64_t lane = 0; lane < kLanes; ++lane) {
      partial[lane] += a[i + lane] * b[i + lane];
    }
  }
  T sum = 0;
  for (int64_t lane = 0; lane < kLanes; ++lane) {
    sum += partial[lane];
  }
  for (; i < size; ++i) {
    sum += a[i] * b[i];
  }
  return sum;
}

}  // namespace
}  // namespace braid::BRAID_CPU_ISA
