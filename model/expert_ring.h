#pragma once
#include <cstdint>
#include <optional>
#include <vector>

namespace braid {

/// Which layer's codes lie in which buffer of a device, where there are fewer buffers than layers.
/// Passes go through the layers upwards, and backwards through them downwards; the next layer's
/// codes are copied while the present one computes. At a turn the last layers are still there.
class ExpertRing {
 public:
  static constexpr int64_t kBuffers = 2;  ///< the present layer and the next one

  struct Copy {
    int64_t layer = 0, buffer = 0;
  };
  /// What a layer that computes needs.
  struct Turn {
    int64_t buffer = 0;           ///< where it is
    std::optional<Copy> missing;  ///< of this layer, first
    std::optional<Copy> ahead;    ///< of another one; what that buffer held is used no more
  };

  /// Copies of layers [0, layers), none of which are there yet.
  explicit ExpertRing(int64_t layers);

  /// A pass begins at the lowest layer; `returns`: it is followed by its backward pass.
  void begin_pass(bool returns);

  /// `layer` computes next. Another one that did before it is done.
  Turn turn(int64_t layer);

  /// What a buffer holds is lost.
  void forget(int64_t buffer);

 private:
  std::optional<int64_t> buffer_of(int64_t layer) const;
  std::optional<int64_t> next_after(int64_t layer) const;

  std::vector<std::optional<int64_t>> layers_;  // in the buffers
  // Whether the pass before used a layer, as evaluations do without that of an MTP block.
  std::vector<bool> expected_, used_;
  std::optional<int64_t> current_;
  int64_t step_ = 1;
  bool returns_ = false;
};

}  // namespace braid
