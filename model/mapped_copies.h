#pragma once
#include <array>
#include <cstdint>
#include <future>
#include <mutex>
#include <optional>
#include <vector>

#include <ATen/core/Tensor.h>
#include <c10/core/Event.h>
#include <c10/core/Stream.h>

#include "kernels/weight.h"

namespace braid {

/// Copies matrices of a file mapping to another device, through two pieces of memory of the host
/// (pinned for CUDA): one is filled from the file while the other is copied. The mapping's pages
/// are let go of as they are read.
class MappedCopies {
 public:
  /// `stream` is given the copies; `piece_bytes` are those of a piece.
  explicit MappedCopies(c10::Stream stream, int64_t piece_bytes = 64 << 20)
      : stream_(stream), piece_bytes_(piece_bytes) {}

  /// Matrices whose codes, and behind them whose scales, are adjacent.
  struct Stack {
    std::vector<Weight> each;
    int64_t values_at = 0, scales_at = 0;  ///< in Image::bytes, ascending
  };
  struct Image {
    at::Tensor bytes;  ///< on the device
    std::vector<Stack> stacks;
  };
  /// Copies in a thread of their own, one image after another. `copied` is recorded behind the last
  /// copy; it must outlive the result, which is ready when the stream has been given everything,
  /// and throws what reading threw.
  std::future<void> start(Image image, c10::Event& copied);

 private:
  struct Piece {
    at::Tensor bytes;
    std::optional<c10::Event> read;  // by the device
  };
  void copy(const Image& image, c10::Event& copied);

  c10::Stream stream_;
  int64_t piece_bytes_;
  std::mutex one_at_a_time_;
  std::array<Piece, 2> pieces_;
};

}  // namespace braid
