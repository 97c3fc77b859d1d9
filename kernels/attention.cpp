#include "kernels/attention.h"

namespace braid {

at::Tensor attention(const at::Tensor& q, const at::Tensor& kv, const at::Tensor& c, const at::Tensor& sink, const at::Tensor& w, const at::Tensor& v, double scale) { return attention_reference(q, kv, c, sink, w, v, scale); }

}  // namespace braid
