#include "formats/convert_rows.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include <ATen/ATen.h>
#include <ATen/Parallel.h>

#include "core/error.h"
#include "core/pages.h"
#include "kernels/codec.h"
#include "kernels/fake_quant.h"

namespace braid {
namespace {

constexpr int64_t kSlabBytes = 64 << 20;

// A multiple of the rows that share a scale.
int64_t slab_rows(int64_t columns, int64_t bytes_of_value) {
  const int64_t rows = kSlabBytes / std::max<int64_t>(1, columns * bytes_of_value);
  return std::max<int64_t>(kFp8Tile, rows / kFp8Tile * kFp8Tile);
}

void copy_rows(const std::string& name, const at::Tensor& stored, const RowSink& sink) {
  if (stored.dim() < 2 || stored.numel() == 0) {
    sink(name, 0, stored.contiguous());
    return;
  }
  const int64_t rows = slab_rows(stored.numel() / stored.size(0), stored.element_size());
  for (int64_t first = 0; first < stored.size(0); first += rows) {
    sink(name, first, stored.slice(0, first, first + rows).contiguous());
  }
}

// Float32, or float64 where that is what is stored.
at::Tensor values_of(const Weight& weight, int64_t first, int64_t rows) {
  if (!weight.quantized()) {
    const bool wide = weight.values.scalar_type() == at::kDouble;
    return weight.values.slice(0, first, first + rows).to(wide ? at::kDouble : at::kFloat);
  }
  auto values = at::empty({rows, weight.columns()}, at::kFloat);
  decode_block({weight.values, weight.scales}, first, 0, values);
  return values;
}

// In one pass, in pieces of a fixed length, so that the sums do not depend on the threads.
template <class T>
void add_error_of(const T* before, const T* after, int64_t count, ConvertedClass& tally) {
  constexpr int64_t kPiece = 1 << 16;
  const int64_t pieces = (count + kPiece - 1) / kPiece;
  struct Sums {
    double largest = 0, error = 0, squares = 0;
  };
  std::vector<Sums> sums(static_cast<std::size_t>(pieces));
  at::parallel_for(0, pieces, 1, [&](int64_t first, int64_t last) {
    for (int64_t piece = first; piece < last; ++piece) {
      Sums sum;
      for (int64_t i = piece * kPiece; i < std::min(count, (piece + 1) * kPiece); ++i) {
        const double value = before[i], error = std::abs(after[i] - value);
        sum.largest = std::max(sum.largest, error);
        sum.error += error * error;
        sum.squares += value * value;
      }
      sums[static_cast<std::size_t>(piece)] = sum;
    }
  });
  for (const auto& [largest, error, squares] : sums) {
    tally.largest_error = std::max(tally.largest_error, largest);
    tally.squared_error += error;
    tally.squares += squares;
  }
}

void add_error(const at::Tensor& before, const at::Tensor& after, ConvertedClass& tally) {
  if (before.scalar_type() == at::kFloat) {
    const auto a = before.contiguous(), b = after.to(at::kFloat).contiguous();
    add_error_of(a.const_data_ptr<float>(), b.const_data_ptr<float>(), a.numel(), tally);
  } else {
    const auto a = before.to(at::kDouble).contiguous(), b = after.to(at::kDouble).contiguous();
    add_error_of(a.const_data_ptr<double>(), b.const_data_ptr<double>(), a.numel(), tally);
  }
}

Codes encoded(const Conversion& conversion, const at::Tensor& values) {
  try {
    return conversion.encoding == Encoding::kFp4 ? encode_fp4(values)
                                                 : encode_fp8(values, conversion.type);
  } catch (const Error& error) {
    fail(conversion.name, " cannot be quantized: ", error.what());
  }
}

// The values, and what is written of them.
struct Slab {
  at::Tensor stored, rounded;
};

Slab slab_of(const Conversion& conversion, int64_t first, int64_t rows) {
  const auto values = values_of(conversion.stored, first, rows);
  return {values, fake_quantized(values, conversion.rounded_to)};
}

void quantize_rows(const Conversion& conversion, const RowSink& sink, ConvertedClass& tally) {
  const auto& weight = conversion.stored;
  const auto &codes = conversion.tensors[0], &scales = conversion.tensors[1];
  const int64_t step = slab_rows(weight.columns(), sizeof(float));
  const int64_t shared = conversion.encoding == Encoding::kFp4 ? 1 : kFp8Tile;
  for (int64_t first = 0; first < weight.rows(); first += step) {
    const auto [values, rounded] =
        slab_of(conversion, first, std::min(step, weight.rows() - first));
    const auto slab = encoded(conversion, rounded);
    add_error(values, decode(slab, values.scalar_type()), tally);
    sink(codes.name, first, slab.values);
    sink(scales.name, first / shared, slab.scales);
  }
}

void cast_rows(const Conversion& conversion, const RowSink& sink, ConvertedClass& tally) {
  const auto& weight = conversion.stored;
  const auto& name = conversion.tensors[0].name;
  const bool flat = weight.values.dim() < 2 || weight.values.numel() == 0;
  if (flat || c10::isIntegralType(conversion.type, /*includeBool=*/true)) {
    const auto cast = weight.values.to(conversion.type).contiguous();
    add_error(weight.values, cast, tally);
    sink(name, 0, cast);
    return;
  }
  const int64_t step = slab_rows(weight.columns(), sizeof(float));
  for (int64_t first = 0; first < weight.rows(); first += step) {
    const auto [values, rounded] =
        slab_of(conversion, first, std::min(step, weight.rows() - first));
    const auto cast = rounded.to(conversion.type).contiguous();
    add_error(values, cast, tally);
    sink(name, first, cast);
  }
}

}  // namespace

void convert_rows(const Conversion& conversion, const RowSink& sink, ConvertedClass& tally) {
  const auto& weight = conversion.stored;
  switch (conversion.encoding) {
    case Encoding::kCopy:
      copy_rows(conversion.tensors[0].name, weight.values, sink);
      if (weight.quantized()) {
        copy_rows(conversion.tensors[1].name, weight.scales, sink);
      }
      break;
    case Encoding::kRescale:
      copy_rows(conversion.tensors[0].name, weight.values, sink);
      sink(conversion.tensors[1].name, 0, weight.scales.to(conversion.type).contiguous());
      break;
    case Encoding::kCast:
      cast_rows(conversion, sink, tally);
      break;
    case Encoding::kFp8:
    case Encoding::kFp4:
      quantize_rows(conversion, sink, tally);
      break;
  }
  if (weight.mapped) {
    release_mapped_pages(weight.values.const_data_ptr(), weight.values.nbytes());
  }
}

}  // namespace braid
