# The kernels in CUDA C++, for nvcc (CMakeLists.txt here) and for the CPU (tests/cuda_on_host).
set(BRAID_CUDA_SOURCES
  ${CMAKE_CURRENT_LIST_DIR}/attention.cu
  ${CMAKE_CURRENT_LIST_DIR}/attention_mma.cu
  ${CMAKE_CURRENT_LIST_DIR}/codec.cu
  ${CMAKE_CURRENT_LIST_DIR}/cross_entropy.cu
  ${CMAKE_CURRENT_LIST_DIR}/expert_rows.cu
  ${CMAKE_CURRENT_LIST_DIR}/fp4_products.cu
  ${CMAKE_CURRENT_LIST_DIR}/index_topk.cu
  ${CMAKE_CURRENT_LIST_DIR}/mhc.cu
  ${CMAKE_CURRENT_LIST_DIR}/rms_norm.cu
  ${CMAKE_CURRENT_LIST_DIR}/rope.cu
  ${CMAKE_CURRENT_LIST_DIR}/routing.cu
  ${CMAKE_CURRENT_LIST_DIR}/sinkhorn.cu
  ${CMAKE_CURRENT_LIST_DIR}/streams.cu
  ${CMAKE_CURRENT_LIST_DIR}/swiglu.cu
  ${CMAKE_CURRENT_LIST_DIR}/table.cu
  ${CMAKE_CURRENT_LIST_DIR}/update.cu)
