#include "kernels/working_copy.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>

#include "core/error.h"

namespace braid {

WorkingCopy::WorkingCopy(const at::Tensor& master)
    : shared_(std::make_shared<Shared>(Shared{
          master.detach(),
          at::empty(master.sizes(), master.options().dtype(at::kBFloat16).requires_grad(false))})),
      end_(master.size(0)) {
  require(master.scalar_type() == at::kFloat,
          "[working_copy] expected a float32 master, got ",
          master.scalar_type());
}

WorkingCopy WorkingCopy::part(int64_t first, int64_t end) const {
  WorkingCopy result = *this;
  result.first_ = first_ + first;
  result.end_ = first_ + end;
  return result;
}

at::Tensor WorkingCopy::operand_for(const at::Tensor& x, const at::Tensor& master) const {
  if (!shared_ || x.scalar_type() != at::kBFloat16) {
    return master;
  }
  const at::NoGradGuard no_grad;
  auto& [whole, values, version] = *shared_;
  if (const auto now = static_cast<int64_t>(whole._version()); now != version) {
    values.copy_(whole);
    version = now;
  }
  return end_ - first_ == values.size(0) ? values : values.narrow(0, first_, end_ - first_);
}

void mark_written(const at::Tensor& x) {
  x.unsafeGetTensorImpl()->bump_version();
}

}  // namespace braid
