#pragma once
// Numbers as people read them on axes, in tables and beside lines.
#include <string>

namespace braid {

/// How the numbers of one quantity are written.
enum class NumberStyle {
  kPlain,    ///< 0.0312, 5.51, 12400; from 1e6 on and below 1e-4 as 3.4e15
  kCount,    ///< tokens, steps, parameters: 950, 12k, 1.2M, 3.4B, 1.5T
  kPercent,  ///< shares: 0.42 is 42 %
};

/// The value with at most `digits` significant ones, zeros at their end left out; "-" for NaN, and
/// "inf" or "-inf".
std::string number_text(double value, NumberStyle style = NumberStyle::kPlain, int digits = 4);

/// With so many decimals, for columns of tables: "2.2500".
std::string fixed_text(double value, int decimals = 4);

/// With a sign, for differences: "+0.0312".
std::string signed_text(double value, int digits = 3);

}  // namespace braid
