#include "model/expert_places.h"

#include <numeric>

namespace braid {
namespace {

// `count` of `size` places, from the first to the last; one alone is the last.
std::vector<bool> spread_evenly(int64_t count, int64_t size) {
  std::vector<bool> chosen(static_cast<std::size_t>(size));
  for (int64_t i = 0; i < count; ++i) {
    const int64_t gaps = count - 1;
    const int64_t place = gaps == 0 ? size - 1 : (2 * i * (size - 1) + gaps) / (2 * gaps);
    chosen[static_cast<std::size_t>(place)] = true;
  }
  return chosen;
}

// As few as possible, so that the others have at most `room` bytes.
std::vector<bool> without_room(const std::vector<ExpertLayer>& layers, double room) {
  const auto size = static_cast<int64_t>(layers.size());
  for (int64_t count = 0; count < size; ++count) {
    auto chosen = spread_evenly(count, size);
    double kept = 0;
    for (std::size_t i = 0; i < layers.size(); ++i) {
      kept += chosen[i] ? 0 : layers[i].bytes;
    }
    if (kept <= room) {
      return chosen;
    }
  }
  return std::vector<bool>(layers.size(), true);
}

}  // namespace

std::string layer_of_experts(const std::string& name) {
  return name.substr(0, name.find(".experts."));
}

std::map<std::string, WeightPlace> places_of_experts(const std::vector<ExpertLayer>& layers,
                                                     const ExpertRoom& room) {
  std::map<std::string, WeightPlace> places;
  for (const auto& layer : layers) {
    places[layer.name] = WeightPlace::kDevice;
  }
  if (!room.resident) {
    return places;
  }
  std::vector<ExpertLayer> streamed;
  const auto is_streamed = without_room(layers, *room.resident);
  for (std::size_t i = 0; i < layers.size(); ++i) {
    if (is_streamed[i]) {
      streamed.push_back(layers[i]);
    }
  }
  const auto is_mapped =
      room.pinned ? without_room(streamed, *room.pinned) : std::vector<bool>(streamed.size());
  for (std::size_t i = 0; i < streamed.size(); ++i) {
    places[streamed[i].name] = is_mapped[i] ? WeightPlace::kMapped : WeightPlace::kPinned;
  }
  return places;
}

}  // namespace braid
