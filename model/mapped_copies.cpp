#include "model/mapped_copies.h"

#include <algorithm>
#include <cstring>
#include <string_view>

#include <ATen/ATen.h>
#include <c10/core/StreamGuard.h>

#include "core/pages.h"

namespace braid {
namespace {

constexpr std::size_t kWeightsAhead = 8;  // whose pages the disk is asked for

std::string_view bytes_of(const at::Tensor& tensor) {
  return {static_cast<const char*>(tensor.const_data_ptr()), tensor.nbytes()};
}

}  // namespace

std::future<void> MappedCopies::start(Image image, c10::Event& copied) {
  return std::async(std::launch::async, [this, image = std::move(image), &copied] {
    const std::lock_guard lock(one_at_a_time_);
    copy(image, copied);
  });
}

void MappedCopies::copy(const Image& image, c10::Event& copied) {
  const c10::StreamGuard on_stream(stream_);
  std::size_t current = 0;
  int64_t first = 0, filled = 0;
  // The host waits for the device here: until what the piece held before has been copied.
  const auto begin_piece = [&](int64_t at) {
    auto& [bytes, read] = pieces_[current];
    if (!bytes.defined()) {
      const auto on_host = at::device(at::kCPU).dtype(at::kByte);
      bytes = at::empty({piece_bytes_}, on_host.pinned_memory(stream_.device().is_cuda()));
      read.emplace(stream_.device_type());
    }
    read->synchronize();
    first = at;
    filled = 0;
  };
  const auto send_piece = [&] {
    auto& [bytes, read] = pieces_[current];
    image.bytes.narrow(0, first, filled).copy_(bytes.narrow(0, 0, filled), /*non_blocking=*/true);
    read->record(stream_);
    current = (current + 1) % pieces_.size();
  };
  const auto put = [&](std::string_view from, int64_t at) {
    while (!from.empty()) {
      if (filled == piece_bytes_ || first + filled != at) {
        send_piece();
        begin_piece(at);
      }
      const auto count = std::min(from.size(), static_cast<std::size_t>(piece_bytes_ - filled));
      std::memcpy(pieces_[current].bytes.mutable_data_ptr<uint8_t>() + filled, from.data(), count);
      from.remove_prefix(count);
      filled += static_cast<int64_t>(count);
      at += static_cast<int64_t>(count);
    }
  };
  begin_piece(0);
  for (const auto& [each, values_at, scales_at] : image.stacks) {
    auto at = values_at;
    for (std::size_t i = 0; i < each.size(); ++i) {
      if (i + kWeightsAhead < each.size()) {
        each[i + kWeightsAhead].prefetch();
      }
      const auto values = bytes_of(each[i].values);
      read_pages(values.data(), values.size());
      put(values, at);
      at += static_cast<int64_t>(values.size());
    }
    at = scales_at;
    for (const auto& weight : each) {
      put(bytes_of(weight.scales), at);
      at += static_cast<int64_t>(weight.scales.nbytes());
      weight.release_pages();
    }
  }
  send_piece();
  copied.record(stream_);
}

}  // namespace braid
