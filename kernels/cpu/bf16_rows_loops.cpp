#include "kernels/cpu/bf16_rows_loops.h"

#include "kernels/cpu/lanes.h"

namespace braid::BRAID_CPU_ISA {

void widen(const uint16_t* from, float* to, int64_t count) {
  const auto* narrow = reinterpret_cast<const Bfloat16*>(from);
  for_lanes<float>(count, [&](auto v, int64_t i) { store(load<decltype(v)>(narrow + i), to + i); });
}

void narrow(const float* from, uint16_t* to, int64_t count) {
  auto* narrow = reinterpret_cast<Bfloat16*>(to);
  for_lanes<float>(count,
                   [&](auto v, int64_t i) { store(load<decltype(v)>(from + i), narrow + i); });
}

}  // namespace braid::BRAID_CPU_ISA
