#pragma once
#include <cstdint>

namespace braid {

/// A target that is not counted: neither in a loss nor in its normalizer.
inline constexpr int64_t kIgnoredTarget = -100;

}  // namespace braid
