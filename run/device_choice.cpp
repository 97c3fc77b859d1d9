#include "run/device_choice.h"

#include <charconv>
#include <cstdlib>
#include <limits>

#include <ATen/Context.h>

#include "core/error.h"
#include "kernels/device.h"
#include "parallel/cuda_plugin.h"
#include "parallel/mpi_world.h"

namespace braid {
namespace {

constexpr int64_t kMostDevices = std::numeric_limits<c10::DeviceIndex>::max();

// Twins add up with index_add and scatter_add, whose order varies on CUDA unless LibTorch is told
// otherwise; an operation that has no fixed order there warns.
void make_sums_deterministic() {
  setenv("CUBLAS_WORKSPACE_CONFIG", ":4096:8", /*overwrite=*/0);
  auto& context = at::globalContext();
  context.setDeterministicAlgorithms(true, /*warn_only=*/true);
  context.setDeterministicFillUninitializedMemory(false);
}

// Makes GPUs usable, with Braid's kernels and sums of one order, and says how many this machine
// has. Throws Error that says what it lacks to have one.
int64_t open_cuda_devices() {
  const auto& plugin = cuda_plugin();
  if (plugin.kernels != nullptr) {
    register_device_kernels(at::kCUDA, {plugin.kernels, plugin.current_stream});
  }
  make_sums_deterministic();
  return plugin.device_count();
}

}  // namespace

std::optional<DeviceChoice> DeviceChoice::parse(const std::string& text) {
  if (text == "cpu" || text == "cuda") {
    return DeviceChoice{text == "cpu" ? Kind::kCpu : Kind::kCuda};
  }
  constexpr std::string_view kNumbered = "cuda:";
  if (!text.starts_with(kNumbered)) {
    return std::nullopt;
  }
  int64_t number = -1;
  const auto* end = text.data() + text.size();
  const auto [stopped, error] = std::from_chars(text.data() + kNumbered.size(), end, number);
  const bool sound = error == std::errc() && stopped == end && number >= 0 && number < kMostDevices;
  return sound ? std::optional(DeviceChoice{Kind::kCuda, number}) : std::nullopt;
}

std::string DeviceChoice::spelled() const {
  if (kind == Kind::kCpu) {
    return "cpu";
  }
  return number ? text("cuda:", *number) : "cuda";
}

DeviceChoice DeviceChoice::from_config(const ConfigNode& node,
                                       const std::string& path,
                                       ConfigPlaces& /*places*/) {
  const auto choice = node.kind == ConfigNode::Kind::kScalar ? parse(node.scalar) : std::nullopt;
  if (!choice) {
    fail_at(path,
            node,
            text("expected cpu, cuda, or cuda:N with the number of a device, such as cuda:0; got ",
                 described(node)));
  }
  return *choice;
}

at::Device device_of(const DeviceChoice& choice, const std::string& asked_by) {
  if (choice.kind == DeviceChoice::Kind::kCpu) {
    return at::kCPU;
  }
  const auto what = text(asked_by, " is ", choice.spelled(), ", but ");
  int64_t devices = 0;
  try {
    devices = open_cuda_devices();
  } catch (const Error& error) {
    fail(what, error.what());
  }
  const int64_t number = choice.number.value_or(launched_as().rank_on_this_machine % devices);
  require(number < devices,
          what,
          "this machine has the devices cuda:0 to cuda:",
          devices - 1,
          "; expected one of them, or cuda for one of them by rank");
  return {at::kCUDA, static_cast<c10::DeviceIndex>(number)};
}

}  // namespace braid
