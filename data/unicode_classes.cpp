#include "data/unicode_classes.h"

#include <algorithm>
#include <vector>

namespace braid {
namespace {

constexpr uint32_t kCodePoints = 0x110000;

std::vector<UnicodeClass> expanded_ranges() {
  std::vector<UnicodeClass> classes(kCodePoints);
  for (std::size_t i = 0; i < kUnicodeRangeCount; ++i) {
    const uint32_t begin = kUnicodeRanges[i] / 8;
    const uint32_t end = i + 1 < kUnicodeRangeCount ? kUnicodeRanges[i + 1] / 8 : kCodePoints;
    std::fill(classes.begin() + begin,
              classes.begin() + end,
              static_cast<UnicodeClass>(kUnicodeRanges[i] % 8));
  }
  return classes;
}

}  // namespace

const UnicodeClass* unicode_classes() {
  static const std::vector<UnicodeClass> classes = expanded_ranges();
  return classes.data();
}

}  // namespace braid
