#include "core/temporary_folder.h"

#include <cerrno>
#include <cstdlib>
#include <cstring>

#include "core/error.h"

namespace braid {

TemporaryFolder made_temporary_folder(const std::string& name) {
  std::error_code unusable;
  const auto place = std::filesystem::temp_directory_path(unusable);
  const char* variable = std::getenv("TMPDIR");
  const auto advice = "; set TMPDIR to a folder that can be written";
  require(!unusable,
          "TMPDIR is ",
          variable == nullptr ? "/tmp" : variable,
          ", which is no folder",
          advice);
  std::string path = (place / text("braid-", name, "-XXXXXX")).string();
  require(
      mkdtemp(path.data()) != nullptr, "cannot make ", path, ": ", std::strerror(errno), advice);
  return TemporaryFolder(path);
}

}  // namespace braid
