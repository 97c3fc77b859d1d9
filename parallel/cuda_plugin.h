#pragma once
// The library libbraid_cuda.so: all of Braid that needs CUDA's and NCCL's headers. The program
// does not link it, so that machines without GPUs need nothing new and start as fast as ever.
#include <cstdint>
#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include <ATen/core/Tensor.h>

#include "parallel/device_link.h"

namespace braid {

struct CudaKernels;  // the table of kernels/, which this folder does not know

struct CudaDevice {
  std::string name;  ///< "NVIDIA H200"
  std::string bus;   ///< "0000:1B:00.0", unique on a machine
  int capability_major = 0, capability_minor = 0;
  int multiprocessors = 0;
  int64_t bytes = 0;  ///< of its memory
};

/// Of a device, in bytes. What LibTorch's allocator has for tensors, and all that the device has.
struct CudaMemory {
  int64_t free = 0, total = 0;                ///< of the device, whoever uses it
  int64_t allocated = 0, allocated_peak = 0;  ///< in tensors, now and at most
  int64_t reserved = 0, reserved_peak = 0;    ///< held from the device, now and at most
};

/// What the library offers. `device` is a device's index. Functions throw Error or c10::Error.
struct CudaPlugin {
  int cuda_version = 0;  ///< that it is built for: 13000 is CUDA 13.0

  int (*driver_version)() = nullptr;  ///< the newest CUDA that the driver knows; 0 without a driver
  int (*device_count)() = nullptr;    ///< of the visible ones; 0 where CUDA reports an error
  std::string (*device_problem)() = nullptr;  ///< CUDA's words where device_count() is 0

  CudaDevice (*device)(int device) = nullptr;
  CudaMemory (*memory)(int device) = nullptr;
  void (*reset_peaks)(int device) = nullptr;  ///< the peaks are from now on

  void (*synchronize)(int device) = nullptr;  ///< waits for all that the device was given
  /// The stream of LibTorch's own operations, a cudaStream_t.
  void* (*current_stream)(c10::Device device) = nullptr;

  /// A tensor of the host's memory that a device copies from and to without the host waiting
  /// (pinned), uninitialized.
  at::Tensor (*pinned_empty)(at::IntArrayRef sizes, at::ScalarType dtype) = nullptr;

  /// What the ranks of a group need to find each other; made by one of them.
  std::string (*nccl_id)() = nullptr;
  /// Begins to start NCCL among `size` ranks, of which this is `rank`. state() of the link says
  /// when it is done.
  std::unique_ptr<DeviceLink> (*nccl_link)(int device,
                                           int rank,
                                           int size,
                                           const std::string& id) = nullptr;

  /// Braid's kernels; null in a plugin without. Whoever opens the plugin makes them known to
  /// operations, with current_stream.
  const CudaKernels* kernels = nullptr;
};

/// The plugin, opened by the first call; 0.6 s with LibTorch's CUDA half, which then has its
/// tensors on GPUs. Call it before the first backward pass, and before anything asks LibTorch
/// about GPUs (a generator's seed does): it remembers the answer. Throws Error with one sentence
/// when no GPU can be used; a later call tries again.
const CudaPlugin& cuda_plugin();

/// Where the plugin and what it needs are looked for.
struct CudaPluginPlaces {
  std::vector<std::filesystem::path> plugin;  ///< the first that exists
  std::filesystem::path torch;                ///< LibTorch's CUDA half
  std::string driver = "libcuda.so.1";

  /// The plugin beside the program, then in the lib folder of the program's installation, or where
  /// the variable BRAID_CUDA_PLUGIN says; LibTorch's half beside its CPU half.
  static CudaPluginPlaces usual();
};

/// As cuda_plugin(), each time anew.
const CudaPlugin& open_cuda_plugin(const CudaPluginPlaces& places);

/// What a plugin and a program must have in common: Braid's version, LibTorch's, and a digest of
/// this header and those it needs.
const char* cuda_plugin_stamp();

/// The names that the library exports: its stamp (const char[]) and a function CudaPlugin*().
inline constexpr const char* kCudaPluginStampSymbol = "braid_cuda_plugin_stamp";
inline constexpr const char* kCudaPluginSymbol = "braid_cuda_plugin";

}  // namespace braid
