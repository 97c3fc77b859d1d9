#include "core/version.h"

namespace braid {

std::string version() {
  return BRAID_VERSION;
}

}  // namespace braid
