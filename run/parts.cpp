#include "run/parts.h"

#include "core/error.h"
#include "optim/param_groups.h"

namespace braid {

std::string_view part_of(std::string_view parameter_name) {
  struct Rule {
    std::string_view match, part;
  };
  static constexpr Rule kRules[] = {
      // first match wins
      {"mtp.*", "mtp"},
      {"embed.*", "embedding"},
      {"head.*", "head"},
      {"*.indexer.*", "indexer"},
      {"*.compressor.*", "compressor"},
      {"*.gate.*", "router"},
      {"*.shared_experts.*", "shared_experts"},
      {"*.experts.*", "experts"},
      {"*hc_*", "residual"},
      {"*norm.weight", "norms"},
      {"*.attn.*", "attention"},
  };
  for (const auto& [match, part] : kRules) {
    if (matches_glob(match, parameter_name)) {
      return part;
    }
  }
  fail("parameter ", parameter_name, " belongs to no part of the model (run/parts.cpp)");
}

}  // namespace braid
