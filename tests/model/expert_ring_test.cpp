#include "model/expert_ring.h"

#include <string>

#include <gtest/gtest.h>

namespace braid {
namespace {

// What turns of these layers copy: "2!" before layer 2 computes, "3" while it does.
std::string copies_of(ExpertRing& ring, const std::vector<int64_t>& order) {
  std::string copies;
  const auto add = [&copies](const std::optional<ExpertRing::Copy>& copy, const char* mark) {
    copies += copy ? std::to_string(copy->layer) + mark : "";
  };
  for (const int64_t layer : order) {
    const auto turn = ring.turn(layer);
    add(turn.missing, "!");
    copies += "(" + std::to_string(layer);
    add(turn.ahead, "");
    copies += ")";
    copies += turn.ahead && turn.ahead->buffer == turn.buffer ? " overwritten while read " : "";
  }
  return copies;
}

TEST(ExpertRing, CopiesALayerAheadInBothDirectionsAndNothingTwiceAtATurn) {
  ExpertRing ring(4);
  ring.begin_pass(/*returns=*/true);
  EXPECT_EQ(copies_of(ring, {0, 1, 2, 3}), "0!(01)(12)(23)(3)");
  EXPECT_EQ(copies_of(ring, {3, 2, 1, 0}), "(3)(21)(10)(0)");
  ring.begin_pass(true);
  EXPECT_EQ(copies_of(ring, {0, 1, 2, 3, 3, 2, 1, 0}), "(0)(12)(23)(3)(3)(21)(10)(0)");
}

TEST(ExpertRing, BeginsAgainBehindPassesThatDoNotReturn) {
  ExpertRing ring(3);
  ring.begin_pass(/*returns=*/false);
  EXPECT_EQ(copies_of(ring, {0, 1, 2}), "0!(01)(12)(20)");
  ring.begin_pass(false);
  EXPECT_EQ(copies_of(ring, {0, 1, 2}), "(01)(12)(20)");
}

// Evaluations go without the MTP block.
TEST(ExpertRing, ExpectsTheLayersOfThePassBefore) {
  ExpertRing ring(4);
  ring.begin_pass(false);
  EXPECT_EQ(copies_of(ring, {0, 1, 2}), "0!(01)(12)(23)");
  ring.begin_pass(false);
  EXPECT_EQ(copies_of(ring, {0, 1, 2}), "0!(01)(12)(20)");
  ring.begin_pass(true);
  EXPECT_EQ(copies_of(ring, {0, 1, 2, 3, 3, 2, 1, 0}), "(01)(12)(2)3!(3)(3)(21)(10)(0)");
}

// A backward pass through layers that are computed again together.
TEST(ExpertRing, HasEveryLayerInAnyOrder) {
  ExpertRing ring(5);
  ring.begin_pass(true);
  std::vector<int64_t> in_buffers(2, -1);
  for (const int64_t layer : {0, 1, 2, 3, 4, 3, 4, 4, 3, 1, 2, 2, 1, 0, 0, 3, 1, 4}) {
    const auto turn = ring.turn(layer);
    if (turn.missing) {
      in_buffers.at(static_cast<std::size_t>(turn.missing->buffer)) = turn.missing->layer;
    }
    EXPECT_EQ(in_buffers.at(static_cast<std::size_t>(turn.buffer)), layer);
    if (turn.ahead) {
      EXPECT_NE(turn.ahead->buffer, turn.buffer);
      in_buffers.at(static_cast<std::size_t>(turn.ahead->buffer)) = turn.ahead->layer;
    }
  }
}

TEST(ExpertRing, CopiesNoMoreOnceAllLayersHaveABuffer) {
  for (const int64_t layers : {1, 2}) {
    ExpertRing ring(layers);
    ring.begin_pass(true);
    EXPECT_EQ(copies_of(ring, {0}), layers == 1 ? "0!(0)" : "0!(01)");
    EXPECT_EQ(copies_of(ring, {layers - 1, layers - 1, 0}),
              layers == 1 ? "(0)(0)(0)" : "(1)(1)(0)");
  }
}

TEST(ExpertRing, CopiesWhatWasLostAgain) {
  ExpertRing ring(3);
  ring.begin_pass(true);
  const auto turn = ring.turn(0);
  ring.forget(turn.ahead.value().buffer);
  EXPECT_EQ(copies_of(ring, {1}), "1!(12)");
}

}  // namespace
}  // namespace braid
