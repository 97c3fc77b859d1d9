#pragma once
#include <cstdint>
#include <deque>
#include <future>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include <ATen/core/Tensor.h>
#include <c10/core/Event.h>
#include <c10/core/Stream.h>

#include "kernels/weight.h"
#include "model/expert_ring.h"
#include "model/mapped_copies.h"

namespace braid {

/// Brings the codes of experts that are kept on the host, or in their files, to a model's device:
/// a layer's when it computes, and the next layer's meanwhile (model/expert_ring.h), on a stream of
/// their own. The host waits for no copy, but for the disk where codes are read from files that
/// slow.
///
/// In a buffer, and in pinned memory, a layer is w1, w2 and w3 in the order of add(), each as all
/// experts' codes and then all experts' scales.
class ExpertStream : public std::enable_shared_from_this<ExpertStream> {
 public:
  explicit ExpertStream(at::Device device);
  ~ExpertStream();
  ExpertStream(const ExpertStream&) = delete;
  ExpertStream& operator=(const ExpertStream&) = delete;

  /// Adds the matrices of one kind, one for each expert, to the layer of this name, which is the
  /// one added to before, or a new one. kMapped: they stay where they are. kPinned: they are copied
  /// into pinned memory, and the pages of their mapping are let go of. Throws Error where they
  /// differ in type or shape.
  ExpertWeights add(const std::string& layer, std::vector<Weight> each, WeightPlace place);

  /// Once all layers are added: takes the device's memory for buffers.
  void make_buffers();

  /// A pass through the model begins; `returns`: a backward pass follows it.
  void begin_pass(bool returns);

  int64_t layers() const { return static_cast<int64_t>(layers_.size()); }
  int64_t kept_bytes(WeightPlace place) const;  ///< of all layers, kPinned or kMapped
  int64_t buffer_bytes() const;                 ///< of all buffers, on the device
  int64_t copied_layers() const { return copied_layers_; }

 private:
  class Supply;

  struct Stack : MappedCopies::Stack {
    at::Tensor values, scales;  // kPinned: of all experts
  };
  struct Layer {
    std::string name;
    WeightPlace place = WeightPlace::kPinned;
    std::vector<Stack> stacks;
    int64_t bytes = 0;
  };
  struct Buffer {
    explicit Buffer(c10::DeviceType type) : copied(type) {}
    at::Tensor bytes;
    std::vector<std::vector<Weight>> stacks;  // of the layer that is there
    c10::Event copied;
    std::future<void> given;  // of a mapped layer: when the stream has been given its copies
  };

  std::vector<Weight> on_device(std::size_t layer, std::size_t stack);
  void start_copy(const ExpertRing::Copy& copy);
  void await_given(int64_t buffer);

  at::Device device_;
  c10::Stream stream_;  // of the copies
  std::vector<Layer> layers_;
  MappedCopies mapped_;
  std::mutex mutex_;  // forward and backward passes run in different threads
  std::optional<ExpertRing> ring_;
  std::deque<Buffer> buffers_;
  c10::Event used_;  // what was given to the model's stream before the present layer
  std::optional<std::size_t> current_;
  int64_t current_buffer_ = 0;
  int64_t copied_layers_ = 0;
};

}  // namespace braid
