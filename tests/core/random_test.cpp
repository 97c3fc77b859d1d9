#include "core/random.h"

#include <array>
#include <cmath>
#include <cstdint>
#include <limits>
#include <vector>

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "core/random_tensor.h"

namespace braid {
namespace {

// The first is Random123's kat_vectors; the others come from a 10-line Python version that
// reproduces its known answers with all four counter words set (our upper two are always 0).
TEST(Philox, GivesTheKnownBits) {
  using Words = std::array<uint32_t, 4>;
  EXPECT_EQ(philox(0, 0), (Words{0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}));
  EXPECT_EQ(philox(~uint64_t{0}, ~uint64_t{0}),
            (Words{0x4d18d7d2, 0x430ac65a, 0xbd2fa22a, 0x0afae10d}));
  EXPECT_EQ(philox(0x299f31d0a4093822, 0x85a308d3243f6a88),
            (Words{0xe69c9c31, 0xb5a3d762, 0xe733bfc1, 0x341a787c}));
}

TEST(Philox, GivesTensorsTheSameBits) {
  const std::vector<int64_t> counters = {
      0, 1, 2, 0xffffffff, int64_t{1} << 32, std::numeric_limits<int64_t>::max()};
  for (const uint64_t key : {uint64_t{0}, ~uint64_t{0}, uint64_t{0x299f31d0a4093822}}) {
    const auto words = philox_words(key, at::tensor(counters, at::kLong));
    for (std::size_t i = 0; i < counters.size(); ++i) {
      const auto want = philox(key, static_cast<uint64_t>(counters[i]));
      for (std::size_t w = 0; w < want.size(); ++w) {
        EXPECT_EQ(words[static_cast<int64_t>(i)][static_cast<int64_t>(w)].item<int64_t>(), want[w])
            << counters[i];
      }
    }
  }
}

TEST(RandomKey, DiffersBySeedAndPurpose) {
  EXPECT_EQ(random_key(1, "shuffle"), random_key(1, "shuffle"));
  EXPECT_NE(random_key(1, "shuffle"), random_key(2, "shuffle"));
  EXPECT_NE(random_key(1, "shuffle"), random_key(1, "initial values"));
}

TEST(RandomBits, TakesBothHalvesOfEachBlock) {
  const auto block = philox(7, 3);
  EXPECT_EQ(random_bits(7, 6), uint64_t{block[1]} << 32 | block[0]);
  EXPECT_EQ(random_bits(7, 7), uint64_t{block[3]} << 32 | block[2]);
}

TEST(PermutedIndex, IsABijectionForEverySize) {
  for (const uint64_t size : {1, 2, 3, 4, 5, 16, 17, 63, 64, 65, 1000, 4097}) {
    std::vector<bool> seen(size, false);
    for (uint64_t index = 0; index < size; ++index) {
      const auto target = permuted_index(random_key(5, "test"), index, size);
      ASSERT_LT(target, size);
      ASSERT_FALSE(seen[target]) << target << " twice for size " << size;
      seen[target] = true;
    }
  }
}

TEST(PermutedIndex, MovesElementsEverywhere) {
  // The mean of |target - index| over a random permutation of n is (n^2 - 1) / 3n; for n = 4096
  // that is 1365 with a standard deviation of about 15.
  constexpr int64_t kSize = 4096;
  double distance = 0;
  for (int64_t index = 0; index < kSize; ++index) {
    distance += std::abs(static_cast<double>(permuted_index(99, index, kSize)) -
                         static_cast<double>(index));
  }
  EXPECT_NEAR(distance / kSize, 1365, 90);
  EXPECT_NE(permuted_index(99, 1, kSize), permuted_index(100, 1, kSize));
}

// Bounds are five standard errors of 100000 draws.
TEST(RandomNormal, HasTheMomentsOfAStandardNormal) {
  constexpr int kCount = 100000;
  std::array<double, 4> moments = {};
  for (int i = 0; i < kCount; ++i) {
    const double x = random_normal(random_key(1, "moments"), i);
    ASSERT_TRUE(std::isfinite(x));
    double power = 1;
    for (double& moment : moments) {
      moment += (power *= x) / kCount;
    }
  }
  EXPECT_NEAR(moments[0], 0, 5 * std::sqrt(1.0 / kCount));
  EXPECT_NEAR(moments[1], 1, 5 * std::sqrt(2.0 / kCount));
  EXPECT_NEAR(moments[2], 0, 5 * std::sqrt(15.0 / kCount));
  EXPECT_NEAR(moments[3], 3, 5 * std::sqrt(96.0 / kCount));
}

TEST(RandomUniform, FillsTheUnitInterval) {
  constexpr int kCount = 100000;
  std::array<int, 10> bins = {};
  for (int i = 0; i < kCount; ++i) {
    const double x = random_uniform(3, i);
    ASSERT_GE(x, 0);
    ASSERT_LT(x, 1);
    ++bins[static_cast<std::size_t>(10 * x)];
  }
  for (const int count : bins) {
    EXPECT_NEAR(count, kCount / 10, 5 * std::sqrt(kCount * 0.09));
  }
}

}  // namespace
}  // namespace braid
