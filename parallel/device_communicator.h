#pragma once
#include <cstdint>
#include <memory>
#include <vector>

#include <ATen/core/Tensor.h>

#include "parallel/communicator.h"
#include "parallel/device_link.h"
#include "parallel/exchange_watch.h"

namespace braid {

/// Exchanges of tensors on one device, through a link.
///
/// They run on a stream of their own, behind what the caller's stream was given before.
/// Pending::wait() makes the caller's stream wait, not the host, and lets go of the tensors: they
/// belong to that stream, and its memory is only used again behind the exchange. An error of any
/// rank, or one that does not come for as long as the ranks' time-out, aborts what is under way;
/// the next call throws it.
class DeviceCommunicator : public Communicator {
 public:
  /// Rank `rank` of `size`. `overdue` words the error of ranks that do not come.
  DeviceCommunicator(int64_t rank,
                     int64_t size,
                     at::Device device,
                     std::unique_ptr<DeviceLink> link,
                     ExchangeWatch::Overdue overdue);
  /// Aborts what is under way where something failed.
  ~DeviceCommunicator() override;
  DeviceCommunicator(const DeviceCommunicator&) = delete;
  DeviceCommunicator& operator=(const DeviceCommunicator&) = delete;

  int64_t rank() const override { return rank_; }
  int64_t size() const override { return size_; }

  std::unique_ptr<Pending> start_all_to_all(const at::Tensor& send,
                                            const std::vector<int64_t>& send_rows,
                                            const at::Tensor& received,
                                            const std::vector<int64_t>& received_rows,
                                            const char* what) override;
  /// One broadcast of exactly its rows for each rank that has any.
  std::unique_ptr<Pending> start_all_gather(const at::Tensor& send,
                                            const at::Tensor& received,
                                            const std::vector<int64_t>& rows,
                                            const char* what) override;
  /// Throws: groups are split on the host.
  std::unique_ptr<Communicator> split(int64_t color) override;

  /// Throws Error with what failed first in any exchange.
  void require_sound() const;

  /// Both outlive the communicator while exchanges are pending.
  struct Shared;

 private:
  std::unique_ptr<Pending> start(const at::Tensor& send,
                                 const at::Tensor& received,
                                 const std::vector<DeviceTransfer>& transfers,
                                 const char* what);

  int64_t rank_, size_;
  at::Device device_;
  std::shared_ptr<Shared> shared_;
};

}  // namespace braid
