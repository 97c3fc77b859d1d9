#include "tests/support/strict_device.h"

#include <atomic>
#include <cstring>
#include <deque>
#include <mutex>
#include <numeric>
#include <set>
#include <utility>
#include <vector>

#include <ATen/ATen.h>
#include <ATen/EmptyTensor.h>
#include <ATen/detail/PrivateUse1HooksInterface.h>
#include <ATen/native/CPUFallback.h>
#include <ATen/ops/_reshape_alias_native.h>
#include <ATen/ops/as_strided_native.h>
#include <ATen/ops/view_native.h>
#include <c10/core/CachingDeviceAllocator.h>
#include <c10/core/impl/DeviceGuardImplInterface.h>
#include <torch/library.h>

#include "core/error.h"
#include "tests/support/strict_memory.h"

namespace braid::testing {
namespace {

constexpr auto kKey = c10::DispatchKey::PrivateUse1;
const at::Device kDevice(at::kPrivateUse1, 0);

// ---- Memory ----

// Never destroyed: tensors in static variables outlive everything else.
StrictMemory& memory() {
  static auto* memory = new StrictMemory;
  return *memory;
}

void free_memory(void* address) {
  if (address != nullptr) {
    memory().free(address);
  }
}

class StrictAllocator final : public c10::DeviceAllocator {
 public:
  at::DataPtr allocate(std::size_t bytes) override {
    void* address = bytes > 0 ? memory().allocate(bytes) : nullptr;
    return {address, address, &free_memory, kDevice};
  }
  at::DeleterFnPtr raw_deleter() const override { return &free_memory; }
  void copy_data(void* to, const void* from, std::size_t bytes) const override {
    std::memcpy(memory().accessible(to), memory().accessible(from), bytes);
  }

  bool initialized() override { return true; }
  void emptyCache(c10::MempoolId_t) override {}
  void recordStream(const c10::DataPtr&, c10::Stream) override {}
  c10::CachingDeviceAllocator::DeviceStats getDeviceStats(c10::DeviceIndex) override {
    c10::CachingDeviceAllocator::DeviceStats stats;
    auto& bytes =
        stats.allocated_bytes[static_cast<std::size_t>(c10::CachingAllocator::StatType::AGGREGATE)];
    const auto use = memory().use();
    bytes.current = use.now;
    bytes.peak = use.peak;
    return stats;
  }
  void resetAccumulatedStats(c10::DeviceIndex) override {}
  void resetPeakStats(c10::DeviceIndex) override { memory().reset_peak(); }
};

StrictAllocator& allocator() {
  static auto* allocator = new StrictAllocator;
  return *allocator;
}

// The same elements for the CPU; a tensor of the CPU as it is.
at::Tensor accessible(const at::Tensor& tensor) {
  if (tensor.is_cpu()) {
    return tensor;
  }
  const auto options = tensor.options().device(at::kCPU).requires_grad(false);
  if (tensor.numel() == 0) {
    return at::empty(tensor.sizes(), options);
  }
  return at::from_blob(
      memory().accessible(tensor.const_data_ptr()), tensor.sizes(), tensor.strides(), options);
}

// ---- What is counted ----

std::mutex g_mutex;
DeviceUse g_use;
thread_local bool t_computing = false;  // copies in an operation are not the caller's

void count(const std::string& operation, bool waits) {
  if (!t_computing) {
    const std::lock_guard lock(g_mutex);
    ++g_use.operations[operation];
    if (waits) {
      ++g_use.waits[operation];
    }
  }
}

// ---- Streams: the first one's work is done at once, copies of others when they are waited for
// ----

constexpr c10::StreamId kFirstStream = 0;
thread_local c10::StreamId t_stream = kFirstStream;

class LateCopies {
 public:
  void add(c10::StreamId stream, std::function<void()> copy) {
    const std::lock_guard lock(mutex_);
    streams_[stream].copies.push_back(std::move(copy));
  }

  // What an event that is recorded now waits for.
  struct Place {
    c10::StreamId stream;
    std::size_t end;
  };
  Place place(c10::StreamId stream) {
    const std::lock_guard lock(mutex_);
    return {stream, streams_[stream].done + streams_[stream].copies.size()};
  }

  void make_until(const Place& place) {
    const std::lock_guard lock(mutex_);
    streams_[place.stream].make_until(place.end);
  }

  void make_all() {
    const std::lock_guard lock(mutex_);
    for (auto& [id, stream] : streams_) {
      stream.make_until(stream.done + stream.copies.size());
    }
  }

 private:
  struct OfStream {
    std::deque<std::function<void()>> copies;
    std::size_t done = 0;

    void make_until(std::size_t end) {
      for (; done < end && !copies.empty(); ++done) {
        copies.front()();
        copies.pop_front();
      }
    }
  };
  std::mutex mutex_;
  std::map<c10::StreamId, OfStream> streams_;
};

LateCopies& late_copies() {
  static auto* copies = new LateCopies;
  return *copies;
}

// ---- Operations: those that make tensors and views, copies, and all others ----

at::Tensor make_empty(c10::IntArrayRef sizes,
                      std::optional<at::ScalarType> type,
                      std::optional<at::Layout>,
                      std::optional<at::Device>,
                      std::optional<bool>,
                      std::optional<at::MemoryFormat> format) {
  return at::detail::empty_generic(
      sizes, &allocator(), c10::DispatchKeySet(kKey), type.value_or(at::kFloat), format);
}

at::Tensor make_strided(c10::IntArrayRef sizes,
                        c10::IntArrayRef strides,
                        std::optional<at::ScalarType> type,
                        std::optional<at::Layout>,
                        std::optional<at::Device>,
                        std::optional<bool>) {
  return at::detail::empty_strided_generic(
      sizes, strides, &allocator(), c10::DispatchKeySet(kKey), type.value_or(at::kFloat));
}

const at::Tensor& resize_in_place(const at::Tensor& tensor,
                                  c10::IntArrayRef sizes,
                                  std::optional<at::MemoryFormat>) {
  if (tensor.sizes() == sizes) {
    return tensor;
  }
  const auto& storage = tensor.storage();
  const auto bytes = static_cast<std::size_t>(
      (tensor.storage_offset() + c10::multiply_integers(sizes)) * tensor.element_size());
  if (storage.nbytes() < bytes) {
    auto larger = allocator().allocate(bytes);
    if (storage.nbytes() > 0) {
      allocator().copy_data(larger.get(), storage.data(), storage.nbytes());
    }
    storage.set_data_ptr_noswap(std::move(larger));
    storage.set_nbytes(bytes);
  }
  tensor.unsafeGetTensorImpl()->set_sizes_contiguous(sizes);
  return tensor;
}

at::Tensor copy_between(const at::Tensor& from, const at::Tensor& to, bool non_blocking) {
  const bool crosses = from.is_cpu() || to.is_cpu();
  count(from.is_cpu() ? "copy from the CPU"
        : to.is_cpu() ? "copy to the CPU"
                      : "copy",
        crosses && !non_blocking);
  const auto copy = [from, to] {
    const at::AutoDispatchBelowADInplaceOrView without_autograd;
    accessible(to).copy_(accessible(from));
  };
  if (t_stream != kFirstStream && non_blocking && !t_computing) {
    {
      const std::lock_guard lock(g_mutex);
      g_use.late_copy_bytes += static_cast<std::int64_t>(to.nbytes());
    }
    late_copies().add(t_stream, copy);
  } else {
    copy();
  }
  return to;
}

at::Tensor copy_and_resize(const at::Tensor& from, const at::Tensor& to) {
  if (!to.is_cpu()) {
    resize_in_place(to, from.sizes(), std::nullopt);
  }
  return copy_between(from, to, false);
}

// The tensors among an operation's arguments, and whether it writes to them.
struct Operand {
  at::Tensor tensor;
  bool written, index;
};

std::vector<Operand> operands_of(const c10::OperatorHandle& operation,
                                 const torch::jit::Stack& stack) {
  const auto& declared = operation.schema().arguments();
  const auto given = torch::jit::last(stack, declared.size());
  std::vector<Operand> operands;
  for (std::size_t i = 0; i < declared.size(); ++i) {
    const auto* alias = declared[i].alias_info();
    const bool written = alias != nullptr && alias->isWrite(),
               index = declared[i].name() == "indices";
    const auto add = [&](const at::Tensor& tensor) {
      if (tensor.defined()) {
        operands.push_back({tensor, written, index});
      }
    };
    if (given[i].isTensor()) {
      add(given[i].toTensor());
    } else if (given[i].isTensorList()) {
      for (const auto& tensor : given[i].toTensorVector()) {
        add(tensor);
      }
    } else if (given[i].isOptionalTensorList()) {
      for (const auto& tensor : given[i].toOptionalTensorVector()) {
        add(tensor.value_or(at::Tensor()));
      }
    }
  }
  return operands;
}

void require_one_device(const std::string& name, const std::vector<Operand>& operands) {
  for (const auto& [tensor, written, index] : operands) {
    require(!tensor.is_cpu() || (tensor.dim() == 0 && !written),
            "[strict device] ",
            name,
            " takes tensors of two devices: one of them, ",
            tensor.scalar_type(),
            " ",
            tensor.sizes(),
            ", is on the CPU");
  }
}

bool waits_for(const std::string& name, const std::vector<Operand>& operands) {
  static const std::set<std::string> kReadsElements = {"aten::_local_scalar_dense",
                                                       "aten::_unique2",
                                                       "aten::bincount",
                                                       "aten::equal",
                                                       "aten::masked_select",
                                                       "aten::nonzero",
                                                       "aten::repeat_interleave",
                                                       "aten::unique_dim"};
  bool mask = false;  // its true elements are counted first; for aten::index, by aten::nonzero
  for (const auto& operand : operands) {
    mask |= operand.index && operand.tensor.scalar_type() == at::kBool;
  }
  return (mask && name != "aten::index") || kReadsElements.count(name) == 1;
}

void compute_on_cpu(const c10::OperatorHandle& operation, torch::jit::Stack* stack) {
  const auto& name = operation.schema().operator_name().name;
  {
    const auto operands = operands_of(operation, *stack);
    require_one_device(name, operands);
    count(name, waits_for(name, operands));
  }
  struct Computing {
    bool before = std::exchange(t_computing, true);
    ~Computing() { t_computing = before; }
  } computing;
  at::native::cpu_fallback(operation, stack);
}

// ---- What LibTorch asks of a device ----

struct Hooks final : at::PrivateUse1HooksInterface {
  bool hasPrimaryContext(c10::DeviceIndex) const override { return true; }
  bool isBuilt() const override { return true; }
  bool isAvailable() const override { return true; }
};

struct Guard final : c10::impl::NoOpDeviceGuardImpl<at::kPrivateUse1> {
  c10::Device exchangeDevice(c10::Device) const override { return kDevice; }
  c10::Device getDevice() const override { return kDevice; }
  c10::Stream getStream(c10::Device) const noexcept override { return stream(t_stream); }
  c10::Stream getNewStream(c10::Device, int) const override {
    static std::atomic<c10::StreamId> last = kFirstStream;
    return stream(++last);
  }
  c10::Stream exchangeStream(c10::Stream next) const noexcept override {
    return stream(std::exchange(t_stream, next.id()));
  }
  void synchronizeStream(const c10::Stream& given) const override {
    late_copies().make_until(late_copies().place(given.id()));
  }
  void synchronizeDevice(const c10::DeviceIndex) const override { late_copies().make_all(); }

  void record(void** event,
              const c10::Stream& given,
              c10::DeviceIndex,
              c10::EventFlag) const override {
    destroyEvent(*event, 0);
    *event = new LateCopies::Place(late_copies().place(given.id()));
  }
  void block(void* event, const c10::Stream&) const override { synchronizeEvent(event); }
  bool queryEvent(void*) const override { return true; }
  void synchronizeEvent(void* event) const override {
    late_copies().make_until(*static_cast<LateCopies::Place*>(event));
  }
  void destroyEvent(void* event, c10::DeviceIndex) const noexcept override {
    delete static_cast<LateCopies::Place*>(event);
  }

  static c10::Stream stream(c10::StreamId id) {
    return c10::Stream(c10::Stream::UNSAFE, kDevice, id);
  }
};

bool register_device() {
  c10::register_privateuse1_backend("strict");
  c10::SetAllocator(at::kPrivateUse1, &allocator());
  at::RegisterPrivateUse1HooksInterface(new Hooks);
  static const Guard guard;
  static const c10::impl::DeviceGuardImplRegistrar guard_registrar(at::kPrivateUse1, &guard);

  static torch::Library some(torch::Library::IMPL, "aten", kKey, __FILE__, __LINE__);
  some.impl("empty.memory_format", &make_empty);
  some.impl("empty_strided", &make_strided);
  some.impl("resize_", &resize_in_place);
  some.impl("_copy_from", &copy_between);
  some.impl("_copy_from_and_resize", &copy_and_resize);
  some.impl("as_strided", &at::native::as_strided_tensorimpl);
  some.impl("view", &at::native::view);
  some.impl("_reshape_alias", &at::native::_reshape_alias);
  static torch::Library others(torch::Library::IMPL, "_", kKey, __FILE__, __LINE__);
  others.fallback(torch::CppFunction::makeFromBoxedFunction<&compute_on_cpu>());
  return true;
}

// Before the first backward pass, at which autograd counts the devices.
[[maybe_unused]] const bool g_registered = register_device();

std::int64_t sum_of(const std::map<std::string, std::int64_t>& counts) {
  return std::accumulate(
      counts.begin(), counts.end(), std::int64_t{0}, [](std::int64_t sum, const auto& count) {
        return sum + count.second;
      });
}

}  // namespace

at::Device strict_device() {
  return kDevice;
}

void allow_access_to_strict_memory(bool allow) {
  memory().allow_access(allow);
}

std::int64_t DeviceUse::number_of_operations() const {
  return sum_of(operations);
}
std::int64_t DeviceUse::number_of_waits() const {
  return sum_of(waits);
}

DeviceUse strict_device_use(const std::function<void()>& f) {
  {
    const std::lock_guard lock(g_mutex);
    g_use = {};
  }
  f();
  const std::lock_guard lock(g_mutex);
  return std::exchange(g_use, {});
}

}  // namespace braid::testing
