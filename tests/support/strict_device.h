#pragma once
// A LibTorch device for tests that treats its users as a GPU does, on a machine without one.
#include <cstdint>
#include <functional>
#include <map>
#include <string>

#include <ATen/core/Tensor.h>

namespace braid::testing {

/// The device. Its memory cannot be touched by the CPU: code that follows a pointer of one of its
/// tensors ends by SIGSEGV. All of ATen's operations run on it, computed by ATen's CPU kernels, so
/// that results are those of the CPU. As on CUDA, an operation on tensors of this device and of the
/// CPU is an error (a CPU tensor without dimensions may take part, unless it is written to).
///
/// A program that calls this has the device from its start: at its first backward pass autograd
/// makes a thread for each device, on which the gradients of its tensors are computed.
///
/// It counts its memory as LibTorch's allocators do (c10::getDeviceAllocator). Copies that are
/// given without waiting to another stream than the first one are made as late as events allow:
/// when the host or the first stream waits for an event that was recorded behind them.
///
/// It cannot show what only a GPU has: other work that is still running when it is read, operations
/// that CUDA lacks for a type, sums whose order varies.
at::Device strict_device();

/// Lets the CPU touch the device's memory from a call with true on until one with false
/// for each of these: for kernels that the CPU runs in place of a GPU (kernels_on_host.h).
void allow_access_to_strict_memory(bool allow);

/// What was done on the device.
struct DeviceUse {
  std::map<std::string, std::int64_t> operations;  ///< how often, by ATen's names and "copy ..."
  /// Operations for whose results a GPU's host thread has to wait: reads of elements (item), shapes
  /// that depend on elements (nonzero, masks as indices), blocking copies from or to the CPU.
  std::map<std::string, std::int64_t> waits;
  /// Of copies that were given to other streams than the first one.
  std::int64_t late_copy_bytes = 0;

  std::int64_t number_of_operations() const;
  std::int64_t number_of_waits() const;
};

/// Of all threads, while f runs.
DeviceUse strict_device_use(const std::function<void()>& f);

}  // namespace braid::testing
