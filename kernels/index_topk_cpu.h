#pragma once
#include <cstdint>

#include "kernels/cpu_isa.h"

namespace braid {

/// Entries of a panel of keys, and heads that are multiplied with it at a time.
inline constexpr int64_t kPanelEntries = 64, kPanelHeads = 4;

/// scores [queries, kPanelEntries] = sum over heads of weight relu(q . key) for one panel of keys
/// [H, kPanelEntries]; q [queries, groups, H, kPanelHeads], weight [queries, groups, kPanelHeads].
BRAID_DECLARE_CPU(template <class T> void score_panel(const T* q,
                                                      const T* weight,
                                                      const T* panel,
                                                      T* scores,
                                                      int64_t queries,
                                                      int64_t groups,
                                                      int64_t H))

/// The first position >= begin with scores[position] > threshold; `end` if there is none.
BRAID_DECLARE_CPU(template <class T>
                  int64_t next_above(const T* scores, int64_t begin, int64_t end, T threshold))

}  // namespace braid
