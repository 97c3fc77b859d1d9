#pragma once
#include <cstddef>
#include <cstdint>

namespace braid {

/// What a regular expression calls \p{L}, \p{M}, \p{N}, \p{P}, \p{S} and \s; no code point is two
/// of them. kOther: control, format, private and unassigned ones.
enum class UnicodeClass : uint8_t {
  kOther,
  kLetter,
  kMark,
  kNumber,
  kPunctuation,
  kSymbol,
  kSpace
};

/// The classes of all 0x110000 code points, in Unicode 16.0.
const UnicodeClass* unicode_classes();

/// What unicode_classes() is made of (scripts/unicode_classes.py).
extern const uint32_t kUnicodeRanges[];
extern const std::size_t kUnicodeRangeCount;

}  // namespace braid
