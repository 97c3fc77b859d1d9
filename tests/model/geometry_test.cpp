#include "model/geometry.h"

#include <cmath>

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "core/error.h"
#include "model/transformer.h"
#include "tests/support/compare.h"

namespace braid {
namespace {

ModelConfig released_attention() {
  ModelConfig config;
  config.num_hidden_layers = 3;
  config.compress_ratios = {0, 4, 128};
  config.sliding_window = 128;
  config.head_dim = 512;
  config.qk_rope_head_dim = 64;
  config.rope_scaling.factor = 16;
  return config;
}

Geometry geometry_of(const ModelConfig& config, int64_t S) {
  const auto tokens = whole_documents(at::zeros({1, S}, at::kLong));
  return packed_geometry(config, tokens.documents_BS, tokens.positions_BS, at::kDouble);
}

int64_t count(const at::Tensor& mask) {
  return mask.sum().item<int64_t>();
}

// docs/equations.md (71).
TEST(Geometry, EntriesAreVisibleFromTheirLastTokenOn) {
  const auto geometry = geometry_of(released_attention(), 300);
  const auto csa = mask_of(geometry.compression.at(4).visible, 75)[0],
             hca = mask_of(geometry.compression.at(128).visible, 2)[0];
  EXPECT_EQ(geometry.compression.at(4).entries, 75);
  EXPECT_EQ(geometry.compression.at(128).entries, 2);
  EXPECT_EQ(count(csa[2]), 0);
  EXPECT_EQ(count(csa[3]), 1);
  EXPECT_EQ(count(csa[7]), 2);
  EXPECT_EQ(count(hca[126]), 0);
  EXPECT_EQ(count(hca[127]), 1);
  EXPECT_EQ(count(hca[255]), 2);
  for (const int64_t t : {3, 50, 299}) {  // the first ones, without gaps
    EXPECT_TRUE(csa[t].narrow(0, 0, (t + 1) / 4).all().item<bool>());
    EXPECT_EQ(count(csa[t]), (t + 1) / 4);
  }
}

TEST(Geometry, AWindowHas128TokensWithTheQueryItself) {
  const auto window = mask_of(geometry_of(released_attention(), 300).raw.at(128).visible, 300)[0];
  const auto sees = [&](int64_t t) { return window[t].nonzero().flatten(); };
  EXPECT_TRUE(sees(0).equal(at::arange(0, 1, at::kLong)));
  EXPECT_TRUE(sees(127).equal(at::arange(0, 128, at::kLong)));
  EXPECT_TRUE(sees(128).equal(at::arange(1, 129, at::kLong)));
  EXPECT_TRUE(sees(299).equal(at::arange(172, 300, at::kLong)));
}

TEST(Geometry, DocumentsOfARowNeverMeet) {
  auto config = released_attention();
  config.compress_ratios = {0, 4, 3};
  config.layer_types = {AttentionKind::kFull, AttentionKind::kCsa, AttentionKind::kHca};
  // Lengths 5, 2, 6 and three of padding.
  const auto documents =
      at::tensor({0, 0, 0, 0, 0, 1, 1, 2, 2, 2, 2, 2, 2, -1, -1, -1}, at::kLong).unsqueeze(0);
  const auto positions =
      at::tensor({0, 1, 2, 3, 4, 0, 1, 0, 1, 2, 3, 4, 5, 0, 0, 0}, at::kLong).unsqueeze(0);
  const auto geometry = packed_geometry(config, documents, positions, at::kDouble);
  const auto across = documents.unsqueeze(2) != documents.unsqueeze(1);
  const auto window = mask_of(geometry.raw.at(128).visible, 16),
             full = mask_of(geometry.raw.at(std::nullopt).visible, 16);
  EXPECT_EQ(count(window.logical_and(across)), 0);
  EXPECT_EQ(count(full.logical_and(across)), 0);
  EXPECT_EQ(count(full[0][12]), 6);
  EXPECT_EQ(count(full[0][15]), 3);  // padding sees padding

  const auto& csa = geometry.compression.at(4);
  EXPECT_TRUE(csa.rows_BCR[0].equal(at::tensor({0, 1, 2, 3, 7, 8, 9, 10}, at::kLong).view({2, 4})));
  EXPECT_EQ(count(csa.has_previous_BC), 0);  // both are the first of their document
  const auto visible = mask_of(csa.visible, csa.entries)[0];
  EXPECT_TRUE(visible.sum(-1).equal(
      at::tensor({0, 0, 0, 1, 1, 0, 0, 0, 0, 0, 1, 1, 1, 0, 0, 0}, at::kLong)));
  EXPECT_FALSE(visible[10][0].item<bool>());
  const auto& hca = geometry.compression.at(3);
  EXPECT_EQ(hca.rows_BCR.size(1), 3);
  EXPECT_TRUE(hca.has_previous_BC[0].equal(at::tensor({0, 0, 1}, at::kLong).to(at::kBool)));
}

TEST(Geometry, OfAPassWithAStateIsTheLastPartOfTheWhole) {
  const auto config = released_attention();
  const auto whole = geometry_of(config, 300);
  for (const int64_t past : {0, 1, 126, 127, 128, 200, 256}) {
    for (const int64_t size : {1, 5, 44}) {
      const auto part = incremental_geometry(config, 1, past, size, at::kDouble);
      const int64_t kept = kept_raw_keys(128, past);
      const auto place = text("past ", past, " size ", size);
      const auto own = mask_of(part.raw.at(128).visible, kept + size),
                 all = mask_of(whole.raw.at(128).visible, 300);
      EXPECT_TRUE(own.equal(all.narrow(1, past, size).narrow(2, past - kept, kept + size)))
          << place;
      EXPECT_EQ(count(own), count(all.narrow(1, past, size))) << place;
      for (const int64_t ratio : {4, 128}) {
        const int64_t entries = (past + size) / ratio;
        EXPECT_EQ(part.compression.at(ratio).entries, entries);
        EXPECT_TRUE(mask_of(part.compression.at(ratio).visible, entries)
                        .equal(mask_of(whole.compression.at(ratio).visible, 300 / ratio)
                                   .narrow(1, past, size)
                                   .narrow(2, 0, entries)))
            << place;
      }
      testing::expect_bitwise_equal(
          place, part.window_rotation.cos, whole.window_rotation.cos.narrow(1, past, size));
    }
  }
}

// docs/equations.md (68): theta 160000, 64 rotary channels, low 15, high 25.
TEST(RopeFrequencies, OfCompressingLayersAreTheYarnGoldens) {
  const auto scaled = rope_frequencies(released_attention(), true);
  ASSERT_EQ(scaled.size(), 32u);
  const std::vector<std::pair<int, double>> want = {{0, 1},
                                                    {1, 6.876560219e-1},
                                                    {15, 3.635538584e-3},
                                                    {16, 2.265625e-3},
                                                    {20, 2.969777783e-4},
                                                    {25, 5.372312671e-6},
                                                    {31, 5.680529037e-7}};
  for (const auto& [i, frequency] : want) {
    EXPECT_NEAR(scaled[i], frequency, 1e-9 * frequency) << i;
  }
}

TEST(RopeFrequencies, OfOtherLayersAndWithoutYarnAreThePlainPowers) {
  auto config = released_attention();
  const auto window = rope_frequencies(config, false);
  config.rope_scaling.factor = 1;
  const auto compressing = rope_frequencies(config, true);
  for (int i = 0; i < 32; ++i) {
    EXPECT_NEAR(window[i], std::pow(10000.0, -i / 32.0), 1e-14) << i;
    EXPECT_NEAR(compressing[i], std::pow(160000.0, -i / 32.0), 1e-14) << i;
  }
}

// In float32 the product position * w would be off by 0.03 radians at a million tokens.
TEST(Rotation, KeepsItsPrecisionAtLongPositions) {
  const auto positions = at::tensor({0, 1, 1048575}, at::kLong);
  const auto exact = rotation({1.0, 0.7}, positions, at::kDouble),
             narrow = rotation({1.0, 0.7}, positions, at::kFloat);
  EXPECT_NEAR(exact.cos[2][1].item<double>(), std::cos(0.7 * 1048575), 1e-9);
  EXPECT_EQ(narrow.cos.scalar_type(), at::kFloat);
  testing::expect_close("cos", narrow.cos, exact.cos, {.absolute = 1e-7});
  testing::expect_close("sin", narrow.sin, exact.sin, {.absolute = 1e-7});
}

}  // namespace
}  // namespace braid
