#include "core/random_tensor.h"

#include <array>

#include <ATen/ATen.h>

namespace braid {
namespace {

constexpr int64_t kWord = 0xffffffff, kHalf = 0xffff;

struct Product {
  at::Tensor high, low;
};

// Of words, in halves of the factor: no sum or product leaves the range of int64.
Product product_of(const at::Tensor& x, int64_t factor) {
  const auto upper = x * (factor >> 16), lower = x * (factor & kHalf);
  return {(upper + lower.bitwise_right_shift(16)).bitwise_right_shift(16),
          (upper.bitwise_and(kHalf) * (kHalf + 1) + lower).bitwise_and(kWord)};
}

}  // namespace

at::Tensor philox_words(uint64_t key, const at::Tensor& counter_n) {
  constexpr int64_t kMultiplier0 = 0xD2511F53, kMultiplier1 = 0xCD9E8D57;
  constexpr uint32_t kWeyl0 = 0x9E3779B9, kWeyl1 = 0xBB67AE85;
  const auto zero = at::zeros_like(counter_n);
  std::array<at::Tensor, 4> x = {counter_n.bitwise_and(kWord),
                                 counter_n.bitwise_right_shift(32).bitwise_and(kWord),
                                 zero,
                                 zero};
  auto key0 = static_cast<uint32_t>(key), key1 = static_cast<uint32_t>(key >> 32);
  for (int round = 0; round < 10; ++round) {
    const auto product0 = product_of(x[0], kMultiplier0), product1 = product_of(x[2], kMultiplier1);
    x = {product1.high.bitwise_xor(x[1]).bitwise_xor(static_cast<int64_t>(key0)),
         product1.low,
         product0.high.bitwise_xor(x[3]).bitwise_xor(static_cast<int64_t>(key1)),
         product0.low};
    key0 += kWeyl0;
    key1 += kWeyl1;
  }
  return at::stack(x, 1);
}

}  // namespace braid
