#pragma once
#include <cstddef>
#include <future>
#include <vector>

#include "data/loader.h"

namespace braid {

/// A Loader that prepares the next batch in a thread while the current one is used. Batches, state
/// and progress are those of the Loader alone: a batch that was prepared but not returned does not
/// exist for the caller.
class BackgroundLoader {
 public:
  explicit BackgroundLoader(Loader loader);

  /// The next batch; then a thread begins the one after it, of the same shape. If another shape is
  /// asked for after all, that one is put back. Throws what preparing this batch threw, and the
  /// position does not change then.
  Batch next(BatchShape shape);

  const LoaderProgress& progress() const { return progress_; }
  const LoaderState& state() const { return state_; }
  std::vector<std::size_t> restore(const LoaderState& state);

 private:
  void prepare(BatchShape shape);
  void put_back();

  Loader loader_;  // the thread's while prepared_ is valid
  LoaderState state_;
  LoaderProgress progress_;
  BatchShape shape_;
  std::future<Batch> prepared_;  // of shape_; the last member, so that the thread ends first
};

}  // namespace braid
