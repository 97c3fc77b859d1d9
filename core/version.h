#pragma once
#include <string>

namespace braid {

/// "0.1.0", as CMakeLists.txt says.
std::string version();

}  // namespace braid
