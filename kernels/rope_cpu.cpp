#include "kernels/rope_cpu.h"

#include "kernels/cpu/bf16_rows.h"
#include "kernels/cpu/rope_loops.h"
#include "kernels/cpu/threads.h"

namespace braid {

template <class E, class T>
void rope_cpu(const RopeProblem<T>& p, const E* x, E* y) {
  const int64_t width = p.N * p.H;
  parallel_rows(p.tokens, width / 2, [&](int64_t begin, int64_t end) {
    RowsIn<T> in(x, width);
    RowsOut<T> out(y, width);
    in_row_blocks(begin, end, width, [&](int64_t token, int64_t tokens) {
      BRAID_CPU(rope_rotate<T>)
      (in.at(token, tokens),
       p.cos + token * p.P / 2,
       p.sin + token * p.P / 2,
       out.at(token, tokens),
       tokens,
       p.N,
       p.H,
       p.P,
       static_cast<T>(p.inverse ? -1 : 1));
      out.put();
    });
  });
}

template void rope_cpu(const RopeProblem<double>&, const double*, double*);
template void rope_cpu(const RopeProblem<float>&, const float*, float*);
template void rope_cpu(const RopeProblem<float>&, const Bfloat16*, Bfloat16*);

}  // namespace braid
