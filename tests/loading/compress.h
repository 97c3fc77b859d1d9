#pragma once
#include <string>
#include <string_view>

namespace braid::testing {

/// One gzip member / one Zstandard frame.
std::string gzipped(std::string_view bytes);
std::string zstandard(std::string_view bytes);

}  // namespace braid::testing
