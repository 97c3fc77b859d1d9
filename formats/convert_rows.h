#pragma once
#include <functional>
#include <string>

#include "formats/convert_plan.h"

namespace braid {

/// Receives contiguous rows of a tensor at the target (of a scalar or vector: all at once).
using RowSink =
    std::function<void(const std::string& tensor, int64_t first_row, const at::Tensor& rows)>;

/// Gives the parameter's tensors to the sink, in slabs of at most 64 MB of float32 where values are
/// encoded again, and adds to `tally` what was written and rounded.
void convert_rows(const Conversion& conversion, const RowSink& sink, ConvertedClass& tally);

}  // namespace braid
