// Are the layouts of fragments.h those of NVIDIA's CuTe? Built where CMake knows its headers
// (BRAID_CUTE_INCLUDE, see README.md).
#include <cstdio>
#include <utility>

#include <cute/atom/copy_traits_sm75.hpp>
#include <cute/atom/mma_traits_sm80.hpp>
#include <cute/tensor.hpp>

#include "tests/cuda_on_host/fragments.h"

namespace {

constexpr int kLanes = 32;

// index(lane, element) is CuTe's number of an element, number(row, column) the one of its place.
template <class Index, class Place, class Number>
int differences(
    const char* name, int elements, const Index& index, const Place& place, const Number& number) {
  int wrong = 0;
  for (int lane = 0; lane < kLanes; ++lane) {
    for (int element = 0; element < elements; ++element) {
      const on_host::Element at = place(lane, element);
      wrong += index(lane, element) != number(at.row, at.column);
    }
  }
  std::printf("%s: %d of %d places differ\n", name, wrong, kLanes * elements);
  return wrong;
}

}  // namespace

int main() {
  using Product = cute::MMA_Traits<cute::SM80_16x8x16_F32BF16BF16F32_TN>;
  const auto by_columns_of_16 = [](int row, int column) { return row + 16 * column; };
  const auto place_of = [](const auto& layout) {
    return [=](int lane, int element) { return static_cast<int>(layout(lane, element)); };
  };
  int wrong = differences(
      "a of mma.m16n8k16", 8, place_of(Product::ALayout{}), on_host::place_in_a, by_columns_of_16);
  wrong += differences(
      "b of mma.m16n8k16", 4, place_of(Product::BLayout{}), on_host::place_in_b, [](int k, int n) {
        return n + 8 * k;
      });
  wrong += differences(
      "d of mma.m16n8k16", 4, place_of(Product::CLayout{}), on_host::place_in_d, by_columns_of_16);

  // Of ldmatrix CuTe counts bits: 16 an element, eight elements a row.
  const auto bits_of = [](const auto& layout) {
    return [=](int lane, int element) { return static_cast<int>(layout(lane, 16 * element)); };
  };
  using Plain = cute::Copy_Traits<cute::SM75_U32x1_LDSM_N>;
  using Transposed = cute::Copy_Traits<cute::SM75_U16x2_LDSM_T>;
  wrong += differences("ldmatrix",
                       2,
                       bits_of(Plain::DstLayout{}),
                       on_host::place_in_loaded,
                       [](int row, int column) { return (row * 8 + column) * 16; });
  wrong += differences("ldmatrix.trans",
                       2,
                       bits_of(Transposed::DstLayout{}),
                       on_host::place_in_loaded,
                       [](int row, int column) { return (column * 8 + row) * 16; });
  return wrong == 0 ? 0 : 1;
}
