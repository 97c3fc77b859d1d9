#pragma once
// Which rows a block has, among those of a layer's experts. How many an expert has only the device
// knows: there are as many blocks as the rows could need at most, and each looks for its own.
#include "kernels/cuda/device.h"

namespace braid::cuda {

/// Blocks that are enough for `rows` rows of `experts` experts, kRows of one expert each.
template <int kRows>
unsigned expert_tiles(int64_t rows, int64_t experts) {
  return static_cast<unsigned>(rows / kRows + (experts < rows ? experts : rows));
}

/// Rows [first, end) of an expert; expert == count, and no rows, for a block that has none.
struct ExpertTile {
  int expert, first, end;
};

/// The `index`-th tile, of at most kRows rows of one of `count` experts, whose rows are
/// [bounds[e], bounds[e + 1]). All lanes of a warp call it and get the same.
template <int kRows>
__device__ inline ExpertTile expert_tile(const int64_t* bounds, int count, int index) {
  const int lane = thread_index() % kWarp;
  for (int first_expert = 0; first_expert < count; first_expert += kWarp) {
    const int expert = first_expert + lane;
    const int begin = expert < count ? static_cast<int>(bounds[expert]) : 0,
              end = expert < count ? static_cast<int>(bounds[expert + 1]) : 0;
    const int tiles = (end - begin + kRows - 1) / kRows;
    int up_to = tiles;  // of the lanes up to this one
#pragma unroll
    for (int step = 1; step < kWarp; step *= 2) {
      const int before = __shfl_sync(kAllLanes, up_to, lane >= step ? lane - step : lane);
      up_to += lane >= step ? before : 0;
    }
    // The lanes whose tiles all come before this one.
    const auto passed = static_cast<int>(warp_sum(up_to <= index ? 1.0f : 0.0f));
    if (passed < kWarp) {
      const int in_expert = index - __shfl_sync(kAllLanes, up_to - tiles, passed);
      const int first = __shfl_sync(kAllLanes, begin, passed) + in_expert * kRows;
      return {first_expert + passed, first, __shfl_sync(kAllLanes, end, passed)};
    }
    index -= __shfl_sync(kAllLanes, up_to, kWarp - 1);
  }
  return {count, 0, 0};
}

}  // namespace braid::cuda
