#include "model/expert_stream.h"

#include <algorithm>

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>
#include <c10/core/StreamGuard.h>
#include <c10/core/impl/VirtualGuardImpl.h>

#include "core/error.h"
#include "core/sizes.h"

namespace braid {
namespace {

constexpr int64_t kAlignment = 256;  // of what kernels read

c10::impl::VirtualGuardImpl streams_of(at::Device device) {
  return c10::impl::VirtualGuardImpl(device.type());
}

int64_t aligned(int64_t bytes) {
  return blocks(bytes, kAlignment) * kAlignment;
}

int64_t bytes_of_all(const std::vector<Weight>& each, at::Tensor Weight::*part) {
  return static_cast<int64_t>(each.size() * (each.front().*part).nbytes());
}

std::vector<int64_t> stacked_sizes(const std::vector<Weight>& each, at::Tensor Weight::*part) {
  auto sizes = (each.front().*part).sizes().vec();
  sizes.insert(sizes.begin(), static_cast<int64_t>(each.size()));
  return sizes;
}

// The matrices of all experts in bytes of a buffer.
at::Tensor view_of(const at::Tensor& bytes,
                   int64_t first,
                   const std::vector<Weight>& each,
                   at::Tensor Weight::*part) {
  return bytes.narrow(0, first, bytes_of_all(each, part))
      .view((each.front().*part).scalar_type())
      .view(stacked_sizes(each, part));
}

// Asynchronous copies of CUDA need memory of this kind.
at::Tensor pinned_stack(const std::vector<Weight>& each,
                        at::Tensor Weight::*part,
                        at::Device device) {
  const auto type = (each.front().*part).scalar_type();
  return at::empty(stacked_sizes(each, part),
                   at::device(at::kCPU).dtype(type).pinned_memory(device.is_cuda()));
}

void require_alike(const std::string& layer, const std::vector<Weight>& each) {
  const auto& first = each.front();
  for (std::size_t i = 1; i < each.size(); ++i) {
    const auto& other = each[i];
    require(other.values.sizes() == first.values.sizes() &&
                other.values.scalar_type() == first.values.scalar_type() &&
                other.scales.sizes() == first.scales.sizes() &&
                other.scales.scalar_type() == first.scales.scalar_type(),
            layer,
            ": expert ",
            i,
            " has codes ",
            other.values.scalar_type(),
            " ",
            other.values.sizes(),
            " and expert 0 ",
            first.values.scalar_type(),
            " ",
            first.values.sizes(),
            "; experts that do not stay on the device (train.resident_gb) must be alike in a "
            "layer: convert the base to one format");
  }
}

}  // namespace

// The matrices of one kind of one layer.
class ExpertStream::Supply final : public ExpertSupply {
 public:
  Supply(std::shared_ptr<ExpertStream> stream, std::size_t layer, std::size_t stack)
      : stream_(std::move(stream)), layer_(layer), stack_(stack) {}

  std::vector<Weight> on_device() override { return stream_->on_device(layer_, stack_); }

 private:
  std::shared_ptr<ExpertStream> stream_;
  std::size_t layer_, stack_;
};

ExpertStream::ExpertStream(at::Device device)
    : device_(device),
      stream_(streams_of(device).getNewStream(device)),
      mapped_(stream_),
      used_(device.type()) {}

ExpertStream::~ExpertStream() {
  for (auto& buffer : buffers_) {
    if (buffer.given.valid()) {
      buffer.given.wait();
    }
  }
  stream_.synchronize();  // what it writes to is freed, and given to the model's stream again
}

ExpertWeights ExpertStream::add(const std::string& name,
                                std::vector<Weight> each,
                                WeightPlace place) {
  require_alike(name, each);
  if (layers_.empty() || layers_.back().name != name) {
    layers_.push_back({.name = name, .place = place, .stacks = {}});
  }
  auto& layer = layers_.back();
  auto& stack = layer.stacks.emplace_back();
  stack.values_at = layer.bytes;
  stack.scales_at = aligned(stack.values_at + bytes_of_all(each, &Weight::values));
  layer.bytes = aligned(stack.scales_at + bytes_of_all(each, &Weight::scales));
  if (place == WeightPlace::kPinned) {
    stack.values = pinned_stack(each, &Weight::values, device_);
    stack.scales = pinned_stack(each, &Weight::scales, device_);
    for (std::size_t i = 0; i < each.size(); ++i) {
      const auto at = static_cast<int64_t>(i);
      const Weight pinned(stack.values.select(0, at), stack.scales.select(0, at), place);
      pinned.values.copy_(each[i].values);
      pinned.scales.copy_(each[i].scales);
      each[i].release_pages();
      each[i] = pinned;
    }
  }
  stack.each = std::move(each);
  return ExpertWeights(
      stack.each,
      std::make_shared<Supply>(shared_from_this(), layers_.size() - 1, layer.stacks.size() - 1));
}

void ExpertStream::begin_pass(bool returns) {
  const std::lock_guard lock(mutex_);
  ring_->begin_pass(returns);
}

int64_t ExpertStream::kept_bytes(WeightPlace place) const {
  int64_t bytes = 0;
  for (const auto& layer : layers_) {
    for (const auto& stack : layer.stacks) {
      for (const auto& weight : stack.each) {
        bytes += layer.place == place ? weight.nbytes() : 0;
      }
    }
  }
  return bytes;
}

int64_t ExpertStream::buffer_bytes() const {
  return layers_.empty() ? 0
                         : std::min(layers(), ExpertRing::kBuffers) *
                               std::ranges::max_element(layers_, {}, &Layer::bytes)->bytes;
}

void ExpertStream::make_buffers() {
  ring_.emplace(layers());
  const int64_t count = std::min(layers(), ExpertRing::kBuffers);
  for (int64_t i = 0; i < count; ++i) {
    auto& buffer = buffers_.emplace_back(device_.type());
    buffer.bytes = at::empty({buffer_bytes() / count}, at::device(device_).dtype(at::kByte));
  }
}

std::vector<Weight> ExpertStream::on_device(std::size_t layer, std::size_t stack) {
  const std::lock_guard lock(mutex_);
  if (current_ != layer) {
    const at::NoGradGuard no_grad;
    const auto now = streams_of(device_).getStream(device_);
    // What reads other layers was given to the stream before: buffers may be overwritten behind it.
    used_.record(now);
    const auto turn = ring_->turn(static_cast<int64_t>(layer));
    current_.reset();  // until it is there
    if (turn.missing) {
      start_copy(*turn.missing);
    }
    current_buffer_ = turn.buffer;
    await_given(turn.buffer);
    buffers_[static_cast<std::size_t>(turn.buffer)].copied.block(now);
    current_ = layer;
    if (turn.ahead) {
      start_copy(*turn.ahead);
    }
  }
  return buffers_[static_cast<std::size_t>(current_buffer_)].stacks[stack];
}

void ExpertStream::start_copy(const ExpertRing::Copy& copy) {
  await_given(copy.buffer);
  const auto& layer = layers_[static_cast<std::size_t>(copy.layer)];
  auto& buffer = buffers_[static_cast<std::size_t>(copy.buffer)];
  ++copied_layers_;
  used_.block(stream_);
  const c10::StreamGuard on_stream(stream_);
  buffer.stacks.clear();
  for (const auto& stack : layer.stacks) {
    const auto values = view_of(buffer.bytes, stack.values_at, stack.each, &Weight::values),
               scales = view_of(buffer.bytes, stack.scales_at, stack.each, &Weight::scales);
    if (layer.place == WeightPlace::kPinned) {
      values.copy_(stack.values, /*non_blocking=*/true);
      scales.copy_(stack.scales, /*non_blocking=*/true);
    }
    auto& each = buffer.stacks.emplace_back();
    for (int64_t i = 0; i < values.size(0); ++i) {
      each.emplace_back(values.select(0, i), scales.select(0, i));
    }
  }
  if (layer.place == WeightPlace::kPinned) {
    buffer.copied.record(stream_);
  } else {
    buffer.given =
        mapped_.start({buffer.bytes, {layer.stacks.begin(), layer.stacks.end()}}, buffer.copied);
  }
}

// An error of reading is thrown here.
void ExpertStream::await_given(int64_t buffer) {
  auto& given = buffers_[static_cast<std::size_t>(buffer)].given;
  if (!given.valid()) {
    return;
  }
  try {
    given.get();
  } catch (...) {
    ring_->forget(buffer);
    throw;
  }
}

}  // namespace braid
