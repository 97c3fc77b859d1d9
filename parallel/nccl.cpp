#include "parallel/nccl.h"

#include <algorithm>
#include <exception>
#include <string>
#include <utility>
#include <vector>

#include <unistd.h>

#include "core/error.h"
#include "parallel/cuda_plugin.h"
#include "parallel/device_communicator.h"
#include "parallel/waiting.h"

namespace braid {
namespace {

void require_own_gpu(Communicator& host, const CudaDevice& device) {
  char machine[256] = {};
  gethostname(machine, sizeof machine - 1);
  const auto places = host.all_gather(text(machine, " ", device.bus), "the ranks' GPUs");
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

std::unique_ptr<DeviceCommunicator> start_nccl(Communicator& host, at::Device device) {
  const Waiting waiting("NCCL to start");
  const auto& plugin = cuda_plugin();
  const int index = device.index();
  require_own_gpu(host, plugin.device(index));
  // Rank 0's error travels in place of the id, so that no rank waits for it.
  std::string id;
  if (host.rank() == 0) {
    try {
      id = "id" + plugin.nccl_id();
    } catch (const std::exception& error) {
      id = error.what();
    }
  }
  id = host.from_first(id, "NCCL's id");
  require(id.starts_with("id"), id);
  return std::make_unique<DeviceCommunicator>(
      host.rank(),
      host.size(),
      device,
      plugin.nccl_link(
          index, static_cast<int>(host.rank()), static_cast<int>(host.size()), id.substr(2)),
      overdue_exchange);
}

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
    if (device_ != nullptr) {
      device_->require_sound();  // what the host exchanges may come of what the device did not get
    }
    if (!tensor.is_cuda()) {
      return *host_;
    }
    if (device_ == nullptr) {
      device_ = start_nccl(*host_, tensor.device());
    }
    return *device_;
  }

  std::unique_ptr<Pending> counted(std::unique_ptr<Pending> pending) {
    bytes_sent_ = host_->bytes_sent() + (device_ == nullptr ? 0 : device_->bytes_sent());
    return pending;
  }

  std::unique_ptr<Communicator> host_;
  std::unique_ptr<DeviceCommunicator> device_;
};

}  // namespace

std::unique_ptr<Communicator> with_nccl(std::unique_ptr<Communicator> host) {
  return std::make_unique<ByDevice>(std::move(host));
}

}  // namespace braid
