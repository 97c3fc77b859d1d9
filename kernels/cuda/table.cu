#include "kernels/cuda/tables.h"

namespace braid {

const CudaKernels& cuda_kernel_table() {
  static const CudaKernels kTable = [] {
    CudaKernels table;
    cuda::add_attention(table);
    cuda::add_codec(table);
    cuda::add_cross_entropy(table);
    cuda::add_expert_products(table);
    cuda::add_expert_rows(table);
    cuda::add_fp4_products(table);
    cuda::add_index_topk(table);
    cuda::add_indexer_kl(table);
    cuda::add_mhc(table);
    cuda::add_newton_schulz(table);
    cuda::add_rms_norm(table);
    cuda::add_rope(table);
    cuda::add_routing(table);
    cuda::add_sinkhorn(table);
    cuda::add_streams(table);
    cuda::add_swiglu(table);
    cuda::add_update(table);
    return table;
  }();
  return kTable;
}

}  // namespace braid
