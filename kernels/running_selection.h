#pragma once
// The k best of many scores that come by in pieces.
#include <algorithm>
#include <cstdint>
#include <limits>
#include <vector>

#include "kernels/index_topk_cpu.h"

namespace braid {

/// Of equal scores the lower entry is better; a score that is not a number is the worst.
template <class T>
class RunningSelection {
 public:
  explicit RunningSelection(int64_t k)
      : k_(k), room_(2 * k), scores_(room_), entries_(room_), sorted_(room_) {}

  void clear() {
    count_ = 0;
    threshold_ = kLowest;
    full_ = false;
  }

  /// scores[c], begin <= c < end, is that of entry first + c; entries come in ascending order.
  void offer(const T* scores, int64_t first, int64_t begin, int64_t end) {
    for (int64_t c = begin; c < end; ++c) {
      if (full_) {
        c = BRAID_CPU(next_above<T>)(scores, c, end, threshold_);
        if (c == end) {
          return;
        }
      }
      const bool is_number = scores[c] == scores[c];  // a step that went wrong must not sort NaN
      scores_[count_] = is_number ? scores[c] : kLowest;
      entries_[count_] = first + c;
      if (++count_ == (full_ ? room_ : k_)) {
        prune();
      }
    }
  }

  /// Writes k entries, ascending, -1 behind the last.
  void write(int64_t* entries) {
    prune();
    std::fill(std::copy_n(entries_.begin(), count_, entries), entries + k_, -1);
  }

 private:
  static constexpr T kLowest = -std::numeric_limits<T>::infinity();

  // Keeps the k best, in their order.  An entry that comes later must beat the worst of them
  // strictly: of equal scores the lower one stays.
  void prune() {
    if (count_ < k_) {
      return;
    }
    std::copy_n(scores_.begin(), count_, sorted_.begin());
    std::nth_element(
        sorted_.begin(), sorted_.begin() + k_ - 1, sorted_.begin() + count_, [](T a, T b) {
          return a > b;
        });
    threshold_ = sorted_[k_ - 1];
    int64_t equal = k_;  // how many as good as the worst there is room for
    for (int64_t i = 0; i < count_; ++i) {
      equal -= scores_[i] > threshold_;
    }
    int64_t kept = 0;
    for (int64_t i = 0; i < count_; ++i) {
      const bool keep = scores_[i] > threshold_ || (scores_[i] == threshold_ && equal-- > 0);
      scores_[kept] = scores_[i];
      entries_[kept] = entries_[i];
      kept += keep;
    }
    count_ = k_;
    full_ = true;
  }

  int64_t k_, room_, count_ = 0;
  std::vector<T> scores_;
  std::vector<int64_t> entries_;
  std::vector<T> sorted_;
  T threshold_ = 0;
  bool full_ = false;
};

}  // namespace braid
