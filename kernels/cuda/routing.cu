// A warp has a token; its lanes have every 32nd expert each.
#include <cmath>

#include "kernels/cuda/device.h"
#include "kernels/cuda/tables.h"

namespace braid::cuda {
namespace {

constexpr int kTokens = 4, kThreads = kTokens * kWarp;  // of a block

// e^-|z|, 0 where it underflows.
__device__ float decay(float z) {
  return z > 87.0f || z < -87.0f ? 0.0f : expf(z < 0 ? z : -z);
}

// An expert and what it is chosen by.
struct Candidate {
  float value;
  int expert;
};

// The better one; of equals the lower expert.
__device__ bool is_before(const Candidate& a, const Candidate& b) {
  return a.value > b.value || (a.value == b.value && a.expert < b.expert);
}

__device__ Candidate best_of_warp(Candidate best) {
#pragma unroll
  for (int step = kWarp / 2; step > 0; step /= 2) {
    const Candidate other{__shfl_xor_sync(kAllLanes, best.value, step),
                          __shfl_xor_sync(kAllLanes, best.expert, step)};
    if (is_before(other, best)) {
      best = other;
    }
  }
  return best;
}

// The sum of the chosen experts' scores and the factor that makes weights of them.
struct Chosen {
  float sum = 0, factor;

  __device__ Chosen(const RoutingProblem<float>& p, const int64_t* experts, const float* scores) {
    for (int64_t k = 0; k < p.K; ++k) {
      sum += scores[experts[k]];
    }
    factor = sum > 0 ? p.scaling / sum : 0.0f;
  }
};

__global__ void __launch_bounds__(kThreads) routing_forward_kernel(RoutingProblem<float> p,
                                                                   int64_t* experts,
                                                                   float* scores,
                                                                   float* weights) {
  const int64_t token = int64_t{blockIdx.x} * kTokens + thread_index() / kWarp;
  const int lane = thread_index() % kWarp;
  if (token >= p.tokens) {
    return;  // a whole warp
  }
  const float* logits = p.logits + token * p.E;
  scores += token * p.E;
  experts += token * p.K;
  for (int64_t e = lane; e < p.E; e += kWarp) {
    const float z = logits[e];
    scores[e] = sqrtf((z > 0 ? z : 0.0f) + log1pf(decay(z)));
  }
  if (p.bias != nullptr) {
    Candidate last{INFINITY, -1};
    for (int64_t k = 0; k < p.K; ++k) {
      // The best of those behind the last one that was chosen.
      Candidate best{-INFINITY, static_cast<int>(p.E)};
      for (int64_t e = lane; e < p.E; e += kWarp) {
        const float sum = scores[e] + p.bias[e];
        const Candidate candidate{sum == sum ? sum : -INFINITY, static_cast<int>(e)};
        if (is_before(last, candidate) && is_before(candidate, best)) {
          best = candidate;
        }
      }
      last = best_of_warp(best);
      if (lane == 0) {
        experts[k] = last.expert;
      }
    }
  }
  __syncwarp();  // scores and experts are read by other lanes than wrote them
  const Chosen chosen(p, experts, scores);
  for (int64_t k = lane; k < p.K; k += kWarp) {
    weights[token * p.K + k] =
        chosen.sum == chosen.sum ? scores[experts[k]] * chosen.factor : chosen.sum;
  }
}

/// ds_k = scaling / sum s (dw_k - sum_j dw_j s_j / sum s), dz = ds sigmoid(z) / (2 s).
__global__ void __launch_bounds__(kThreads) routing_backward_kernel(RoutingProblem<float> p,
                                                                    const int64_t* experts,
                                                                    const float* scores,
                                                                    const float* dscores,
                                                                    const float* dweights,
                                                                    float* dlogits) {
  const int64_t token = int64_t{blockIdx.x} * kTokens + thread_index() / kWarp;
  if (token >= p.tokens) {
    return;
  }
  experts += token * p.K;
  dweights += token * p.K;
  const Chosen chosen(p, experts, scores + token * p.E);
  float weighted = 0;
  for (int64_t k = 0; k < p.K; ++k) {
    weighted += dweights[k] * scores[token * p.E + experts[k]];
  }
  const float mean = chosen.sum > 0 ? weighted / chosen.sum : 0.0f;
  for (int64_t e = thread_index() % kWarp; e < p.E; e += kWarp) {
    const int64_t at = token * p.E + e;
    float d = dscores != nullptr ? dscores[at] : 0.0f;
    for (int64_t k = 0; k < p.K; ++k) {
      if (experts[k] == e) {
        d += chosen.factor * (dweights[k] - mean);
      }
    }
    const float z = p.logits[at], decayed = decay(z);
    const float slope = (z < 0 ? decayed : 1.0f) / (1.0f + decayed);
    const float twice = 2.0f * scores[at];
    dlogits[at] = twice == 0 ? 0.0f : d * slope / twice;
  }
}

void routing_forward(
    const RoutingProblem<float>& p, int64_t* experts, float* scores, float* weights, void* stream) {
  launch(routing_forward_kernel,
         blocks_of(p.tokens, kTokens),
         kThreads,
         stream,
         p,
         experts,
         scores,
         weights);
}

void routing_backward(const RoutingProblem<float>& p,
                      const int64_t* experts,
                      const float* scores,
                      const float* dscores,
                      const float* dweights,
                      float* dlogits,
                      void* stream) {
  launch(routing_backward_kernel,
         blocks_of(p.tokens, kTokens),
         kThreads,
         stream,
         p,
         experts,
         scores,
         dscores,
         dweights,
         dlogits);
}

}  // namespace

void add_routing(CudaKernels& table) {
  table.float32.routing_forward = routing_forward;
  table.float32.routing_backward = routing_backward;
}

}  // namespace braid::cuda
