#pragma once
// Writes XML: HTML and SVG that are well-formed by construction.
#include <initializer_list>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace braid {

/// The text as it may stand in an element or in a quoted attribute: markup escaped, control
/// characters as their pictures (U+2400 and up), bytes that are no UTF-8 as U+FFFD. Line ends and
/// tabs stay.
std::string escaped(std::string_view text);

/// Elements one inside another. Text and values of attributes are escaped.
class Markup {
 public:
  using Attributes = std::vector<std::pair<std::string_view, std::string>>;

  /// Begins an element; it ends with the close() that belongs to it.
  Markup& open(std::string_view element, const Attributes& attributes = {});
  Markup& close();
  Markup& text(std::string_view text);
  /// An element that holds a text and nothing else.
  Markup& leaf(std::string_view element, const Attributes& attributes, std::string_view text = "");
  /// What is markup already, whole elements.
  Markup& raw(std::string_view markup);
  /// A line break between elements, for people who read the source.
  Markup& line();

  /// Everything so far. Throws Error while an element is open.
  std::string take();

 private:
  void begin(std::string_view element, const Attributes& attributes);

  std::string written_;
  std::vector<std::string> open_;
};

}  // namespace braid
