#include "kernels/rope.h"

namespace braid {

at::Tensor rope(const at::Tensor& x, const at::Tensor& c, const at::Tensor& s, bool inverse) { return rope_reference(x, c, s, inverse); }

}  // namespace braid
