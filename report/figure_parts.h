#pragma once
// What all figures of a page have in common.
//
// A figure has no size of its own: its SVG stretches with the page, text and strokes do not.
// Colours are classes of report/page.css, so that light, dark and paper each have their own.
#include <string>

#include "report/axis.h"
#include "report/markup.h"

namespace braid {

/// The title, and a sentence or two below it.
void draw_caption(Markup& html, const std::string& title, const std::string& note);

/// Opens the figure's <svg>. `description` is for readers who hear the page.
void open_svg(Markup& svg,
              const std::string& id,
              const std::string& title,
              const std::string& description);

/// Ticks, their numbers and the label: below the drawing, and on its left.
void draw_x_axis(Markup& svg, const Axis& x, const std::string& label);
void draw_y_axis(Markup& svg, const Axis& y, const std::string& label);

/// The numbers that report/page.js reads, as JSON.
void add_data(Markup& html, const std::string& json);

/// "43.21%", of a place from 0 to 1.
std::string percent(double place);

/// A whole place in the coordinates of a stretched drawing, kStretched units in each direction:
/// finer than any screen.
inline constexpr int kStretched = 10000;
int stretched(double place);

/// The classes of a colour and its dash.
std::string colour_class(int colour);

/// The text, cut to `most` bytes with an ellipsis.
std::string shortened(const std::string& text, std::size_t most);

}  // namespace braid
