#include "parallel/device_communicator.h"

#include <chrono>
#include <exception>
#include <string>
#include <thread>
#include <utility>

#include <ATen/ATen.h>

#include "core/error.h"
#include "parallel/rows.h"
#include "parallel/waiting.h"

namespace braid {

struct DeviceCommunicator::Shared {
  Shared(std::unique_ptr<DeviceLink> owned, ExchangeWatch::Overdue overdue)
      : link(std::move(owned)), watch(*link, std::move(overdue)) {}

  // Runs `action`; what it throws ends all exchanges, and is thrown.
  template <class Action>
  auto guarded(const Action& action) {
    try {
      return action();
    } catch (const std::exception& error) {
      watch.fail(error.what());
      throw;
    }
  }

  // Returns once the link has handed over what it was given.
  void settle(const Waiting& waiting, const char* what) {
    while (true) {
      const auto state = link->state();
      watch.require_sound();
      require(state.error.empty(), what, ": ", state.error);
      if (!state.is_busy) {
        return;
      }
      waiting.require_in_time();
      std::this_thread::sleep_for(std::chrono::microseconds(20));
    }
  }

  std::unique_ptr<DeviceLink> link;
  ExchangeWatch watch;
};

namespace {

class DevicePending : public Pending {
 public:
  DevicePending(std::shared_ptr<DeviceCommunicator::Shared> shared,
                std::string what,
                std::vector<at::Tensor> kept,
                std::shared_ptr<DeviceMark> over)
      : shared_(std::move(shared)),
        what_(std::move(what)),
        kept_(std::move(kept)),
        over_(std::move(over)) {}
  // Given up because of an error elsewhere: nothing may write any more into memory that is let go.
  ~DevicePending() override {
    if (!was_awaited_) {
      shared_->watch.fail(what_ + ": was given up");
    }
  }
  DevicePending(const DevicePending&) = delete;
  DevicePending& operator=(const DevicePending&) = delete;

  void wait() override {
    if (was_awaited_) {
      return;
    }
    shared_->watch.require_sound();
    shared_->guarded([&] { over_->hold_back_stream(); });
    was_awaited_ = true;
    kept_.clear();  // autograd may keep this object for as long as one of them
  }

 private:
  std::shared_ptr<DeviceCommunicator::Shared> shared_;
  std::string what_;
  std::vector<at::Tensor> kept_;
  std::shared_ptr<DeviceMark> over_;
  bool was_awaited_ = false;
};

std::vector<std::size_t> bytes_of_rows(const at::Tensor& tensor, const std::vector<int64_t>& rows) {
  std::vector<std::size_t> bytes;
  for (const int64_t count : rows) {
    bytes.push_back(static_cast<std::size_t>(count * row_bytes(tensor)));
  }
  return bytes;
}

}  // namespace

DeviceCommunicator::DeviceCommunicator(int64_t rank,
                                       int64_t size,
                                       at::Device device,
                                       std::unique_ptr<DeviceLink> link,
                                       ExchangeWatch::Overdue overdue)
    : rank_(rank),
      size_(size),
      device_(device),
      shared_(std::make_shared<Shared>(std::move(link), std::move(overdue))) {
  const Waiting waiting("exchanges of the device to start");
  shared_->guarded([&] { shared_->settle(waiting, "starting the exchanges of the device"); });
}

DeviceCommunicator::~DeviceCommunicator() = default;

void DeviceCommunicator::require_sound() const {
  shared_->watch.require_sound();
}

std::unique_ptr<Communicator> DeviceCommunicator::split(int64_t) {
  fail("[communicator] groups are split on the host");
}

std::unique_ptr<Pending> DeviceCommunicator::start_all_to_all(
    const at::Tensor& send,
    const std::vector<int64_t>& send_rows,
    const at::Tensor& received,
    const std::vector<int64_t>& received_rows,
    const char* what) {
  require_rows(send, send_rows, size_, what);
  require_rows(received, received_rows, size_, what);
  const auto out = bytes_of_rows(send, send_rows), in = bytes_of_rows(received, received_rows);
  const auto own = static_cast<std::size_t>(rank_);
  require(out[own] == in[own], "[communicator] ", what, ": a rank's rows to itself do not fit");
  using Kind = DeviceTransfer::Kind;
  std::vector<DeviceTransfer> transfers;
  const auto* from = static_cast<const char*>(send.const_data_ptr());
  auto* to = static_cast<char*>(received.mutable_data_ptr());
  for (std::size_t r = 0; r < out.size(); ++r) {
    const int rank = static_cast<int>(r);
    if (r == own && out[r] > 0) {
      transfers.push_back({Kind::kCopy, from, to, out[r], rank});
    }
    if (r != own && out[r] > 0) {
      transfers.push_back({Kind::kSend, from, nullptr, out[r], rank});
      bytes_sent_ += static_cast<int64_t>(out[r]);
    }
    if (r != own && in[r] > 0) {
      transfers.push_back({Kind::kReceive, nullptr, to, in[r], rank});
    }
    from += out[r];
    to += in[r];
  }
  return start(send, received, transfers, what);
}

std::unique_ptr<Pending> DeviceCommunicator::start_all_gather(const at::Tensor& send,
                                                              const at::Tensor& received,
                                                              const std::vector<int64_t>& rows,
                                                              const char* what) {
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
  std::vector<DeviceTransfer> transfers;
  auto* to = static_cast<char*>(received.mutable_data_ptr());
  int rank = 0;
  for (const auto bytes : bytes_of_rows(received, rows)) {
    if (bytes > 0) {
      transfers.push_back({DeviceTransfer::Kind::kBroadcast,
                           rank == rank_ ? send.const_data_ptr() : to,
                           to,
                           bytes,
                           rank});
    }
    to += bytes;
    ++rank;
  }
  bytes_sent_ += (size_ - 1) * static_cast<int64_t>(send.nbytes());
  return start(send, received, transfers, what);
}

std::unique_ptr<Pending> DeviceCommunicator::start(const at::Tensor& send,
                                                   const at::Tensor& received,
                                                   const std::vector<DeviceTransfer>& transfers,
                                                   const char* what) {
  require(send.is_contiguous() && received.is_contiguous() && send.device() == device_ &&
              received.device() == device_,
          "[communicator] ",
          what,
          ": contiguous tensors of one device are exchanged, ",
          device_,
          "; got ",
          send.device(),
          " and ",
          received.device());
  shared_->watch.require_sound();
  return shared_->guarded([&] {
    const Waiting waiting(what);
    auto& link = *shared_->link;
    // What is sent must be computed, and what is overwritten read, before.
    auto ready = link.mark_stream();
    link.hold_back_exchanges(*ready);
    link.enqueue(transfers);
    shared_->settle(waiting, what);
    const std::shared_ptr<DeviceMark> over = link.mark_exchanges();
    shared_->watch.add(what, std::move(ready), over, exchange_timeout());
    return std::make_unique<DevicePending>(shared_, what, std::vector{send, received}, over);
  });
}

}  // namespace braid
