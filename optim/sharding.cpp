#include "optim/sharding.h"

#include <bit>
#include <utility>

#include "core/error.h"

namespace braid {

Sharding sharding_of(const std::vector<GroupedParameter>& parameters,
                     const GridPlace& place,
                     int64_t zero_group,
                     bool fixed_order) {
  std::vector<Unit> dense, experts;
  for (const auto& unit : units_of(parameters)) {
    const bool is_expert = is_stack(parameters[unit.range.parameter].parameter.name);
    (is_expert ? experts : dense).push_back(unit);
  }
  if (zero_group > 0 && place.ranks % zero_group != 0) {
    throw ConfigError("optimizer.zero_group",
                      text("is ", zero_group, ", which does not divide ", place.ranks, " ranks"));
  }
  const auto is_ordered = [&](int64_t owners) {
    return !fixed_order || owners == place.ranks ||
           std::has_single_bit(static_cast<uint64_t>(owners));
  };
  if (zero_group > 0 && !is_ordered(zero_group)) {
    throw ConfigError("optimizer.zero_group",
                      text("is ",
                           zero_group,
                           "; with parallel.fixed_order it must be a power of two, or all ",
                           place.ranks,
                           " ranks"));
  }
  const int64_t owners =
      zero_group > 0 ? zero_group : largest_balanced_group(dense, place.ranks, is_ordered);
  return {balanced_ownership(std::move(dense), owners),
          contiguous_ownership(std::move(experts), place.ranks / place.expert_size)};
}

}  // namespace braid
