#pragma once
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include <ATen/core/Tensor.h>

#include "core/error.h"

namespace braid {

/// What Communicator::all_or_none() throws on ranks whose own action succeeded: the rank that
/// failed reports it.
class ErrorOfAnotherRank : public Error {
 public:
  using Error::Error;
};

/// A collective operation under way. It keeps its tensors, which must not be touched, until wait()
/// returns.
class Pending {
 public:
  virtual ~Pending() = default;
  /// Returns when the operation is over; of a device's tensors, for the caller's stream. Throws
  /// Error naming the operation and the missing ranks when it takes longer than the timeout.
  virtual void wait() = 0;
};

/// A group of ranks that exchange tensors. Every rank of the group calls the same operations in the
/// same order with fitting arguments. `what` names an operation in messages ("gradients"). Tensors
/// are contiguous, and their rows are counted along the first dimension.
class Communicator {
 public:
  virtual ~Communicator() = default;
  virtual int64_t rank() const = 0;
  virtual int64_t size() const = 0;

  /// Sends send_rows[r] consecutive rows of `send` to each rank r, in the order of ranks, and puts
  /// what comes, received_rows[r] rows of each, into `received` in the same order.
  virtual std::unique_ptr<Pending> start_all_to_all(const at::Tensor& send,
                                                    const std::vector<int64_t>& send_rows,
                                                    const at::Tensor& received,
                                                    const std::vector<int64_t>& received_rows,
                                                    const char* what) = 0;

  /// Puts the rows of every rank, rows[r] of rank r, into each rank's `received`.
  virtual std::unique_ptr<Pending> start_all_gather(const at::Tensor& send,
                                                    const at::Tensor& received,
                                                    const std::vector<int64_t>& rows,
                                                    const char* what) = 0;

  /// The group's ranks of one color as a group of their own, in the same order.
  virtual std::unique_ptr<Communicator> split(int64_t color) = 0;

  /// Bytes this rank has handed to other ranks.
  int64_t bytes_sent() const { return bytes_sent_; }

  /// Waits until every rank has come here.
  void barrier(const char* what);
  /// Every rank's vector, all of one length.
  std::vector<std::vector<int64_t>> all_gather(const std::vector<int64_t>& numbers,
                                               const char* what);
  /// Every rank's vector, of any length.
  std::vector<std::vector<double>> all_gather(const std::vector<double>& numbers, const char* what);
  std::vector<std::string> all_gather(const std::string& text, const char* what);
  /// Rank 0's text.
  std::string from_first(const std::string& text, const char* what);
  /// Sums of integers, exact.
  std::vector<int64_t> sum(const std::vector<int64_t>& numbers, const char* what);
  /// Runs `action` on rank 0 while the others wait for it. Its error is thrown on every rank.
  void first_alone(const std::function<void()>& action, const char* what);
  /// Runs `action` on every rank; if it throws on any, throws the lowest such rank's error on all,
  /// or else Interrupted on all where a signal stopped one (core/interruption.h).
  void all_or_none(const std::function<void()>& action, const char* what);
  /// Whether a signal asked any rank to stop; then interruption() says so on every rank.
  bool agree_on_interruption(const char* what);

 protected:
  int64_t bytes_sent_ = 0;
};

/// The only rank there is.
std::unique_ptr<Communicator> alone();

/// a + b + ... with a fixed shape of brackets: a sum of n parts is the sum of the first 2^k, 2^k
/// the largest power of two below n, plus the sum of the rest. So sums of equally many parts each,
/// a power of two, add up to the sum over all parts bit for bit. The parts are overwritten.
at::Tensor tree_sum(std::vector<at::Tensor> parts);

}  // namespace braid
