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

}  // namespace on_host
