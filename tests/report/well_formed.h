#pragma once
#include <string>
#include <string_view>

namespace braid::testing {

/// What is wrong with a text as an XML document, with its place; "" if nothing is. It knows what
/// pages use: one root element after a DOCTYPE, attributes in double quotes, CDATA, and the four
/// entities of escaped().
std::string problem_of_xml(std::string_view xml);

}  // namespace braid::testing
