#include "kernels/streams.h"

namespace braid {

at::Tensor collapse_streams(const at::Tensor& X, const at::Tensor& p) { return collapse_streams_reference(X, p); }
at::Tensor expand_streams(const at::Tensor& X, const at::Tensor& y, const at::Tensor& p, const at::Tensor& m) { return expand_streams_reference(X, y, p, m); }

}  // namespace braid
