#include "tests/support/compare.h"

#include <cstring>

#include <ATen/ATen.h>
#include <gtest/gtest.h>

namespace braid::testing {

double relative_error(const at::Tensor& got, const at::Tensor& want) {
  const auto want_double = want.detach().to(at::kCPU, at::kDouble);
  const double difference =
      (got.detach().to(at::kCPU, at::kDouble) - want_double).norm().item<double>();
  const double size = want_double.norm().item<double>();
  return size > 0 ? difference / size : difference;
}

void expect_close(const std::string& name,
                  const at::Tensor& got,
                  const at::Tensor& want,
                  Tolerance tolerance) {
  ASSERT_TRUE(got.defined()) << name << " is undefined";
  ASSERT_EQ(got.sizes(), want.sizes()) << name;
  if (want.numel() == 0) {
    return;
  }
  const auto got_double = got.detach().to(at::kCPU, at::kDouble).contiguous().flatten();
  const auto want_double = want.detach().to(at::kCPU, at::kDouble).contiguous().flatten();
  const auto finite = want_double.isfinite();
  ASSERT_TRUE(got_double.isfinite().equal(finite)) << name << ": NaN or inf at different places";
  const auto difference =
      (got_double - want_double).where(finite, at::zeros({}, at::kDouble)).abs();
  const auto worst = difference.argmax().item<int64_t>();
  const double worst_absolute = difference[worst].item<double>();
  const double size = want_double.where(finite, at::zeros({}, at::kDouble)).norm().item<double>();
  const double norm = difference.norm().item<double>();
  const bool good =
      worst_absolute <= tolerance.absolute || norm <= tolerance.relative * size || norm == 0;
  EXPECT_TRUE(good) << name << " " << want.sizes() << ": worst element " << worst << " is "
                    << got_double[worst].item<double>() << ", expected "
                    << want_double[worst].item<double>() << " (difference " << worst_absolute
                    << ", allowed " << tolerance.absolute << "); relative L2 error "
                    << (size > 0 ? norm / size : norm) << ", allowed " << tolerance.relative;
}

void expect_bitwise_equal(const std::string& name, const at::Tensor& got, const at::Tensor& want) {
  ASSERT_EQ(got.sizes(), want.sizes()) << name;
  ASSERT_EQ(got.scalar_type(), want.scalar_type()) << name;
  const auto a = got.detach().cpu().contiguous(), b = want.detach().cpu().contiguous();
  EXPECT_EQ(std::memcmp(a.data_ptr(), b.data_ptr(), a.nbytes()), 0)
      << name << " differs in bits; relative error " << relative_error(got, want);
}

}  // namespace braid::testing
