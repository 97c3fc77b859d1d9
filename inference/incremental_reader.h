#pragma once
#include <cstdint>
#include <vector>

#include <ATen/core/Tensor.h>

#include "model/transformer.h"

namespace braid {

/// Reads ids that grow, and sometimes change, with a decode state: of the next ids only those are
/// computed that follow what was read before. Where they differ from it, it goes back to a mark,
/// the place before the last id of the newest stretch that was read at once (a prompt's), or else
/// to the beginning.
class IncrementalReader {
 public:
  /// `model` must outlive the object.
  explicit IncrementalReader(const Transformer& model) : model_(model) {}

  /// Logits [V] of what follows `ids`, at least one. Throws Interrupted between stretches of some
  /// hundred ids once a signal asked to stop (core/interruption.h); what was read stays.
  at::Tensor logits_V(const std::vector<int64_t>& ids);

  /// What the state has read.
  const std::vector<int64_t>& read() const { return read_; }
  /// Ids that were read and then given up, because what came was another text, in all.
  int64_t given_up() const { return given_up_; }

 private:
  void go_back(const std::vector<int64_t>& ids);
  at::Tensor feed(const std::vector<int64_t>& ids, std::size_t end);

  const Transformer& model_;
  DecodeState state_, marked_;
  std::vector<int64_t> read_;
  std::size_t mark_ = 0;  // ids that marked_ has read
  int64_t given_up_ = 0;
};

}  // namespace braid
