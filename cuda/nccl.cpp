#include "cuda/nccl.h"

#include <chrono>
#include <cstring>
#include <mutex>
#include <thread>
#include <utility>

#include <c10/cuda/CUDAException.h>
#include <c10/cuda/CUDAGuard.h>
#include <c10/cuda/CUDAStream.h>
#include <nccl.h>

#include "core/error.h"

namespace braid {
namespace {

// A CUDA event of a device, recorded where it is made.
class Event : public DeviceMark {
 public:
  explicit Event(c10::cuda::CUDAStream stream) : device_(stream.device_index()) {
    const c10::cuda::CUDAGuard guard(device_);
    C10_CUDA_CHECK(cudaEventCreateWithFlags(&event_, cudaEventDisableTiming));
    C10_CUDA_CHECK(cudaEventRecord(event_, stream));
  }
  ~Event() override { C10_CUDA_CHECK_WARN(cudaEventDestroy(event_)); }
  Event(const Event&) = delete;
  Event& operator=(const Event&) = delete;

  bool is_passed() override {
    const cudaError_t state = cudaEventQuery(event_);
    if (state == cudaErrorNotReady) {
      (void)cudaGetLastError();  // it is no error
      return false;
    }
    require(state == cudaSuccess, "CUDA: ", cudaGetErrorString(state));
    return true;
  }
  void hold_back_stream() override { hold_back(c10::cuda::getCurrentCUDAStream(device_)); }
  void hold_back(c10::cuda::CUDAStream stream) {
    C10_CUDA_CHECK(cudaStreamWaitEvent(stream, event_));
  }

 private:
  c10::DeviceIndex device_;
  cudaEvent_t event_ = nullptr;
};

std::string message_of(ncclResult_t result) {
  return text("NCCL: ", ncclGetErrorString(result), ": ", ncclGetLastError(nullptr));
}

// No call of NCCL blocks: each may say that it goes on in the background.
class NcclLink : public DeviceLink {
 public:
  NcclLink(c10::DeviceIndex device, int rank, int size, const ncclUniqueId& id)
      : device_(device), stream_(c10::cuda::getStreamFromPool(/*isHighPriority=*/true, device)) {
    const c10::cuda::CUDAGuard guard(device_);
    ncclConfig_t config = NCCL_CONFIG_INITIALIZER;
    config.blocking = 0;
    check(ncclCommInitRankConfig(&comm_, size, id, rank, &config));
  }

  // At a peaceful end all ranks come here; otherwise the others need not any more.
  ~NcclLink() override {
    if (comm_ == nullptr) {
      return;
    }
    if (is_finalized()) {
      ncclCommDestroy(comm_);
    } else {
      ncclCommAbort(comm_);
    }
  }
  NcclLink(const NcclLink&) = delete;
  NcclLink& operator=(const NcclLink&) = delete;

  State state() override {
    const std::lock_guard lock(mutex_);
    if (comm_ == nullptr) {
      return {false, "NCCL: was aborted"};
    }
    ncclResult_t result = ncclSuccess;
    const auto asked = ncclCommGetAsyncError(comm_, &result);
    if (asked != ncclSuccess) {
      return {false, message_of(asked)};
    }
    if (result == ncclInProgress) {
      return {true, ""};
    }
    return {false, result == ncclSuccess ? "" : message_of(result)};
  }

  std::unique_ptr<DeviceMark> mark_stream() override {
    return std::make_unique<Event>(c10::cuda::getCurrentCUDAStream(device_));
  }
  std::unique_ptr<DeviceMark> mark_exchanges() override { return std::make_unique<Event>(stream_); }
  void hold_back_exchanges(DeviceMark& mark) override {
    static_cast<Event&>(mark).hold_back(stream_);
  }

  void enqueue(const std::vector<DeviceTransfer>& transfers) override {
    const std::lock_guard lock(mutex_);
    require(comm_ != nullptr, "NCCL: was aborted");
    const c10::cuda::CUDAGuard guard(device_);
    check(ncclGroupStart());
    auto first_problem = ncclSuccess;
    for (const auto& transfer : transfers) {
      const auto result = add(transfer);
      if (first_problem == ncclSuccess && result != ncclInProgress) {
        first_problem = result;
      }
    }
    const auto ended = ncclGroupEnd();  // also after a problem, for a group is open
    check(first_problem);
    check(ended);
  }

  void abort() noexcept override {
    const std::lock_guard lock(mutex_);
    if (comm_ != nullptr) {
      ncclCommAbort(std::exchange(comm_, nullptr));
    }
  }

 private:
  static void check(ncclResult_t result) {
    require(result == ncclSuccess || result == ncclInProgress, message_of(result));
  }

  ncclResult_t add(const DeviceTransfer& transfer) {
    const auto& [kind, from, to, bytes, rank] = transfer;
    switch (kind) {
      case DeviceTransfer::Kind::kSend:
        return ncclSend(from, bytes, ncclUint8, rank, comm_, stream_);
      case DeviceTransfer::Kind::kReceive:
        return ncclRecv(to, bytes, ncclUint8, rank, comm_, stream_);
      case DeviceTransfer::Kind::kBroadcast:
        return ncclBroadcast(from, to, bytes, ncclUint8, rank, comm_, stream_);
      case DeviceTransfer::Kind::kCopy:
        break;
    }
    // No exception here: a group of NCCL's is open.
    return cudaMemcpyAsync(to, from, bytes, cudaMemcpyDeviceToDevice, stream_) == cudaSuccess
               ? ncclSuccess
               : ncclUnhandledCudaError;
  }

  // False when it takes longer than some seconds.
  bool is_finalized() {
    auto result = ncclCommFinalize(comm_);
    for (int round = 0; result == ncclInProgress && round < 50'000; ++round) {
      std::this_thread::sleep_for(std::chrono::microseconds(100));
      if (ncclCommGetAsyncError(comm_, &result) != ncclSuccess) {
        return false;
      }
    }
    return result == ncclSuccess;
  }

  c10::DeviceIndex device_;
  c10::cuda::CUDAStream stream_;
  std::mutex mutex_;  // over comm_
  ncclComm_t comm_ = nullptr;
};

}  // namespace

std::string nccl_id() {
  ncclUniqueId id{};
  const auto result = ncclGetUniqueId(&id);
  require(result == ncclSuccess, "NCCL cannot start: ", message_of(result));
  return {id.internal, sizeof id.internal};
}

std::unique_ptr<DeviceLink> nccl_link(int device, int rank, int size, const std::string& id) {
  ncclUniqueId own{};
  require(id.size() == sizeof own.internal, "NCCL cannot start: its id has ", id.size(), " bytes");
  std::memcpy(own.internal, id.data(), sizeof own.internal);
  return std::make_unique<NcclLink>(static_cast<c10::DeviceIndex>(device), rank, size, own);
}

}  // namespace braid
