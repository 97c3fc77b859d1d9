#include "checkpoint/dtype.h"

#include <utility>

#include "core/error.h"

namespace braid {
namespace {

constexpr std::pair<at::ScalarType, std::string_view> kDtypes[] = {
    {at::kDouble, "F64"},
    {at::kFloat, "F32"},
    {at::kHalf, "F16"},
    {at::kBFloat16, "BF16"},
    {at::kLong, "I64"},
    {at::kInt, "I32"},
    {at::kShort, "I16"},
    {at::kChar, "I8"},
    {at::kByte, "U8"},
    {at::kBool, "BOOL"},
    {at::kFloat8_e4m3fn, "F8_E4M3"},
    {at::kFloat8_e8m0fnu, "F8_E8M0"},
};

constexpr std::pair<std::string_view, uint64_t> kForeignDtypes[] = {
    {"U16", 16},
    {"U32", 32},
    {"U64", 64},
    {"C64", 64},
    {"F4", 4},
    {"F6_E2M3", 6},
    {"F6_E3M2", 6},
    {"F8_E5M2", 8},
    {"F8_E4M3FNUZ", 8},
    {"F8_E5M2FNUZ", 8},
};

}  // namespace

std::string dtype_name(at::ScalarType dtype) {
  for (const auto& [known, name] : kDtypes) {
    if (known == dtype) {
      return std::string(name);
    }
  }
  fail("a tensor of dtype ",
       c10::toString(dtype),
       " cannot be written; possible are ",
       known_dtype_names());
}

std::optional<at::ScalarType> dtype_from_name(std::string_view name) {
  for (const auto& [dtype, known] : kDtypes) {
    if (known == name) {
      return dtype;
    }
  }
  return std::nullopt;
}

std::string known_dtype_names() {
  std::string names;
  for (const auto& [dtype, name] : kDtypes) {
    names += (names.empty() ? "" : ", ") + std::string(name);
  }
  return names;
}

std::optional<uint64_t> bits_of_foreign_dtype(std::string_view name) {
  for (const auto& [known, bits] : kForeignDtypes) {
    if (known == name) {
      return bits;
    }
  }
  return std::nullopt;
}

}  // namespace braid
