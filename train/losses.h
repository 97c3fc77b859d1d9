#pragma once
// The losses of one optimizer step as named terms. Sums over micro-batches and ranks, checks that
// they are finite, metrics.jsonl and the progress line all iterate over the terms, so that a new
// one needs no change there.
#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include <ATen/core/Tensor.h>

#include "parallel/grid.h"

namespace braid {

/// One term: total loss = sum of weight * value. Strings must be literals.
struct LossTerm {
  std::string_view name;                 ///< its key in metrics.jsonl
  std::string_view label;                ///< what messages call it
  double weight = 1;                     ///< in the total
  std::string_view progress_label = {};  ///< in the progress line; empty = not shown there
  double value = 0;                      ///< a mean, or a sum of several means
};

/// A fraction that is measured beside the loss. Reported where the denominator is positive.
struct LossRatio {
  std::string_view name;  ///< its key in metrics.jsonl
  double numerator = 0, denominator = 0;
};

/// One micro-batch's share of a step's losses, or one rank's of a micro-batch; shares add up to the
/// step's.
struct Losses {
  /// The first one is called the loss: spikes are found in it.
  std::vector<LossTerm> terms;
  std::vector<LossRatio> ratios;
  std::vector<at::Tensor>
      load_E;  ///< tokens per expert, decoder layers, then the MTP block; double

  /// Targets in the whole step, whatever their weights.
  int64_t tokens = 0;

  double loss() const { return terms.front().value; }
  /// A term's value by its name; the term must exist.
  double value(std::string_view name) const;

  /// All numbers that add up, in a fixed order: values of terms, of ratios, loads.
  std::vector<double> numbers() const;
  /// Adds the numbers() of another share of the same terms.
  void add(at::ArrayRef<double> numbers);
  void add(const Losses& other) { add(other.numbers()); }
};

/// What means of a whole step are divided by (counts, or sums of weights), under names that the
/// objective chooses. They are summed over all micro-batches before any of them runs, so that
/// neither the number of micro-batches nor packing changes the result.
using LossCounts = std::map<std::string, double>;
void add(LossCounts& counts, const LossCounts& more);

/// The loss of one micro-batch. Values stay tensors on their device until they are read.
class MicroBatchLoss {
 public:
  /// Terms and ratios are reported in the order in which they are declared, also those that get no
  /// value.
  void declare(const LossTerm& term) { losses_.terms.push_back(term); }
  void declare(const LossRatio& ratio) { losses_.ratios.push_back(ratio); }

  void set_tokens(double tokens) { losses_.tokens = static_cast<int64_t>(tokens); }
  /// Adds a mean, sum [] / count (of nothing, count = 0: sum), to a term and, times its weight, to
  /// the total. With weight 0 it is measured only: what nothing else reaches gets no gradient.
  void add(std::string_view term, const at::Tensor& sum, double count);
  /// Adds [2], numerator and denominator, to a ratio.
  void add_to_ratio(std::string_view ratio, const at::Tensor& sums);
  void add_load(const at::Tensor& load_E);

  /// [] wide; without a gradient when everything that it depends on is frozen.
  const at::Tensor& total() const { return total_; }
  /// The total's backward pass, if it has a gradient; frees the graph.
  void backward();
  Losses read() const { return read_all({*this}).front(); }
  /// The values of a step's micro-batches, read from their device at once: a step waits for its
  /// losses once.
  static std::vector<Losses> read_all(const std::vector<MicroBatchLoss>& micro_batches);

 private:
  enum class Kind { kTerm, kRatio, kLoad };
  struct Value {
    Kind kind;
    std::size_t index;  // of the term or ratio
    at::Tensor numbers;
  };

  at::Tensor total_;
  Losses losses_;  // declared, all zero
  std::vector<Value> values_;
};

/// The step's losses out of each rank's micro-batches: added in the order of ranks, then of
/// micro-batches.
Losses sum_over_ranks(const std::vector<Losses>& micro_batches, Communicator& world);

/// The step's counts out of each rank's. Ranks that share their sequences each counted all of them.
LossCounts sum_over_ranks(const LossCounts& own, const ProcessGrid& grid);

}  // namespace braid
