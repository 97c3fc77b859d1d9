#pragma once
// Where the elements of a warp's matrices are in its registers, as NVIDIA documents it (PTX ISA,
// "Matrix fragments for mma.m16n8k16 with floating point type" and "ldmatrix"). A lane's elements
// are numbered as they lie in its registers, two bfloat16 in each, the first in the lower half.

namespace on_host {

struct Element {
  int row, column;
};

/// a [16, 16]: eight elements a lane.
constexpr Element place_in_a(int lane, int element) {
  const int r = element / 2;
  return {lane / 4 + 8 * (r % 2), lane % 4 * 2 + element % 2 + 8 * (r / 2)};
}
/// b [16, 8]: four.
constexpr Element place_in_b(int lane, int element) {
  return {lane % 4 * 2 + element % 2 + 8 * (element / 2), lane / 4};
}
/// d [16, 8], float32: four.
constexpr Element place_in_d(int lane, int element) {
  return {lane / 4 + 8 * (element / 2), lane % 4 * 2 + element % 2};
}
/// An 8 x 8 matrix of ldmatrix: two. Transposed, row and column change places.
constexpr Element place_in_loaded(int lane, int element) {
  return {lane / 4, lane % 4 * 2 + element};
}

// Of wgmma (PTX ISA, "Register Fragments and Shared Memory Matrix Layouts"), whose 128 threads are
// numbered through.

/// a [64, 16] in registers: eight.
constexpr Element place_in_warpgroup_a(int thread, int element) {
  const auto [row, column] = place_in_a(thread % 32, element);
  return {thread / 32 * 16 + row, column};
}
/// d [64, n], float32: n / 2.
constexpr Element place_in_sums(int thread, int element) {
  const auto [row, column] = place_in_d(thread % 32, element % 4);
  return {thread / 32 * 16 + row, element / 4 * 8 + column};
}

/// The 128-byte swizzle: of eight rows of 128 bytes, the r-th has its eight pieces of 16 bytes in
/// another order.
constexpr int swizzled(int byte) {
  return byte ^ (byte / 128 % 8 * 16);
}
/// Where element (row, k) of an operand lies that is rows in memory; eight of them are `stride`
/// bytes from the next eight.
constexpr int byte_by_rows(int start, int stride, int row, int k) {
  return swizzled(start + row / 8 * stride + row % 8 * 128 + 2 * k);
}
/// The same of (k, column) of an operand whose rows are rows in memory, in panels of 64 columns
/// that are `leading` bytes apart.
constexpr int byte_by_panels(int start, int leading, int stride, int k, int column) {
  return byte_by_rows(start + column / 64 * leading, stride, k, column % 64);
}

}  // namespace on_host
