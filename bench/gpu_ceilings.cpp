// What each visible GPU is, and how fast it copies and multiplies at best, as JSON on standard
// output: the figures that those of kernels are held against.
#include <chrono>
#include <exception>
#include <iostream>
#include <string>

#include <ATen/ATen.h>
#include <nlohmann/json.hpp>

#include "core/error.h"
#include "parallel/cuda_plugin.h"

namespace braid {
namespace {

using Json = nlohmann::ordered_json;

/// Seconds of one call: the best of five times ten, after a first one.
template <class Action>
double seconds_of(const CudaPlugin& plugin, int device, const Action& action) {
  constexpr int kCalls = 10;
  action();
  double best = 1e30;
  for (int round = 0; round < 5; ++round) {
    plugin.synchronize(device);
    const auto start = std::chrono::steady_clock::now();
    for (int i = 0; i < kCalls; ++i) {
      action();
    }
    plugin.synchronize(device);
    const std::chrono::duration<double> taken = std::chrono::steady_clock::now() - start;
    best = std::min(best, taken.count() / kCalls);
  }
  return best;
}

/// GB/s of reading and writing within the device, and over the bus from and to pinned memory.
Json copies(const CudaPlugin& plugin, int index) {
  constexpr int64_t kBytes = int64_t{1} << 30;
  const auto on_device = at::device(at::Device(at::kCUDA, static_cast<c10::DeviceIndex>(index)));
  const auto a = at::zeros({kBytes}, on_device.dtype(at::kByte)), b = at::empty_like(a);
  const auto host = plugin.pinned_empty({kBytes}, at::kByte);
  host.zero_();
  const auto rate = [&](int64_t bytes, const at::Tensor& to, const at::Tensor& from) {
    const double seconds =
        seconds_of(plugin, index, [&] { to.copy_(from, /*non_blocking=*/true); });
    return static_cast<double>(bytes) / seconds / 1e9;
  };
  return {{"device_gb_per_s", rate(2 * kBytes, b, a)},
          {"to_device_gb_per_s", rate(kBytes, a, host)},
          {"from_device_gb_per_s", rate(kBytes, host, a)}};
}

/// TFLOP/s of a product of square matrices.
double product(const CudaPlugin& plugin, int index, at::ScalarType dtype, int64_t size) {
  const auto options =
      at::device(at::Device(at::kCUDA, static_cast<c10::DeviceIndex>(index))).dtype(dtype);
  const auto a = at::randn({size, size}, options), b = at::randn({size, size}, options);
  auto c = at::empty({size, size}, options);
  const double seconds = seconds_of(plugin, index, [&] { at::mm_out(c, a, b); });
  return 2.0 * static_cast<double>(size) * static_cast<double>(size) * static_cast<double>(size) /
         seconds / 1e12;
}

Json device_table(const CudaPlugin& plugin, int index) {
  const auto device = plugin.device(index);
  Json table = {{"name", device.name},
                {"capability", text(device.capability_major, ".", device.capability_minor)},
                {"multiprocessors", device.multiprocessors},
                {"memory_bytes", device.bytes},
                {"free_bytes", plugin.memory(index).free}};
  table["copies"] = copies(plugin, index);
  auto& products = table["products_tflop_per_s"];
  products["bfloat16"] = product(plugin, index, at::kBFloat16, 8192);
  products["float32"] = product(plugin, index, at::kFloat, 4096);
  at::globalContext().setAllowTF32CuBLAS(true);
  products["tf32"] = product(plugin, index, at::kFloat, 8192);
  at::globalContext().setAllowTF32CuBLAS(false);
  products["float64"] = product(plugin, index, at::kDouble, 4096);
  table["reserved_peak_bytes"] = plugin.memory(index).reserved_peak;
  return table;
}

void print_ceilings() {
  const auto& plugin = cuda_plugin();
  Json result = {{"cuda_version", plugin.cuda_version},
                 {"driver_version", plugin.driver_version()},
                 {"devices", Json::array()}};
  for (int index = 0; index < plugin.device_count(); ++index) {
    result["devices"].push_back(device_table(plugin, index));
  }
  std::cout << result.dump(2) << std::endl;
}

}  // namespace
}  // namespace braid

int main() {
  try {
    braid::print_ceilings();
  } catch (const std::exception& error) {
    std::cerr << "error: " << error.what() << std::endl;
    return 1;
  }
  return 0;
}
