#pragma once
// A line plot as an SVG file of its own, for documents. Everything is in it, as attributes that any
// viewer knows: no style sheet, no script; dark on white, whatever surrounds it.
#include <cstddef>
#include <filesystem>
#include <string>

#include "report/line_plot.h"

namespace braid {

/// Title, note, legend, axes, lines with their bands. Over the plot's first x axis. `smoothing`:
/// which of kSmoothing is drawn.
std::string svg_of(const LinePlot& plot, std::size_t smoothing);

/// Writes such a file, whole or not at all. Throws Error where `path` exists and is no SVG of
/// Braid's, which it does not replace.
void write_svg(const std::filesystem::path& path, const std::string& svg);

}  // namespace braid
