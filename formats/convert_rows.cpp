#include "formats/convert_rows.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include <ATen/ATen.h>
#include <ATen/Parallel.h>

#include "core/error.h"
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

// Calls add(i, sum) for every i < count, over pieces of a fixed length with a sum each, so that the
// sums do not depend on the threads.
template <class Sum, class Add>
std::vector<Sum> sums_of_pieces(int64_t count, const Add& add) {
  constexpr int64_t kPiece = 1 << 16;
  const int64_t pieces = (count + kPiece - 1) / kPiece;
  std::vector<Sum> sums(static_cast<std::size_t>(pieces));
  at::parallel_for(0, pieces, 1, [&](int64_t first, int64_t last) {
    for (int64_t piece = first; piece < last; ++piece) {
      Sum sum;
      for (int64_t i = piece * kPiece; i < std::min(count, (piece + 1) * kPiece); ++i) {
        add(i, sum);
      }
      sums[static_cast<std::size_t>(piece)] = sum;
    }
  });
  return sums;
}

template <class T>
void add_error_of(const T* before, const T* after, int64_t count, ConvertedClass& tally) {
  struct Sums {
    double largest = 0, error = 0, squares = 0;
  };
  const auto sums = sums_of_pieces<Sums>(count, [&](int64_t i, Sums& sum) {
    const double value = before[i], error = std::abs(after[i] - value);
    sum.largest = std::max(sum.largest, error);
    sum.error += error * error;
    sum.squares += value * value;
  });
  for (const auto& [largest, error, squares] : sums) {
    tally.largest_error = std::max(tally.largest_error, largest);
    tally.squared_error += error;
    tally.squares += squares;
  }
}

// What rounding leaves of an update: both results, the wanted one, and the update.
void add_survival(const at::Tensor& after,
                  const at::Tensor& without,
                  const at::Tensor& wanted,
                  const at::Tensor& update,
                  ConvertedClass& tally) {
  const auto flat = [](const at::Tensor& x) { return x.to(at::kFloat).contiguous(); };
  const auto a = flat(after), b = flat(without), w = flat(wanted), d = flat(update);
  const auto *pa = a.const_data_ptr<float>(), *pb = b.const_data_ptr<float>(),
             *pw = w.const_data_ptr<float>(), *pd = d.const_data_ptr<float>();
  struct Sums {
    double squares = 0, error = 0, product = 0;
  };
  const auto sums = sums_of_pieces<Sums>(a.numel(), [&](int64_t i, Sums& sum) {
    const double value = pd[i], error = static_cast<double>(pa[i]) - pw[i];
    sum.squares += value * value;
    sum.error += error * error;
    sum.product += (static_cast<double>(pa[i]) - pb[i]) * value;
  });
  for (const auto& [squares, error, product] : sums) {
    tally.update_squares += squares;
    tally.update_error += error;
    tally.update_product += product;
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

// The values that errors are measured against, and what is encoded of them.
struct Slab {
  at::Tensor wanted, rounded;
  at::Tensor before, update;  // of those with adapters: what they are added to, and they
};

Slab slab_of(const Conversion& conversion, int64_t first, int64_t rows) {
  const auto values = values_of(conversion.stored, first, rows);
  const auto rounded = fake_quantized(values, conversion.rounded_to);
  if (conversion.updates.empty()) {
    return {values, rounded, {}, {}};
  }
  at::Tensor update;
  for (const auto& one : conversion.updates) {
    const auto part = change_of_rows(one, first, rounded);
    update = update.defined() ? update + part : part;
  }
  const auto sum = rounded + update;
  return {sum, sum, rounded, update};
}

// `encoded` makes of values what the target holds.
template <class Encoded>
void add_errors(const Conversion& conversion,
                const Slab& slab,
                const at::Tensor& after,
                const Encoded& encoded,
                ConvertedClass& tally) {
  add_error(slab.wanted, after, tally);
  if (slab.update.defined()) {
    const auto without = conversion.keeps_codes ? slab.before : encoded(slab.before);
    add_survival(after, without, slab.wanted, slab.update, tally);
  }
}

void quantize_rows(const Conversion& conversion, const RowSink& sink, ConvertedClass& tally) {
  const auto& weight = conversion.stored;
  const auto &codes = conversion.tensors[0], &scales = conversion.tensors[1];
  const int64_t step = slab_rows(weight.columns(), sizeof(float));
  const int64_t shared = conversion.encoding == Encoding::kFp4 ? 1 : kFp8Tile;
  for (int64_t first = 0; first < weight.rows(); first += step) {
    const auto slab = slab_of(conversion, first, std::min(step, weight.rows() - first));
    const auto type = slab.wanted.scalar_type();
    const auto result = encoded(conversion, slab.rounded);
    const auto again = [&](const at::Tensor& values) {
      return decode(encoded(conversion, values), type);
    };
    add_errors(conversion, slab, decode(result, type), again, tally);
    sink(codes.name, first, result.values);
    sink(scales.name, first / shared, result.scales);
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
    const auto slab = slab_of(conversion, first, std::min(step, weight.rows() - first));
    const auto cast = slab.rounded.to(conversion.type).contiguous();
    const auto again = [&](const at::Tensor& values) { return values.to(conversion.type); };
    add_errors(conversion, slab, cast, again, tally);
    sink(name, first, cast);
  }
}

}  // namespace

void convert_rows(const Conversion& conversion, const RowSink& sink, ConvertedClass& tally) {
  const auto& weight = conversion.stored;
  tally.updated += conversion.updates.empty() ? 0 : 1;
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
  weight.release_pages();
}

}  // namespace braid
