#pragma once
#include <cstdlib>
#include <filesystem>
#include <string>

namespace braid::testing {

/// A new folder of the system's place for temporary ones.
inline std::filesystem::path fresh_folder() {
  std::string name = (std::filesystem::temp_directory_path() / "braid-test-XXXXXX").string();
  return mkdtemp(name.data());
}

}  // namespace braid::testing
