#include "model/expert_places.h"

#include <gtest/gtest.h>

#include "core/error.h"

namespace braid {
namespace {

std::vector<ExpertLayer> layers_of(const std::vector<double>& bytes) {
  std::vector<ExpertLayer> layers;
  for (const double each : bytes) {
    layers.push_back({text("layers.", layers.size(), ".ffn"), each});
  }
  return layers;
}

// D on the device, P pinned, M mapped.
std::string places_of(const std::vector<double>& bytes, const ExpertRoom& room) {
  const auto layers = layers_of(bytes);
  const auto places = places_of_experts(layers, room);
  std::string letters;
  for (const auto& layer : layers) {
    letters += "DPM"[static_cast<int>(places.at(layer.name))];
  }
  return letters;
}

TEST(ExpertPlaces, AreOnTheDeviceWhereNothingIsSaidOrAllFit) {
  EXPECT_EQ(places_of({3, 3, 3}, {}), "DDD");
  EXPECT_EQ(places_of({3, 3, 3}, {.resident = 9}), "DDD");
  EXPECT_EQ(places_of({3, 3, 3}, {.resident = {}, .pinned = 0}), "DDD");
  EXPECT_TRUE(places_of_experts({}, {.resident = 0}).empty());
}

TEST(ExpertPlaces, LeaveAsManyLayersAsFitAndSpreadTheOthersEvenly) {
  const std::vector<double> seven(7, 1);
  EXPECT_EQ(places_of(seven, {.resident = 6.5}), "DDDDDDP");
  EXPECT_EQ(places_of(seven, {.resident = 5}), "PDDDDDP");
  EXPECT_EQ(places_of(seven, {.resident = 4}), "PDDPDDP");
  EXPECT_EQ(places_of(seven, {.resident = 3}), "PDPDPDP");
  EXPECT_EQ(places_of(seven, {.resident = 0.5}), "PPPPPPP");
  EXPECT_EQ(places_of(seven, {.resident = 0}), "PPPPPPP");
}

TEST(ExpertPlaces, GoByBytes) {
  EXPECT_EQ(places_of({1, 8, 1, 1, 1}, {.resident = 10}), "PDDDP");
  EXPECT_EQ(places_of({1, 1, 8, 1, 1}, {.resident = 5}), "PDPDP");
}

TEST(ExpertPlaces, ReadFromFilesWhatPinnedMemoryHasNoRoomFor) {
  const std::vector<double> seven(7, 1);
  EXPECT_EQ(places_of(seven, {.resident = 0, .pinned = 0}), "MMMMMMM");
  EXPECT_EQ(places_of(seven, {.resident = 3, .pinned = 4}), "PDPDPDP");
  EXPECT_EQ(places_of(seven, {.resident = 3, .pinned = 2}), "MDPDPDM");
}

TEST(ExpertPlaces, OfFlashAreThirtyOfFortyThreeLayersIn103Gigabytes) {
  const double layer = 256 * 3.0 * 2048 * 4096 * (0.5 + 1.0 / 32);
  EXPECT_NEAR(layer, 3.42e9, 0.005e9);
  const auto places = places_of(std::vector(43, layer), {.resident = 103e9});
  EXPECT_EQ(places, "PDDDPDDPDDDPDDPDDDPDDPDDDPDDPDDDPDDPDDDPDDP");
}

TEST(ExpertPlaces, NameTheLayerOfAStack) {
  EXPECT_EQ(layer_of_experts("layers.3.ffn.experts.*.w1.weight"), "layers.3.ffn");
  EXPECT_EQ(layer_of_experts("mtp.0.ffn.experts.8+*.w2.weight"), "mtp.0.ffn");
}

}  // namespace
}  // namespace braid
