#include "kernels/rms_norm.h"

namespace braid {

at::Tensor rms_norm(const at::Tensor& x, const at::Tensor& w, double eps) { return rms_norm_reference(x, w, eps); }

}  // namespace braid
