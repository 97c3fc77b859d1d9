#pragma once
// What every kernel must be: its plain LibTorch twin, in every type, with the same gradients.

#include <functional>
#include <string>
#include <utility>
#include <vector>

#include <ATen/core/Tensor.h>

namespace braid::testing {

/// An input of a kernel, float64. Wide ones are float32 where activations are bfloat16.
struct OpInput {
  at::Tensor value;
  bool is_wide = false;
};
inline OpInput wide(at::Tensor value) {
  return {std::move(value), true};
}

/// What else an Op needs (indices, tables) it moves to its inputs' device.
using Op = std::function<at::Tensor(const std::vector<at::Tensor>&)>;

struct OpCheck {
  Op fused, reference;
  std::vector<OpInput> inputs;
  // Relative L2 errors of values and gradients, against the reference in float64 on the same
  // (rounded) inputs. The reductions of the tests are at most some dozens of terms long, so float32
  // errors stay within about ten units in the last place, 10 * 2^-24.
  double float64 = 1e-13;
  double float32 = 1e-6;
  // Arithmetic is wide; results are rounded, and on some machines factors of products inside, each
  // by at most 2^-9.
  double bfloat16 = 1.0 / 256;
  bool gradcheck = true;  // off where the inputs sit on a kink
  bool on_host = true;    // off where sizes are those at which the CPU's loops change their ways
};

/// On every device (tests/support/devices.h), and in float64, float32 and bfloat16: fused and
/// reference give the values and the gradients of all inputs that the reference gives on the CPU in
/// float64, with and without gaps between the inputs' elements; a second run gives the same bits.
/// So do the kernels of kernels/cuda, where the operation has some, on a device that the CPU plays
/// (tests/support/kernels_on_host.h), in three orders of their threads, and in bfloat16 on a chip
/// before Hopper too.
/// On the CPU in float64 both gradients are the numeric ones.
void check_op(const std::string& name, const OpCheck& check);

/// Values and gradients of all inputs have the same bits on one, two and three threads, in float32
/// and in bfloat16.
void check_threads(const std::string& name, const Op& op, const std::vector<OpInput>& inputs);

/// The elements of `tensor` with other numbers between them in memory.
at::Tensor with_gaps(const at::Tensor& tensor);

/// The message of the braid::Error that f throws; fails the running test when it throws none.
std::string error_of(const std::function<void()>& f);

}  // namespace braid::testing
