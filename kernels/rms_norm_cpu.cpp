#include "kernels/rms_norm_cpu.h"

#include "kernels/cpu/bf16_rows.h"
#include "kernels/cpu/rms_norm_loops.h"
#include "kernels/cpu/threads.h"

namespace braid {

template <class E, class T>
void rms_norm_forward_cpu(const RmsNormProblem<E, T>& p, E* y, T* inverse_rms) {
  parallel_rows(p.rows, p.D / 4, [&](int64_t begin, int64_t end) {
    RowsIn<T> in(p.x, p.D);
    RowsOut<T> out(y, p.D);
    in_row_blocks(begin, end, p.D, [&](int64_t row, int64_t count) {
      BRAID_CPU(rms_norm_forward<T>)
      (in.at(row, count), p.weight, out.at(row, count), inverse_rms + row, count, p.D, p.eps);
      out.put();
    });
  });
}

template <class E, class T>
void rms_norm_backward_cpu(const RmsNormProblem<E, T>& p,
                           const T* inverse_rms,
                           const E* dy,
                           E* dx,
                           T* dweight_parts,
                           int64_t parts) {
  const int64_t work = p.D * p.rows / parts / 2;
  parallel_rows(parts, work, [&](int64_t first_part, int64_t last_part) {
    RowsIn<T> in(p.x, p.D), din(dy, p.D);
    RowsOut<T> out(dx, p.D);
    for (int64_t part = first_part; part < last_part; ++part) {
      const int64_t begin = p.rows * part / parts, end = p.rows * (part + 1) / parts;
      T* dweight = dweight_parts != nullptr ? dweight_parts + part * p.D : nullptr;
      in_row_blocks(begin, end, p.D, [&](int64_t row, int64_t count) {
        BRAID_CPU(rms_norm_backward<T>)
        (in.at(row, count),
         p.weight,
         inverse_rms + row,
         din.at(row, count),
         out.at(row, count),
         dweight,
         count,
         p.D);
        out.put();
      });
    }
  });
}

#define BRAID_INSTANTIATE(E, T)                                            \
  template void rms_norm_forward_cpu(const RmsNormProblem<E, T>&, E*, T*); \
  template void rms_norm_backward_cpu(                                     \
      const RmsNormProblem<E, T>&, const T*, const E*, E*, T*, int64_t);
BRAID_INSTANTIATE(double, double)
BRAID_INSTANTIATE(float, float)
BRAID_INSTANTIATE(Bfloat16, float)
#undef BRAID_INSTANTIATE

}  // namespace braid
