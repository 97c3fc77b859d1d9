#pragma once
#include <cstdint>
#include <vector>

namespace braid {

/// Bit i of a row of words, lowest bit first.
inline bool target_bit(const uint64_t* words, uint64_t i) {
  return ((words[i / 64] >> (i % 64)) & 1) != 0;
}

/// Collects one bit a token, and takes no memory while all of them are set.
class TargetBits {
 public:
  void add(bool target) {
    if (!target && all_set_) {
      all_set_ = false;
      words_.assign((size_ + 63) / 64, ~uint64_t{0});
      if (size_ % 64 != 0) {
        words_.back() >>= 64 - size_ % 64;
      }
    }
    if (!all_set_) {
      if (size_ % 64 == 0) {
        words_.push_back(0);
      }
      words_.back() |= uint64_t{target} << (size_ % 64);
    }
    ++size_;
  }

  uint64_t size() const { return size_; }
  /// Empty where every bit is set; else the last word is filled up with zeros.
  const std::vector<uint64_t>& words() const { return words_; }

 private:
  std::vector<uint64_t> words_;
  uint64_t size_ = 0;
  bool all_set_ = true;
};

}  // namespace braid
