#pragma once
// The page of a comparison: `braid compare` and `braid sweep`.
#include <string>

#include "report/comparison.h"

namespace braid {

/// The verdicts, and what is behind them: curves of each arm over tokens, FLOPs and time with the
/// spread of its seeds, differences with their intervals, every metric that arms have, each run,
/// each arm's configuration against the base arm's, samples of text, events, failures. One HTML
/// file; the same comparison gives the same bytes.
std::string comparison_page(const Comparison& comparison);

}  // namespace braid
