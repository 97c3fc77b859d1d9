#pragma once
#include <array>
#include <string_view>

namespace braid {

/// The parts of a model that norms and counts are reported by.
inline constexpr std::array<std::string_view, 11> kModelParts = {"embedding",
                                                                 "head",
                                                                 "attention",
                                                                 "compressor",
                                                                 "indexer",
                                                                 "router",
                                                                 "experts",
                                                                 "shared_experts",
                                                                 "residual",
                                                                 "norms",
                                                                 "mtp"};

/// The part that a parameter belongs to, by its release name. All of the MTP block is "mtp"; norms
/// and projections inside compressor and indexer are theirs.
std::string_view part_of(std::string_view parameter_name);

}  // namespace braid
