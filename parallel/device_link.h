#pragma once
// What exchanges of tensors on a device are made of. cuda/nccl.cpp has NCCL's; tests have others.
#include <cstddef>
#include <memory>
#include <string>
#include <vector>

namespace braid {

/// A point in a stream's work. May be used and destroyed by any thread.
class DeviceMark {
 public:
  virtual ~DeviceMark() = default;
  /// Whether all that the stream was given before has run. Does not wait. Throws Error when the
  /// device has failed.
  virtual bool is_passed() = 0;
  /// What the caller's current stream is given later runs behind this point. The host goes on.
  virtual void hold_back_stream() = 0;
};

/// One part of an exchange, as this rank sees it.
struct DeviceTransfer {
  enum class Kind {
    kCopy,      ///< `from` to `to`, both of this rank
    kSend,      ///< `from` to rank `rank`
    kReceive,   ///< from rank `rank` into `to`
    kBroadcast  ///< `from` of rank `rank` into every rank's `to`
  };
  Kind kind = Kind::kCopy;
  const void* from = nullptr;
  void* to = nullptr;
  std::size_t bytes = 0;
  int rank = 0;
};

/// The ranks of a group, one device each, and the stream on which they exchange. No function waits
/// for another rank; state() says when what was begun is done. Any thread may call.
class DeviceLink {
 public:
  virtual ~DeviceLink() = default;

  struct State {
    bool is_busy = false;  ///< starting, or still handing transfers to the device
    std::string error;     ///< of this or any other rank; empty while all is well
  };
  virtual State state() = 0;

  /// The point that the caller's current stream is at.
  virtual std::unique_ptr<DeviceMark> mark_stream() = 0;
  /// The point that the exchanges are at.
  virtual std::unique_ptr<DeviceMark> mark_exchanges() = 0;
  /// The exchanges that follow run behind `mark`, one of mark_stream().
  virtual void hold_back_exchanges(DeviceMark& mark) = 0;
  /// Adds transfers, which run side by side. Throws Error.
  virtual void enqueue(const std::vector<DeviceTransfer>& transfers) = 0;
  /// Ends what runs on the device without being over; nothing can be exchanged any more. The
  /// destructor does the same where exchanges do not end within seconds.
  virtual void abort() noexcept = 0;
};

}  // namespace braid
