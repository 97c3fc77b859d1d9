#include "run/memory.h"

#include <atomic>
#include <cstdio>
#include <fstream>
#include <iterator>

#include <c10/core/CPUAllocator.h>
#include <c10/core/CachingDeviceAllocator.h>
#include <c10/core/impl/alloc_cpu.h>
#include <malloc.h>
#include <unistd.h>

#include "core/kept_memory.h"

namespace braid {
namespace {

std::atomic<int64_t> g_now{0}, g_peak{0};

void count(int64_t bytes) {
  const int64_t now = g_now.fetch_add(bytes, std::memory_order_relaxed) + bytes;
  int64_t peak = g_peak.load(std::memory_order_relaxed);
  while (now > peak && !g_peak.compare_exchange_weak(peak, now, std::memory_order_relaxed)) {
  }
}

KeptMemory& kept_memory() {
  // Four times the machine's memory: room for blocks that lie awkwardly. It outlives every tensor.
  static auto* memory = new KeptMemory(4 * static_cast<std::size_t>(sysconf(_SC_PHYS_PAGES)) *
                                       static_cast<std::size_t>(sysconf(_SC_PAGESIZE)));
  return *memory;
}

void release(void* data) {
  if (data == nullptr) {
    return;
  }
  if (const std::size_t size = kept_memory().give_back(data); size > 0) {
    count(-static_cast<int64_t>(size));
  } else {
    count(-static_cast<int64_t>(malloc_usable_size(data)));
    c10::free_cpu(data);
  }
}

struct CountingAllocator final : c10::Allocator {
  at::DataPtr allocate(std::size_t bytes) override {
    if (bytes >= KeptMemory::kSmallest) {
      if (void* data = kept_memory().take(bytes); data != nullptr) {
        count(static_cast<int64_t>((bytes + 4095) / 4096 * 4096));
        return {data, data, &release, at::Device(at::kCPU)};
      }
    }
    void* data = c10::alloc_cpu(bytes);
    if (data != nullptr) {
      count(static_cast<int64_t>(malloc_usable_size(data)));
    }
    return {data, data, &release, at::Device(at::kCPU)};
  }
  at::DeleterFnPtr raw_deleter() const override { return &release; }
  void copy_data(void* to, const void* from, std::size_t bytes) const override {
    default_copy_data(to, from, bytes);
  }
};

c10::CachingAllocator::Stat allocated_on(at::Device device) {
  constexpr auto kAll = static_cast<std::size_t>(c10::CachingAllocator::StatType::AGGREGATE);
  return c10::getDeviceAllocator(device.type())
      ->getDeviceStats(device.index())
      .allocated_bytes[kAll];
}

// A line "VmRSS:  1234 kB" of /proc/self/status.
int64_t status_bytes(const std::string& key) {
  std::ifstream status("/proc/self/status");
  for (std::string line; std::getline(status, line);) {
    if (line.rfind(key + ":", 0) == 0) {
      return std::atoll(line.c_str() + key.size() + 1) * 1024;
    }
  }
  return 0;
}

}  // namespace

void TensorMemory::watch() {
  static CountingAllocator allocator;
  static const bool installed = [] {
    c10::SetCPUAllocator(&allocator, /*priority=*/1);
    return true;
  }();
  static_cast<void>(installed);
}

int64_t TensorMemory::now(at::Device device) {
  return device.is_cpu() ? g_now.load(std::memory_order_relaxed) : allocated_on(device).current;
}

int64_t TensorMemory::take_peak(at::Device device) {
  if (device.is_cpu()) {
    return g_peak.exchange(now(device), std::memory_order_relaxed);
  }
  const auto peak = allocated_on(device).peak;
  c10::getDeviceAllocator(device.type())->resetPeakStats(device.index());
  return peak;
}

int64_t resident_bytes() {
  return status_bytes("VmRSS");
}

int64_t peak_resident_bytes() {
  return status_bytes("VmHWM");
}

std::string bytes_text(double bytes) {
  constexpr const char* kUnits[] = {"B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"};
  std::size_t unit = 0;
  for (; bytes >= 1024 && unit + 1 < std::size(kUnits); ++unit) {
    bytes /= 1024;
  }
  char result[40];
  const char* format = unit == 0 || bytes >= 100 ? "%.0f %s" : bytes >= 10 ? "%.1f %s" : "%.2f %s";
  std::snprintf(result, sizeof result, format, bytes, kUnits[unit]);
  return result;
}

}  // namespace braid
