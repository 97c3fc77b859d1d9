// The table of libbraid_cuda.so.
#include <ATen/Context.h>
#include <ATen/ops/empty.h>
#include <c10/cuda/CUDACachingAllocator.h>
#include <c10/cuda/CUDAException.h>
#include <c10/cuda/CUDAFunctions.h>
#include <c10/cuda/CUDAGuard.h>
#include <c10/cuda/CUDAStream.h>
#include <cuda_runtime_api.h>

#include "core/error.h"
#include "cuda/nccl.h"
#include "parallel/cuda_plugin.h"
#ifdef BRAID_CUDA_KERNELS
#include "kernels/cuda/kernels.h"
#endif

namespace braid {
namespace {

int driver_version() {
  int version = 0;
  return cudaDriverGetVersion(&version) == cudaSuccess ? version : 0;
}

int device_count() {
  int count = 0;
  const auto result = cudaGetDeviceCount(&count);
  (void)cudaGetLastError();  // it is no error of what follows
  return result == cudaSuccess ? count : 0;
}

std::string device_problem() {
  int count = 0;
  const auto result = cudaGetDeviceCount(&count);
  (void)cudaGetLastError();
  return cudaGetErrorString(result == cudaSuccess ? cudaErrorNoDevice : result);
}

CudaDevice device(int index) {
  cudaDeviceProp properties{};
  C10_CUDA_CHECK(cudaGetDeviceProperties(&properties, index));
  char bus[32] = {};
  C10_CUDA_CHECK(cudaDeviceGetPCIBusId(bus, sizeof bus, index));
  return {properties.name,
          bus,
          properties.major,
          properties.minor,
          properties.multiProcessorCount,
          static_cast<int64_t>(properties.totalGlobalMem)};
}

CudaMemory memory(int index) {
  const c10::cuda::CUDAGuard guard(static_cast<c10::DeviceIndex>(index));
  std::size_t free = 0, total = 0;
  C10_CUDA_CHECK(cudaMemGetInfo(&free, &total));
  CudaMemory memory;
  memory.free = static_cast<int64_t>(free);
  memory.total = static_cast<int64_t>(total);
  at::globalContext().lazyInitDevice(at::kCUDA);  // the allocator knows the devices from then on
  const auto stats =
      c10::cuda::CUDACachingAllocator::getDeviceStats(static_cast<c10::DeviceIndex>(index));
  constexpr auto kAll = static_cast<std::size_t>(c10::CachingAllocator::StatType::AGGREGATE);
  memory.allocated = stats.allocated_bytes[kAll].current;
  memory.allocated_peak = stats.allocated_bytes[kAll].peak;
  memory.reserved = stats.reserved_bytes[kAll].current;
  memory.reserved_peak = stats.reserved_bytes[kAll].peak;
  return memory;
}

void reset_peaks(int index) {
  at::globalContext().lazyInitDevice(at::kCUDA);
  c10::cuda::CUDACachingAllocator::resetPeakStats(static_cast<c10::DeviceIndex>(index));
}

void synchronize(int index) {
  const c10::cuda::CUDAGuard guard(static_cast<c10::DeviceIndex>(index));
  c10::cuda::device_synchronize();
}

void* current_stream(c10::Device of) {
  return c10::cuda::getCurrentCUDAStream(of.index()).stream();
}

at::Tensor pinned_empty(at::IntArrayRef sizes, at::ScalarType dtype) {
  return at::empty(sizes, at::TensorOptions().dtype(dtype).pinned_memory(true));
}

CudaPlugin table() {
  CudaPlugin plugin;
  plugin.cuda_version = CUDART_VERSION;
  plugin.driver_version = driver_version;
  plugin.device_count = device_count;
  plugin.device_problem = device_problem;
  plugin.device = device;
  plugin.memory = memory;
  plugin.reset_peaks = reset_peaks;
  plugin.synchronize = synchronize;
  plugin.current_stream = current_stream;
  plugin.pinned_empty = pinned_empty;
  plugin.nccl_id = nccl_id;
  plugin.nccl_link = nccl_link;
#ifdef BRAID_CUDA_KERNELS  // ==== the kernels of the target braid_cuda_kernels ====
  plugin.kernels = &cuda_kernel_table();
#endif
  return plugin;
}

}  // namespace
}  // namespace braid

extern "C" {

[[gnu::visibility("default")]] extern const char braid_cuda_plugin_stamp[];
const char braid_cuda_plugin_stamp[] = BRAID_CUDA_STAMP;

[[gnu::visibility("default")]] const braid::CudaPlugin* braid_cuda_plugin() {
  static const braid::CudaPlugin plugin = braid::table();
  return &plugin;
}

}  // extern "C"
