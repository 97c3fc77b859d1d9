#pragma once
#include <cstdint>
#include <memory>
#include <vector>

#include <ATen/core/Tensor.h>

#include "parallel/communicator.h"
#include "parallel/config.h"

namespace braid {

/// A range of a parameter's elements that one rank of each owner group updates.
struct OwnedRange {
  int64_t begin = 0, end = 0;
  int64_t owner = 0;  ///< its rank within its owner group
};

struct SyncedParameter {
  at::Tensor value;
  uint64_t key = 0;                ///< of its stochastic rounding; differs between parameters
  std::vector<OwnedRange> ranges;  ///< all its elements, in order
  bool ready_when_summed = true;   ///< false: one backward pass adds to its gradient several times
};

struct SyncOptions {
  int64_t owner_group = 1;  ///< neighboring ranks among which the ranges are divided
  int64_t bucket_bytes = int64_t{32} << 20;
  bool fixed_order = false;
  ReduceType reduce_dtype = ReduceType::kMaster;
};

/// Gradients of parameters that several ranks hold alike, summed over these ranks; and their
/// weights, which each rank updates a share of (ZeRO-1).
///
/// In one step: begin_step(); for each micro-batch: begin_micro_batch(), then its backward pass;
/// finish(); the optimizer on the ranges this rank owns; share_weights().  After finish() the
/// gradients of owned ranges are the sums over all ranks and micro-batches; those of others are
/// undetermined. Buckets of ranges are sent while the last backward pass still runs, as
/// all-to-all, and summed by their owners in the order of ranks (tree_sum()), however they arrive:
/// first within owner groups, then the sums of the groups, among the owners of the same.
/// With fixed_order each rank first sums its micro-batches by the same tree: where their number
/// per rank is a power of two, the sum has the same bits on any number of ranks; owner groups are
/// then of a power of two of ranks, or all ranks.
class GradientSync {
 public:
  /// Buckets on their way at once: their copies are memory beside the gradients.
  static constexpr std::size_t kMostFlights = 4;

  /// Parameters in the order of the forward pass. `ranks` must outlive the object, which changes
  /// the parameters' hooks.
  GradientSync(Communicator& ranks,
               std::vector<SyncedParameter> parameters,
               const SyncOptions& options);
  ~GradientSync();
  GradientSync(const GradientSync&) = delete;
  GradientSync& operator=(const GradientSync&) = delete;

  /// `learns`, by parameter: which take part in this step.
  void begin_step(int64_t step, std::vector<bool> learns);
  void begin_micro_batch(bool is_last);
  void finish();
  void share_weights();

  /// Whether a backward pass of this step gave this parameter a gradient on this rank. Where none
  /// did, it has zeros from finish() on.
  bool was_reached(std::size_t parameter) const { return reached_[parameter]; }

  /// Bytes of gradients and weights that this rank has handed to others.
  int64_t bytes_sent() const { return owners_->bytes_sent() + peers_->bytes_sent(); }

 private:
  struct Hook;
  struct Slice {
    std::size_t parameter;
    OwnedRange range;
  };
  struct Bucket {
    std::vector<Slice> slices;  // of one owner after the other
    int64_t elements = 0;
    int64_t waiting_for = 0;  // parameters whose gradients are not there yet
  };
  struct Flight {
    std::size_t bucket;
    at::Tensor received;
    std::unique_ptr<Pending> pending;
  };

  void fill_buckets();
  void micro_batch_done(std::size_t parameter);
  void complete(std::size_t parameter);
  void launch_ready();
  void launch(std::size_t bucket);
  void land();
  void land_across();
  at::Tensor sum_of(Flight& flight, int64_t of_ranks) const;
  void put(std::size_t bucket, const at::Tensor& sum);
  /// Dtype and device of its tensors.
  at::TensorOptions options_of(const Bucket& bucket) const;
  at::Tensor slice_of(const Slice& slice, bool of_gradient) const;
  bool learns(const Slice& slice) const { return learns_[slice.parameter]; }

  Communicator& ranks_;
  std::unique_ptr<Communicator> owners_;  // this rank's owner group
  std::unique_ptr<Communicator> peers_;   // the ranks that own the same, one in each group
  std::vector<SyncedParameter> parameters_;
  SyncOptions options_;
  std::vector<Bucket> buckets_;
  std::vector<std::vector<std::size_t>> buckets_of_;  // by parameter

  int64_t step_ = 0;
  std::vector<bool> learns_, reached_, completed_;
  bool is_last_ = false;
  int64_t micro_batch_ = 0;
  // With fixed_order: partial sums of the parameter's micro-batches, of 1, 2, 4, ... of them.
  struct Partial {
    int64_t count;
    at::Tensor sum;
  };
  std::vector<std::vector<Partial>> partials_;
  std::size_t next_bucket_ = 0;
  std::vector<Flight> flights_, flights_across_;
};

/// bfloat16, on the values' device, that is the value's lower or upper neighbor, the nearer the
/// likelier: a pure function of (key, element index from `first` on), unbiased. Infinities and NaN
/// stay.
at::Tensor stochastically_rounded(const at::Tensor& values, uint64_t key, int64_t first);

}  // namespace braid
