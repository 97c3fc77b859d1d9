#include "data/background_loader.h"

#include <utility>

namespace braid {

BackgroundLoader::BackgroundLoader(Loader loader)
    : loader_(std::move(loader)), state_(loader_.state()), progress_(loader_.progress()) {}

void BackgroundLoader::prepare(BatchShape shape) {
  shape_ = shape;
  prepared_ = std::async(std::launch::async, [this] { return loader_.next(shape_); });
}

Batch BackgroundLoader::next(BatchShape shape) {
  if (prepared_.valid() && shape != shape_) {
    put_back();
  }
  if (!prepared_.valid()) {
    prepare(shape);
  }
  Batch batch;
  try {
    batch = prepared_.get();
  } catch (...) {
    loader_.restore(state_);  // it may have stopped in the middle of the batch
    throw;
  }
  state_ = loader_.state();
  progress_ = loader_.progress();
  prepare(shape);
  return batch;
}

void BackgroundLoader::put_back() {
  if (prepared_.valid()) {
    prepared_.wait();
    prepared_ = {};
    loader_.restore(state_);
  }
}

std::vector<std::size_t> BackgroundLoader::restore(const LoaderState& state) {
  put_back();
  auto restarted = loader_.restore(state);
  state_ = loader_.state();
  progress_ = loader_.progress();
  return restarted;
}

}  // namespace braid
