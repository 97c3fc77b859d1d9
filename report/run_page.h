#pragma once
// The page of one run: `braid report`.
#include <string>

#include "report/curves.h"

namespace braid {

/// Everything that the run wrote, as one HTML file: losses, learning rate, gradients, experts,
/// attention, speed, whatever monitors there are, samples of text, events, configuration. What the
/// run does not have is left out. refresh_seconds: how often a browser loads it again; 0 = never.
/// The same run gives the same bytes.
std::string run_page(const RunCurves& run, int refresh_seconds = 0);

}  // namespace braid
