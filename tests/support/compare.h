#pragma once
#include <string>

#include <ATen/core/Tensor.h>

namespace braid::testing {

struct Tolerance {
  double absolute = 0;  // largest |got - want| of any element ...
  double relative = 0;  // ... or || got - want || <= relative * || want ||; either one suffices
};

/// || got - want || / || want ||, in double; || got || when want is zero.
double relative_error(const at::Tensor& got, const at::Tensor& want);

/// Fails the running test unless shapes agree, NaN and inf stand at the same places and one of the
/// bounds holds. The message names the tensor, the worst element and both values.
void expect_close(const std::string& name,
                  const at::Tensor& got,
                  const at::Tensor& want,
                  Tolerance tolerance);

/// Same shape, dtype and bits.
void expect_bitwise_equal(const std::string& name, const at::Tensor& got, const at::Tensor& want);

}  // namespace braid::testing
