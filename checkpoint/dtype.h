#pragma once
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include <c10/core/ScalarType.h>

namespace braid {

/// The spelling of a dtype in files, as in safetensors headers: "F64", "F32", "F16", "BF16", "I64",
/// "I32", "I16", "I8", "U8", "BOOL", "F8_E4M3" (finite only), "F8_E8M0".
/// Throws Error for a dtype without one.
std::string dtype_name(at::ScalarType dtype);

/// The inverse; nothing for an unknown spelling.
std::optional<at::ScalarType> dtype_from_name(std::string_view name);

/// All spellings, for messages.
std::string known_dtype_names();

/// The bits of one element of a dtype that safetensors has and Braid has not: "U16", "U32", "U64",
/// "C64", "F4", "F6_E2M3", "F6_E3M2", "F8_E5M2", "F8_E4M3FNUZ", "F8_E5M2FNUZ"; nothing for any
/// other spelling.
std::optional<uint64_t> bits_of_foreign_dtype(std::string_view name);

}  // namespace braid
