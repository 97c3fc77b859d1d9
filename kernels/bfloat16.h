#pragma once
#include <cstdint>

namespace braid {

/// The upper half of a float, rounded to nearest even.
struct Bfloat16 {
  uint16_t bits;
};

}  // namespace braid
