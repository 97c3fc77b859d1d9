#include "kernels/codec.h"

#include <vector>

#include <ATen/ATen.h>

#include "core/error.h"
#include "core/sizes.h"
#include "kernels/autograd.h"
#include "kernels/codec_cpu.h"
#include "kernels/run_kernel.h"

namespace braid {
namespace {

bool is_fp8(const Codes& codes) {
  return codes.values.scalar_type() == at::kFloat8_e4m3fn;
}

void require_format(const Codes& codes) {
  const auto &values = codes.values, &scales = codes.scales;
  const auto type = values.scalar_type();
  require(type == at::kFloat8_e4m3fn || type == at::kChar || type == at::kByte,
          "[codec] codes are ",
          type,
          ", expected Float8_e4m3fn (FP8), or Char or Byte (FP4)");
  const bool fp8 = is_fp8(codes);
  require(
      scales.scalar_type() == at::kFloat8_e8m0fnu || (fp8 && scales.scalar_type() == at::kFloat),
      "[codec] scales are ",
      scales.scalar_type(),
      ", expected Float8_e8m0fnu",
      fp8 ? " or Float" : "");
  require(values.dim() == 2 && (fp8 || columns_of(codes) % kFp4Group == 0),
          "[codec] codes ",
          values.sizes(),
          " are no matrix",
          fp8 ? "" : " of groups of 32 inputs");
  const std::vector<int64_t> expected = {
      fp8 ? blocks(values.size(0), kFp8Tile) : values.size(0),
      fp8 ? blocks(values.size(1), kFp8Tile) : values.size(1) * 2 / kFp4Group};
  require(scales.sizes() == at::IntArrayRef(expected),
          "[codec] codes ",
          values.sizes(),
          " have scales ",
          scales.sizes(),
          ", expected ",
          at::IntArrayRef(expected));
  require(values.is_contiguous() && scales.is_contiguous(),
          "[codec] codes and scales must be contiguous");
}

template <class Byte>
CodeArrays<Byte> arrays_of(const Codes& codes) {
  return {is_fp8(codes) ? CodeFormat::kFp8 : CodeFormat::kFp4,
          codes.scales.scalar_type() == at::kFloat,
          rows_of(codes),
          columns_of(codes),
          data<Byte>(codes.values),
          data<Byte>(codes.scales)};
}

// In the type of the arithmetic, and with finite values.
at::Tensor encodable(const at::Tensor& w) {
  const auto good = w.isfinite();
  if (!good.all().item<bool>()) {
    const auto place = good.logical_not().nonzero()[0];
    const auto row = place[0].item<int64_t>(), column = place[1].item<int64_t>();
    fail_to_encode(w[row][column].item<double>(), row, column);
  }
  return w.to(w.scalar_type() == at::kDouble ? at::kDouble : at::kFloat).contiguous();
}

void encode_into(const at::Tensor& given, bool own_scales, const Codes& codes) {
  const auto w = encodable(given);
  with_wide_type(w.scalar_type(), [&](auto zero) {
    using T = decltype(zero);
    encode_cpu(w.const_data_ptr<T>(), own_scales, arrays_of<uint8_t>(codes));
  });
}

void require_matrix(const at::Tensor& w) {
  require(w.dim() == 2, "[codec] cannot quantize a tensor of shape ", w.sizes(), ": not a matrix");
}

}  // namespace

CodeArrays<const uint8_t> code_arrays(const Codes& codes) {
  require_format(codes);
  return arrays_of<const uint8_t>(codes);
}

int64_t rows_of(const Codes& codes) {
  return codes.values.size(0);
}

int64_t columns_of(const Codes& codes) {
  return codes.values.size(1) * (is_fp8(codes) ? 1 : 2);
}

at::Tensor decode(const Codes& codes, at::ScalarType type) {
  require_format(codes);
  if (kernel_of(codes.values.device(), type, BRAID_KERNEL(decode_block)) == Kernel::kPlain) {
    return decode_reference(codes, type);
  }
  auto out = at::empty({rows_of(codes), columns_of(codes)}, codes.values.options().dtype(type));
  decode_block(codes, 0, 0, out);
  return out;
}

void decode_block(const Codes& codes, int64_t first_row, int64_t first_column, at::Tensor& out) {
  require_format(codes);
  require(out.dim() == 2 && out.is_contiguous(), "[codec] the block must be a contiguous matrix");
  const int64_t rows = out.size(0), columns = out.size(1);
  require(first_row >= 0 && first_column >= 0 && first_row + rows <= rows_of(codes) &&
              first_column + columns <= columns_of(codes),
          "[codec] the block [",
          first_row,
          ", ",
          first_column,
          "] + ",
          out.sizes(),
          " is not within ",
          rows_of(codes),
          " x ",
          columns_of(codes));
  const int64_t shared = is_fp8(codes) ? kFp8Tile : kFp4Group;
  require(first_column % shared == 0 && (is_fp8(codes) || columns % shared == 0),
          "[codec] a block begins and ends where scales do, every ",
          shared,
          " columns");
  const auto type = out.scalar_type();
  require(type == at::kFloat || type == at::kDouble || type == at::kBFloat16,
          "[codec] cannot decode to ",
          type);
  if (kernel_of(out, BRAID_KERNEL(decode_block)) == Kernel::kPlain) {
    out.copy_(
        decode_reference(codes, type).narrow(0, first_row, rows).narrow(1, first_column, columns));
    return;
  }
  const auto arrays = arrays_of<const uint8_t>(codes);
  const CodeBlock block{first_row, first_column, rows, columns};
  with_activation_type(type, [&](auto e, auto t) {
    using E = decltype(e);
    if (out.is_cpu()) {
      decode_block_cpu<decltype(t)>(arrays, block, data<E>(out));
    } else {
      queue_kernel<E>(out, BRAID_KERNEL(decode_block), arrays, block, data<E>(out));
    }
  });
}

Codes encode_fp8(const at::Tensor& w, at::ScalarType scale_type) {
  require_matrix(w);
  if (kernel_of(w) == Kernel::kPlain) {
    return encode_fp8_reference(w, scale_type);
  }
  Codes codes{at::empty(w.sizes(), at::kFloat8_e4m3fn),
              at::empty({blocks(w.size(0), kFp8Tile), blocks(w.size(1), kFp8Tile)}, scale_type)};
  require_format(codes);
  encode_into(w, /*own_scales=*/true, codes);
  return codes;
}

Codes encode_fp4(const at::Tensor& w) {
  require_matrix(w);
  require(w.size(1) % kFp4Group == 0,
          "[codec] ",
          w.sizes(),
          " cannot become FP4: ",
          w.size(1),
          " inputs are not a multiple of ",
          kFp4Group);
  if (kernel_of(w) == Kernel::kPlain) {
    return encode_fp4_reference(w);
  }
  Codes codes{at::empty({w.size(0), w.size(1) / 2}, at::kChar),
              at::empty({w.size(0), w.size(1) / kFp4Group}, at::kFloat8_e8m0fnu)};
  encode_into(w, /*own_scales=*/true, codes);
  return codes;
}

Codes encode_like(const at::Tensor& w, const Codes& stored) {
  require_format(stored);
  require(w.dim() == 2 && w.size(0) == rows_of(stored) && w.size(1) == columns_of(stored),
          "[codec] values ",
          w.sizes(),
          " do not fit scales for ",
          rows_of(stored),
          " x ",
          columns_of(stored));
  if (kernel_of(w) == Kernel::kPlain) {
    return encode_like_reference(w, stored);
  }
  Codes codes{at::empty_like(stored.values), stored.scales.clone()};
  encode_into(w, /*own_scales=*/false, codes);
  return codes;
}

}  // namespace braid
