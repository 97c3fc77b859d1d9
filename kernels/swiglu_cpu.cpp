#include "kernels/swiglu_cpu.h"

#include "kernels/cpu/bf16_rows.h"
#include "kernels/cpu/swiglu_loops.h"
#include "kernels/cpu/threads.h"

namespace braid {

template <class E, class T>
void swiglu_forward_cpu(const SwigluProblem<E, T>& p, E* h) {
  parallel_rows(p.rows, p.F, [&](int64_t begin, int64_t end) {
    RowsIn<T> gates(p.gate, p.F), ups(p.up, p.F);
    RowsOut<T> out(h, p.F);
    in_row_blocks(begin, end, p.F, [&](int64_t row, int64_t rows) {
      BRAID_CPU(swiglu_forward<T>)
      (gates.at(row, rows),
       ups.at(row, rows),
       p.weight != nullptr ? p.weight + row : nullptr,
       out.at(row, rows),
       rows,
       p.F,
       p.limit);
      out.put();
    });
  });
}

template <class E, class T>
void swiglu_backward_cpu(const SwigluProblem<E, T>& p, const E* dh, E* dgate, E* dup, T* dweight) {
  parallel_rows(p.rows, 2 * p.F, [&](int64_t begin, int64_t end) {
    RowsIn<T> gates(p.gate, p.F), ups(p.up, p.F), dhs(dh, p.F);
    RowsOut<T> dgates(dgate, p.F), dups(dup, p.F);
    in_row_blocks(begin, end, p.F, [&](int64_t row, int64_t rows) {
      BRAID_CPU(swiglu_backward<T>)
      (gates.at(row, rows),
       ups.at(row, rows),
       p.weight != nullptr ? p.weight + row : nullptr,
       dhs.at(row, rows),
       dgates.at(row, rows),
       dups.at(row, rows),
       dweight != nullptr ? dweight + row : nullptr,
       rows,
       p.F,
       p.limit);
      dgates.put();
      dups.put();
    });
  });
}

#define BRAID_INSTANTIATE(E, T)                                     \
  template void swiglu_forward_cpu(const SwigluProblem<E, T>&, E*); \
  template void swiglu_backward_cpu(const SwigluProblem<E, T>&, const E*, E*, E*, T*);
BRAID_INSTANTIATE(double, double)
BRAID_INSTANTIATE(float, float)
BRAID_INSTANTIATE(Bfloat16, float)
#undef BRAID_INSTANTIATE

}  // namespace braid
