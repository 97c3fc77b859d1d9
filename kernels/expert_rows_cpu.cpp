#include "kernels/expert_rows_cpu.h"

#include <algorithm>

#include "core/error.h"
#include "kernels/cpu/bf16_rows.h"
#include "kernels/cpu/threads.h"

namespace braid {
namespace {

constexpr int64_t kNumbersPerNanosecond = 4;  // what one thread copies or adds

// out_t = the sum of its rows. In and Out are T, or bfloat16.
template <class T, class In, class Out>
void sum_rows(const ExpertRowsProblem& p, const In* from, Out* to) {
  parallel_rows(p.tokens, p.K * p.D / kNumbersPerNanosecond, [&](int64_t begin, int64_t end) {
    RowsIn<T> rows(from, p.D);
    RowsOut<T> out(to, p.D);
    for (int64_t t = begin; t < end; ++t) {
      T* sum = out.at(t, 1);
      std::copy_n(rows.at(p.row[t * p.K], 1), p.D, sum);
      for (int64_t k = 1; k < p.K; ++k) {
        const T* addend = rows.at(p.row[t * p.K + k], 1);
        for (int64_t i = 0; i < p.D; ++i) {
          sum[i] += addend[i];
        }
      }
      out.put();
    }
  });
}

}  // namespace

void order_by_expert_cpu(const ExpertOrderProblem& p) {
  std::fill_n(p.first, p.E + 1, 0);
  for (int64_t pair = 0; pair < p.pairs; ++pair) {
    const int64_t expert = p.experts[pair];
    require(expert >= 0 && expert < p.E,
            "[routed_experts] expert ",
            expert,
            " of a token is not one of the ",
            p.E,
            " experts; check the model's tid2eid tables");
    ++p.first[expert + 1];
  }
  auto* next = p.counts;
  for (int64_t e = 0; e < p.E; ++e) {
    p.first[e + 1] += p.first[e];
    next[e] = static_cast<int32_t>(p.first[e]);
  }
  for (int64_t pair = 0; pair < p.pairs; ++pair) {
    p.row[pair] = next[p.experts[pair]]++;
  }
}

template <class E, class T>
void permute_to_experts_cpu(
    const ExpertRowsProblem& p, const E* x, const T* weights, E* rows, T* row_weights) {
  parallel_rows(p.tokens, p.K * p.D / kNumbersPerNanosecond, [&](int64_t begin, int64_t end) {
    for (int64_t pair = begin * p.K; pair < end * p.K; ++pair) {
      std::copy_n(x + pair / p.K * p.D, p.D, rows + p.row[pair] * p.D);
      row_weights[p.row[pair]] = weights[pair];
    }
  });
}

template <class E, class T>
void permute_to_experts_backward_cpu(
    const ExpertRowsProblem& p, const E* drows, const T* drow_weights, E* dx, T* dweights) {
  sum_rows<T>(p, drows, dx);
  for (int64_t pair = 0; pair < p.tokens * p.K; ++pair) {
    dweights[pair] = drow_weights[p.row[pair]];
  }
}

template <class E, class T>
void combine_of_experts_cpu(const ExpertRowsProblem& p, const E* rows, T* out) {
  sum_rows<T>(p, rows, out);
}

template <class E, class T>
void combine_of_experts_backward_cpu(const ExpertRowsProblem& p, const T* dout, E* drows) {
  parallel_rows(p.tokens, p.K * p.D / kNumbersPerNanosecond, [&](int64_t begin, int64_t end) {
    RowsIn<T> in(dout, p.D);
    RowsOut<T> out(drows, p.D);
    for (int64_t pair = begin * p.K; pair < end * p.K; ++pair) {
      std::copy_n(in.at(pair / p.K, 1), p.D, out.at(p.row[pair], 1));
      out.put();
    }
  });
}

#define BRAID_EXPERT_ROWS(E, T)                                                               \
  template void permute_to_experts_cpu(const ExpertRowsProblem&, const E*, const T*, E*, T*); \
  template void permute_to_experts_backward_cpu(                                              \
      const ExpertRowsProblem&, const E*, const T*, E*, T*);                                  \
  template void combine_of_experts_cpu(const ExpertRowsProblem&, const E*, T*);               \
  template void combine_of_experts_backward_cpu(const ExpertRowsProblem&, const T*, E*);
BRAID_EXPERT_ROWS(float, float)
BRAID_EXPERT_ROWS(double, double)
BRAID_EXPERT_ROWS(Bfloat16, float)
#undef BRAID_EXPERT_ROWS

}  // namespace braid
