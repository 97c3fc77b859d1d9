// What the CPU finds in kernels: each test has a kernel that is right or wrong in one way.
#include <cmath>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "core/error.h"
#include "kernels/cuda/device.h"

namespace braid::cuda {
namespace {

constexpr int kThreads = 128;

std::string error_of_launch(void (*kernel)()) {
  try {
    launch(kernel, 2, kThreads, nullptr);
  } catch (const Error& error) {
    return error.what();
  }
  return "";
}

// Results of a kernel of one block, in three orders of its threads.
std::vector<std::vector<float>> results(void (*kernel)(float*), unsigned blocks = 1) {
  std::vector<std::vector<float>> all;
  for (const uint64_t order : {0, 1, 2}) {
    on_host::set_order(order);
    all.emplace_back(blocks * kThreads, -1.0f);
    launch(kernel, blocks, kThreads, nullptr, all.back().data());
  }
  on_host::set_order(0);
  return all;
}

bool differ(const std::vector<std::vector<float>>& all) {
  const auto bits = [](const std::vector<float>& x) {
    return std::string(reinterpret_cast<const char*>(x.data()), x.size() * sizeof(float));
  };
  return bits(all[0]) != bits(all[1]) || bits(all[0]) != bits(all[2]);
}

TEST(CudaOnHost, RunsEveryThreadOfEveryBlockInAnyOrder) {
  const auto all = results(
      [](float* out) {
        const int i = static_cast<int>(blockIdx.x) * kThreads + thread_index();
        out[i] = static_cast<float>(i);
      },
      3);
  for (const auto& result : all) {
    for (std::size_t i = 0; i < result.size(); ++i) {
      ASSERT_EQ(result[i], static_cast<float>(i));
    }
  }
}

TEST(CudaOnHost, AddsOverWarpsAndBlocks) {
  const auto all = results([](float* out) {
    const auto x = static_cast<float>(thread_index());
    out[thread_index()] = warp_sum(x) + 10000 * block_sum<kThreads>(x);
  });
  for (const auto& result : all) {
    for (int i = 0; i < kThreads; ++i) {
      const int first = i / kWarp * kWarp;
      const int of_warp = kWarp * first + kWarp * (kWarp - 1) / 2;
      ASSERT_EQ(result[static_cast<std::size_t>(i)], static_cast<float>(of_warp + 10000 * 8128));
    }
  }
}

TEST(CudaOnHost, ABarrierKeepsTheOrderOfThreadsOut) {
  const auto with = [](float* out) {
    BRAID_SHARED(float[kThreads], values);
    values[thread_index()] = static_cast<float>(thread_index());
    __syncthreads();
    out[thread_index()] = values[kThreads - 1 - thread_index()];
  };
  const auto without = [](float* out) {
    BRAID_SHARED(float[kThreads], values);
    values[thread_index()] = static_cast<float>(thread_index());
    out[thread_index()] = values[kThreads - 1 - thread_index()];
  };
  EXPECT_FALSE(differ(results(with)));
  EXPECT_TRUE(differ(results(without)));
}

TEST(CudaOnHost, SharedMemoryIsNanUntilItIsWritten) {
  const auto all = results(
      [](float* out) {
        BRAID_SHARED(float[2], values);
        if (blockIdx.x == 0 && thread_index() == 0) {
          values[0] = 1;
        }
        __syncthreads();
        out[static_cast<int>(blockIdx.x) * kThreads + thread_index()] = values[0];
      },
      2);
  for (const auto& result : all) {
    EXPECT_EQ(result[0], 1);
    EXPECT_TRUE(std::isnan(result[kThreads]));  // the next block has its own
  }
}

TEST(CudaOnHost, BlocksThatDependOnEachOtherShow) {
  EXPECT_TRUE(differ(results([](float* out) { out[thread_index()] = out[0] + 1; }, 3)));
}

TEST(CudaOnHost, ABarrierThatOthersDoNotReachIsAnError) {
  const auto message = error_of_launch([] {
    if (thread_index() < 64) {
      __syncthreads();
    }
  });
  EXPECT_EQ(message,
            "[cuda on the host] block (0, 0, 0): thread 0 waits at a barrier of the block, which "
            "others do not reach");
}

TEST(CudaOnHost, LanesThatAreMissingFromAShuffleAreAnError) {
  EXPECT_NE(error_of_launch([] {
              if (thread_index() % 2 == 0) {
                static_cast<void>(warp_sum(1));
              }
            }),
            "");
  const auto message = error_of_launch([] {
    if (thread_index() % 32 < 16) {
      static_cast<void>(warp_sum(1));
    } else {
      __syncthreads();
    }
  });
  EXPECT_NE(message.find("which others do not reach"), std::string::npos) << message;
}

TEST(CudaOnHost, RunsAgainAfterAnError) {
  error_of_launch([] {
    if (thread_index() == 0) {
      static_cast<void>(warp_sum(1));
    }
  });
  EXPECT_FALSE(differ(results([](float* out) { out[thread_index()] = block_sum<kThreads>(1); })));
}

TEST(CudaOnHost, RefusesBlocksThatAreNotWholeWarps) {
  const auto kernel = [] {};
  EXPECT_THROW(launch(+kernel, 1, 48, nullptr), Error);
  EXPECT_THROW(launch(+kernel, 1, 2048, nullptr), Error);
}

TEST(CudaOnHost, RoundsToBfloat16AsTheGpuDoes) {
  for (const auto& [x, bits] : {std::pair{1.0f, 0x3f80},
                                {1.00390625f, 0x3f80},
                                {1.01171875f, 0x3f82},
                                {-INFINITY, 0xff80},
                                {3.4e38f, 0x7f80}}) {
    EXPECT_EQ(narrowed<Bfloat16>(x).bits, bits) << x;
  }
  EXPECT_TRUE(std::isnan(widened(narrowed<Bfloat16>(NAN))));
}

}  // namespace
}  // namespace braid::cuda
