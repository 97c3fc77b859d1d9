#pragma once
// The k best of many scores that come by in pieces.
#include <algorithm>
#include <cstdint>
#include <limits>
#include <vector>

#include "core/aligned.h"
#include "kernels/cpu/index_topk_loops.h"

namespace braid {

/// Of equal scores the lower entry is better; a score that is not a number is the worst.
template <class T>
class RunningSelection {
 public:
  explicit RunningSelection(int64_t k)
      : k_(k),
        room_(2 * k),
        scores_(room_ + kPiece),
        entries_(room_ + kPiece),
        scratch_(scores_.size()) {}

  void clear() {
    count_ = 0;
    full_ = false;
  }

  /// scores[c], begin <= c < end, is that of entry first + c; entries come in ascending order.
  void offer(const T* scores, int64_t first, int64_t begin, int64_t end) {
    while (begin < end) {
      const int64_t piece = std::min(kPiece, end - begin);
      if (full_) {
        count_ += BRAID_CPU(append_above<T>)(scores + begin,
                                             piece,
                                             threshold_,
                                             first + begin,
                                             scores_.data() + count_,
                                             entries_.data() + count_);
      } else {
        for (int64_t c = begin; c < begin + piece; ++c, ++count_) {
          // A step that went wrong must not sort NaN.
          scores_[count_] = scores[c] == scores[c] ? scores[c] : kLowest;
          entries_[count_] = first + c;
        }
      }
      begin += piece;
      if (count_ >= (full_ ? room_ : k_)) {
        prune();
      }
    }
  }

  /// Writes k entries, ascending, -1 behind the last.
  void write(int64_t* entries) {
    if (count_ > k_) {
      prune();
    }
    std::fill(std::copy_n(entries_.begin(), count_, entries), entries + k_, -1);
  }

 private:
  static constexpr T kLowest = -std::numeric_limits<T>::infinity();
  static constexpr int64_t kPiece = 64;

  // Keeps the k best, in their order. An entry that comes later must beat the worst of them
  // strictly: of equal scores the lower one stays.
  void prune() {
    threshold_ = BRAID_CPU(kth_largest<T>)(scores_.data(), count_, k_, scratch_.data());
    int64_t equal = k_;  // how many as good as the worst there is room for
    for (int64_t i = 0; i < count_; ++i) {
      equal -= scores_[i] > threshold_;
    }
    int64_t kept = 0;
    for (int64_t i = 0; i < count_; ++i) {
      const bool is_equal = scores_[i] == threshold_,
                 keep = scores_[i] > threshold_ || (is_equal && equal > 0);
      equal -= is_equal;
      scores_[kept] = scores_[i];
      entries_[kept] = entries_[i];
      kept += keep;
    }
    count_ = k_;
    full_ = true;
  }

  int64_t k_, room_, count_ = 0;
  AlignedVector<T> scores_;
  std::vector<int64_t> entries_;
  std::vector<OrderedBits<T>> scratch_;
  T threshold_ = 0;
  bool full_ = false;
};

}  // namespace braid
