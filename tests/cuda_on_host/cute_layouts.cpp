// Are the layouts of fragments.h those of NVIDIA's CuTe? Built where CMake knows its headers
// (BRAID_CUTE_INCLUDE, see README.md).
#include <cstdio>
#include <utility>

#include <cute/atom/copy_traits_sm75.hpp>
#include <cute/atom/mma_traits_sm80.hpp>
#include <cute/atom/mma_traits_sm90_gmma.hpp>
#include <cute/tensor.hpp>

#include "tests/cuda_on_host/fragments.h"

namespace {

constexpr int kLanes = 32;

// index(lane, element) is CuTe's number of an element, number(row, column) the one of its place.
template <class Index, class Place, class Number>
int differences(const char* name,
                int elements,
                const Index& index,
                const Place& place,
                const Number& number,
                int lanes = kLanes) {
  int wrong = 0;
  for (int lane = 0; lane < lanes; ++lane) {
    for (int element = 0; element < elements; ++element) {
      const on_host::Element at = place(lane, element);
      wrong += index(lane, element) != number(at.row, at.column);
    }
  }
  std::printf("%s: %d of %d places differ\n", name, wrong, lanes * elements);
  return wrong;
}

// index(row, column) is CuTe's number of an element of two bytes in memory.
template <class Index, class Byte>
int differences_of_memory(
    const char* name, int rows, int columns, const Index& index, const Byte& byte) {
  int wrong = 0;
  for (int row = 0; row < rows; ++row) {
    for (int column = 0; column < columns; ++column) {
      wrong += 2 * static_cast<int>(index(row, column)) != byte(row, column);
    }
  }
  std::printf("%s: %d of %d places differ\n", name, wrong, rows * columns);
  return wrong;
}

// A descriptor that kernels/cuda/warpgroup.h makes, whose address is 0.
template <class Descriptor>
int differences_of_descriptor(const char* name, const Descriptor& cutes, int leading) {
  const int wrong =
      (cutes.bitfield.layout_type_ != 1) + (cutes.bitfield.stride_byte_offset_ != 1024 / 16) +
      (cutes.bitfield.leading_byte_offset_ != leading) + (cutes.bitfield.base_offset_ != 0);
  std::printf("%s: %d of 4 fields differ\n", name, wrong);
  return wrong;
}

int differences_of_warpgroups() {
  using namespace cute;
  constexpr int kThreads = 128, kRowBytes = 128, kStride = 8 * kRowBytes;
  const auto by_columns_of_64 = [](int row, int column) { return row + 64 * column; };
  const auto place_of = [](const auto& layout) {
    return [=](int thread, int element) { return static_cast<int>(layout(thread, element)); };
  };
  using InRegisters =
      MMA_Traits<SM90_64x128x16_F32BF16BF16_RS<SM90::GMMA::Major::K, SM90::GMMA::Major::K>>;
  using InMemory =
      MMA_Traits<SM90_64x256x16_F32BF16BF16_SS<SM90::GMMA::Major::K, SM90::GMMA::Major::MN>>;
  int wrong = differences("a of wgmma.m64n128k16",
                          8,
                          place_of(InRegisters::ALayout{}),
                          on_host::place_in_warpgroup_a,
                          by_columns_of_64,
                          kThreads);
  wrong += differences("d of wgmma.m64n128k16",
                       64,
                       place_of(InRegisters::CLayout{}),
                       on_host::place_in_sums,
                       by_columns_of_64,
                       kThreads);
  wrong += differences("d of wgmma.m64n256k16",
                       128,
                       place_of(InMemory::CLayout{}),
                       on_host::place_in_sums,
                       by_columns_of_64,
                       kThreads);

  static bfloat16_t memory[256 * 64];
  const auto in_memory = [](const auto& layout) {
    return make_tensor(make_smem_ptr(&memory[0]), layout);
  };
  const auto rows =
      tile_to_shape(SM90::GMMA::Layout_K_SW128_Atom<bfloat16_t>{}, Shape<_128, _64>{});
  wrong += differences_of_memory(
      "operands by rows",
      128,
      64,
      as_position_independent_swizzle_layout(rows),
      [](int row, int k) { return on_host::byte_by_rows(0, kStride, row, k); });
  wrong +=
      differences_of_descriptor("their descriptor",
                                SM90::GMMA::make_gmma_desc<SM90::GMMA::Major::K>(local_tile(
                                    in_memory(rows), Shape<_128, _16>{}, make_coord(_0{}, _0{}))),
                                1);
  const auto panels = tile_to_shape(
      SM90::GMMA::Layout_MN_SW128_Atom<bfloat16_t>{}, Shape<_256, _64>{}, Step<_2, _1>{});
  constexpr int kPanelBytes = 64 * kRowBytes;
  wrong +=
      differences_of_memory("operands by panels",
                            256,
                            64,
                            as_position_independent_swizzle_layout(panels),
                            [](int column, int k) {
                              return on_host::byte_by_panels(0, kPanelBytes, kStride, k, column);
                            });
  wrong +=
      differences_of_descriptor("their descriptor",
                                SM90::GMMA::make_gmma_desc<SM90::GMMA::Major::MN>(local_tile(
                                    in_memory(panels), Shape<_256, _16>{}, make_coord(_0{}, _0{}))),
                                kPanelBytes / 16);
  // a by panels, 64 rows of it in each. A product reads one panel: of the next one's place, which
  // warpgroup.h gives, CuTe says nothing.
  const auto a_panels = tile_to_shape(
      SM90::GMMA::Layout_MN_SW128_Atom<bfloat16_t>{}, Shape<_128, _64>{}, Step<_2, _1>{});
  using Transposed =
      MMA_Traits<SM90_64x128x16_F32BF16BF16_SS<SM90::GMMA::Major::MN, SM90::GMMA::Major::MN>>;
  wrong += differences_of_memory(
      "a by panels", 128, 64, as_position_independent_swizzle_layout(a_panels), [](int row, int k) {
        return on_host::byte_by_panels(0, kPanelBytes, kStride, k, row);
      });
  wrong += differences_of_descriptor(
      "its descriptor",
      SM90::GMMA::make_gmma_desc<SM90::GMMA::Major::MN>(
          local_tile(in_memory(a_panels), Shape<_64, _16>{}, make_coord(_0{}, _0{}))),
      0);
  wrong += differences("d of wgmma.m64n128k16, a transposed",
                       64,
                       place_of(Transposed::CLayout{}),
                       on_host::place_in_sums,
                       by_columns_of_64,
                       kThreads);
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
  wrong += differences_of_warpgroups();
  return wrong == 0 ? 0 : 1;
}
