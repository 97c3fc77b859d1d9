#pragma once
// What trains when: parts of a model that have a loss of their own, and so steps of their own.
#include <array>
#include <cstdint>
#include <initializer_list>
#include <string_view>

namespace braid {

enum class TrainedPart {
  kTrunk,    ///< everything else
  kIndexer,  ///< CSA's lightning indexers
};
inline constexpr std::array kTrainedParts = {TrainedPart::kTrunk, TrainedPart::kIndexer};

/// As checkpoints name it: "trunk" (its steps are "trunk_steps").
constexpr std::string_view name_of(TrainedPart part) {
  return part == TrainedPart::kTrunk ? "trunk" : "indexer";
}

/// A set of parts: what a step trains, or a whole run.
class TrainedParts {
 public:
  constexpr TrainedParts(std::initializer_list<TrainedPart> parts) {
    for (const auto part : parts) {
      bits_ |= bit(part);
    }
  }
  static constexpr TrainedParts all() {
    TrainedParts parts{};
    for (const auto part : kTrainedParts) {
      parts.bits_ |= bit(part);
    }
    return parts;
  }
  constexpr bool contains(TrainedPart part) const { return (bits_ & bit(part)) != 0; }
  constexpr bool operator==(const TrainedParts&) const = default;

 private:
  static constexpr uint32_t bit(TrainedPart part) { return 1u << static_cast<uint32_t>(part); }

  uint32_t bits_ = 0;
};

}  // namespace braid
