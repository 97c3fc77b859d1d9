#pragma once
// Each file of kernels puts its own into the table.
#include "kernels/cuda/kernels.h"

namespace braid::cuda {

void add_attention(CudaKernels& table);
void add_codec(CudaKernels& table);
void add_cross_entropy(CudaKernels& table);
void add_expert_products(CudaKernels& table);
void add_expert_rows(CudaKernels& table);
void add_fp4_products(CudaKernels& table);
void add_index_topk(CudaKernels& table);
void add_indexer_kl(CudaKernels& table);
void add_mhc(CudaKernels& table);
void add_newton_schulz(CudaKernels& table);
void add_rms_norm(CudaKernels& table);
void add_rope(CudaKernels& table);
void add_routing(CudaKernels& table);
void add_sinkhorn(CudaKernels& table);
void add_streams(CudaKernels& table);
void add_swiglu(CudaKernels& table);
void add_update(CudaKernels& table);

}  // namespace braid::cuda
