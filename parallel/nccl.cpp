#include "parallel/nccl.h"

#include <cstring>
#include <numeric>
#include <thread>
#include <utility>

#include <ATen/ATen.h>
#include <c10/cuda/CUDAException.h>
#include <c10/cuda/CUDAGuard.h>
#include <c10/cuda/CUDAStream.h>
#include <nccl.h>
#include <unistd.h>

#include "core/error.h"
#include "core/profile.h"
#include "parallel/rows.h"
#include "parallel/waiting.h"

namespace braid {
namespace {

// A CUDA event of the current device.
class Event {
 public:
  Event() { C10_CUDA_CHECK(cudaEventCreateWithFlags(&event_, cudaEventDisableTiming)); }
  ~Event() { C10_CUDA_CHECK_WARN(cudaEventDestroy(event_)); }
  Event(const Event&) = delete;
  Event& operator=(const Event&) = delete;

  void record(cudaStream_t stream) { C10_CUDA_CHECK(cudaEventRecord(event_, stream)); }
  void hold_back(cudaStream_t stream) { C10_CUDA_CHECK(cudaStreamWaitEvent(stream, event_)); }
  bool is_over() const {
    const cudaError_t state = cudaEventQuery(event_);
    if (state == cudaErrorNotReady) {
      (void)cudaGetLastError();  // it is no error
      return false;
    }
    C10_CUDA_CHECK(state);
    return true;
  }

 private:
  cudaEvent_t event_ = nullptr;
};

// NCCL's own communicator. No call of it blocks: each may say that it goes on in the background,
// and is then asked until it is done, an error is reported, or time is up.
class NcclComm {
 public:
  NcclComm(Communicator& host, c10::DeviceIndex device) : device_(device) {
    const Waiting waiting("NCCL to start");
    require_own_device(host);
    ncclUniqueId id{};
    std::string problem;
    if (host.rank() == 0) {
      if (const auto result = ncclGetUniqueId(&id); result != ncclSuccess) {
        problem = ncclGetErrorString(result);
      }
    }
    const auto sent = host.from_first(
        problem.empty() ? std::string(id.internal, sizeof id.internal) : problem, "NCCL's id");
    require(sent.size() == sizeof id.internal, "NCCL: cannot start: ", sent);
    std::memcpy(id.internal, sent.data(), sizeof id.internal);
    ncclConfig_t config = NCCL_CONFIG_INITIALIZER;
    config.blocking = 0;
    settle(ncclCommInitRankConfig(
               &comm_, static_cast<int>(host.size()), id, static_cast<int>(host.rank()), &config),
           waiting,
           "start");
  }

  // With an exchange under way, or after an error, other ranks need not come any more.
  ~NcclComm() {
    if (comm_ == nullptr) {
      return;
    }
    if (!is_sound_ || under_way_ > 0 || !finalized()) {
      ncclCommAbort(comm_);
    } else {
      ncclCommDestroy(comm_);
    }
  }
  NcclComm(const NcclComm&) = delete;
  NcclComm& operator=(const NcclComm&) = delete;

  ncclComm_t get() const { return comm_; }
  c10::DeviceIndex device() const { return device_; }

  // Returns once `result` is not "in progress" any more; throws for an error.
  void settle(ncclResult_t result, const Waiting& waiting, const char* what) {
    while (result == ncclInProgress) {
      std::this_thread::sleep_for(std::chrono::microseconds(20));
      in_time(waiting);
      const auto asked = ncclCommGetAsyncError(comm_, &result);
      result = asked == ncclSuccess ? result : asked;
    }
    if (result != ncclSuccess) {
      abort();
      fail("NCCL: ", what, ": ", ncclGetErrorString(result), ": ", ncclGetLastError(nullptr));
    }
  }

  void require_no_error(const char* what) {
    ncclResult_t state = ncclSuccess;
    const auto asked = ncclCommGetAsyncError(comm_, &state);
    state = asked == ncclSuccess ? state : asked;
    if (state != ncclSuccess && state != ncclInProgress) {
      abort();
      fail("NCCL: ", what, ": ", ncclGetErrorString(state), ": ", ncclGetLastError(nullptr));
    }
  }

  void in_time(const Waiting& waiting) {
    try {
      waiting.require_in_time();
    } catch (...) {
      abort();
      throw;
    }
  }

  void require_sound() const {
    require(is_sound_, "NCCL: an earlier exchange failed; nothing more can be exchanged");
  }
  void begun() { ++under_way_; }
  void over() { --under_way_; }
  // An exchange was given up: its kernels must not write any more into memory that is let go.
  void given_up() {
    --under_way_;
    abort();
  }

 private:
  void require_own_device(Communicator& host) const {
    char machine[256] = {}, bus[32] = {};
    gethostname(machine, sizeof machine - 1);
    C10_CUDA_CHECK(cudaDeviceGetPCIBusId(bus, sizeof bus, device_));
    const auto places = host.all_gather(text(machine, " ", bus), "the ranks' devices");
    const auto own = static_cast<std::size_t>(host.rank());
    for (std::size_t r = 0; r < places.size(); ++r) {
      require(r == own || places[r] != places[own],
              "ranks ",
              std::min(r, own),
              " and ",
              std::max(r, own),
              " have the same GPU (",
              places[own],
              "); NCCL needs one for each rank: start as many ranks on a machine as it has GPUs");
    }
  }

  // At a peaceful end; false when it takes longer than some seconds.
  bool finalized() const {
    ncclResult_t state = ncclCommFinalize(comm_);
    for (int round = 0; state == ncclInProgress && round < 50'000; ++round) {
      std::this_thread::sleep_for(std::chrono::microseconds(100));
      if (ncclCommGetAsyncError(comm_, &state) != ncclSuccess) {
        return false;
      }
    }
    return state == ncclSuccess;
  }

  // Ends what runs on the device, and frees the communicator.
  void abort() {
    is_sound_ = false;
    if (comm_ != nullptr) {
      ncclCommAbort(std::exchange(comm_, nullptr));
    }
  }

  c10::DeviceIndex device_;
  ncclComm_t comm_ = nullptr;
  bool is_sound_ = true;
  int64_t under_way_ = 0;
};

class NcclPending : public Pending {
 public:
  NcclPending(std::shared_ptr<NcclComm> comm, std::string what, std::vector<at::Tensor> kept)
      : comm_(std::move(comm)), what_(std::move(what)), kept_(std::move(kept)) {
    comm_->begun();
  }
  ~NcclPending() override {
    if (!is_over_) {
      comm_->given_up();
    }
  }
  NcclPending(const NcclPending&) = delete;
  NcclPending& operator=(const NcclPending&) = delete;

  void wait() override {
    if (is_over_) {
      return;
    }
    const ProfileScope scope("exchange", ProfileKind::kStep);
    const Waiting waiting(what_);
    comm_->require_sound();
    for (int64_t round = 0; !done_.is_over(); ++round) {
      comm_->require_no_error(what_.c_str());
      comm_->in_time(waiting);
      if (round > 1000) {
        std::this_thread::sleep_for(std::chrono::microseconds(20));
      }
    }
    is_over_ = true;
    comm_->over();
    kept_.clear();
  }

  Event done_;

 private:
  std::shared_ptr<NcclComm> comm_;
  std::string what_;
  std::vector<at::Tensor> kept_;
  bool is_over_ = false;
};

class NcclCommunicator : public Communicator {
 public:
  NcclCommunicator(Communicator& host, c10::DeviceIndex device)
      : rank_(host.rank()),
        size_(host.size()),
        comm_(std::make_shared<NcclComm>(host, device)),
        stream_(c10::cuda::getStreamFromPool(/*isHighPriority=*/true, device)) {}

  int64_t rank() const override { return rank_; }
  int64_t size() const override { return size_; }

  std::unique_ptr<Pending> start_all_to_all(const at::Tensor& send,
                                            const std::vector<int64_t>& send_rows,
                                            const at::Tensor& received,
                                            const std::vector<int64_t>& received_rows,
                                            const char* what) override {
    require_rows(send, send_rows, size_, what);
    require_rows(received, received_rows, size_, what);
    const auto out = bytes_of(send, send_rows), in = bytes_of(received, received_rows);
    const auto own = static_cast<std::size_t>(rank_);
    require(out[own] == in[own], "[communicator] ", what, ": a rank's rows to itself do not fit");
    return start(send, received, what, [&](const char* from, char* to) {
      auto result = ncclSuccess;
      for (std::size_t r = 0; r < out.size(); ++r) {
        const auto peer = static_cast<int>(r);
        if (r == own) {
          if (out[r] > 0) {
            C10_CUDA_CHECK(cudaMemcpyAsync(to, from, out[r], cudaMemcpyDeviceToDevice, stream_));
          }
        } else {
          if (out[r] > 0) {
            bytes_sent_ += static_cast<int64_t>(out[r]);
            keep_error(ncclSend(from, out[r], ncclUint8, peer, comm_->get(), stream_), result);
          }
          if (in[r] > 0) {
            keep_error(ncclRecv(to, in[r], ncclUint8, peer, comm_->get(), stream_), result);
          }
        }
        from += out[r];
        to += in[r];
      }
      return result;
    });
  }

  // One broadcast of exactly its rows for each rank that has any.
  std::unique_ptr<Pending> start_all_gather(const at::Tensor& send,
                                            const at::Tensor& received,
                                            const std::vector<int64_t>& rows,
                                            const char* what) override {
    require_rows(received, rows, size_, what);
    require(send.size(0) == rows[static_cast<std::size_t>(rank_)] &&
                (send.size(0) == 0 || row_bytes(send) == row_bytes(received)),
            "[communicator] ",
            what,
            ": ",
            send.sizes(),
            " is sent, ",
            rows[static_cast<std::size_t>(rank_)],
            " rows expected");
    const auto counts = bytes_of(received, rows);
    bytes_sent_ += (size_ - 1) * static_cast<int64_t>(send.nbytes());
    return start(send, received, what, [&](const char* from, char* to) {
      auto result = ncclSuccess;
      for (std::size_t r = 0; r < counts.size(); ++r) {
        if (counts[r] > 0) {
          keep_error(
              ncclBroadcast(
                  from, to, counts[r], ncclUint8, static_cast<int>(r), comm_->get(), stream_),
              result);
        }
        to += counts[r];
      }
      return result;
    });
  }

  std::unique_ptr<Communicator> split(int64_t) override {
    fail("[communicator] groups are split on the host");
  }

 private:
  static std::vector<std::size_t> bytes_of(const at::Tensor& tensor,
                                           const std::vector<int64_t>& rows) {
    std::vector<std::size_t> bytes;
    for (const int64_t count : rows) {
      bytes.push_back(static_cast<std::size_t>(count * row_bytes(tensor)));
    }
    return bytes;
  }

  static void keep_error(ncclResult_t now, ncclResult_t& first) {
    if (first == ncclSuccess && now != ncclInProgress) {
      first = now;
    }
  }

  // `enqueue` is called within an NCCL group, so that its transfers run side by side.
  template <class Enqueue>
  std::unique_ptr<Pending> start(const at::Tensor& send,
                                 const at::Tensor& received,
                                 const char* what,
                                 const Enqueue& enqueue) {
    require(send.is_contiguous() && received.is_contiguous() &&
                send.device() == received.device() && send.device().index() == comm_->device(),
            "[communicator] ",
            what,
            ": NCCL exchanges contiguous tensors of one device, cuda:",
            static_cast<int>(comm_->device()),
            "; got ",
            send.device(),
            " and ",
            received.device());
    comm_->require_sound();
    const c10::cuda::CUDAGuard guard(comm_->device());
    const Waiting waiting(what);
    // What is sent must be computed, and what is overwritten read, before.
    Event before;
    before.record(c10::cuda::getCurrentCUDAStream(comm_->device()));
    before.hold_back(stream_);
    auto pending = std::make_unique<NcclPending>(comm_, what, std::vector{send, received});
    comm_->settle(ncclGroupStart(), waiting, what);
    const auto enqueued = enqueue(static_cast<const char*>(send.const_data_ptr()),
                                  static_cast<char*>(received.mutable_data_ptr()));
    const auto ended = ncclGroupEnd();
    comm_->settle(enqueued != ncclSuccess ? enqueued : ended, waiting, what);
    pending->done_.record(stream_);
    return pending;
  }

  int64_t rank_, size_;
  std::shared_ptr<NcclComm> comm_;
  c10::cuda::CUDAStream stream_;
};

class ByDevice : public Communicator {
 public:
  explicit ByDevice(std::unique_ptr<Communicator> host) : host_(std::move(host)) {}

  int64_t rank() const override { return host_->rank(); }
  int64_t size() const override { return host_->size(); }

  std::unique_ptr<Pending> start_all_to_all(const at::Tensor& send,
                                            const std::vector<int64_t>& send_rows,
                                            const at::Tensor& received,
                                            const std::vector<int64_t>& received_rows,
                                            const char* what) override {
    return counted(of(send).start_all_to_all(send, send_rows, received, received_rows, what));
  }
  std::unique_ptr<Pending> start_all_gather(const at::Tensor& send,
                                            const at::Tensor& received,
                                            const std::vector<int64_t>& rows,
                                            const char* what) override {
    return counted(of(send).start_all_gather(send, received, rows, what));
  }
  std::unique_ptr<Communicator> split(int64_t color) override {
    return std::make_unique<ByDevice>(host_->split(color));
  }

 private:
  Communicator& of(const at::Tensor& tensor) {
    if (!tensor.is_cuda()) {
      return *host_;
    }
    if (device_ == nullptr) {
      const c10::cuda::CUDAGuard guard(tensor.device());
      device_ = std::make_unique<NcclCommunicator>(*host_, tensor.device().index());
    }
    return *device_;
  }

  std::unique_ptr<Pending> counted(std::unique_ptr<Pending> pending) {
    bytes_sent_ = host_->bytes_sent() + (device_ == nullptr ? 0 : device_->bytes_sent());
    return pending;
  }

  std::unique_ptr<Communicator> host_;
  std::unique_ptr<NcclCommunicator> device_;
};

}  // namespace

std::unique_ptr<Communicator> with_nccl(std::unique_ptr<Communicator> host) {
  return std::make_unique<ByDevice>(std::move(host));
}

}  // namespace braid
