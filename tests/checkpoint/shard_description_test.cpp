#include "checkpoint/shard_description.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

namespace braid {
namespace {

TEST(ShardDescription, ComesBackFromItsText) {
  const ShardDescription shard{
      {"shard-00001-of-00002.h5", 1234, "0123456789abcdef"},
      {{"model/embed.weight", at::zeros({2, 3}), {8, 3}, 4},
       {"model/layers.0.hc_attn_s_a", at::scalar_tensor(-0.1, at::kFloat), {}, 0},
       {"optimizer/head.weight/momentum", at::zeros({0, 5}, at::kBFloat16), {0, 5}, 0}}};
  const auto got = shard_description_of(to_text(shard));
  EXPECT_EQ(got.file.name, shard.file.name);
  EXPECT_EQ(got.file.size, shard.file.size);
  EXPECT_EQ(got.file.digest, shard.file.digest);
  ASSERT_EQ(got.pieces.size(), shard.pieces.size());
  for (std::size_t i = 0; i < shard.pieces.size(); ++i) {
    const auto &piece = got.pieces[i], &want = shard.pieces[i];
    EXPECT_EQ(piece.name, want.name);
    EXPECT_EQ(piece.shape, want.shape);
    EXPECT_EQ(piece.offset, want.offset);
    EXPECT_EQ(piece.value.sizes(), want.value.sizes()) << piece.name;
    EXPECT_EQ(piece.value.scalar_type(), want.value.scalar_type()) << piece.name;
  }
  EXPECT_EQ(got.pieces[1].value.item<float>(), -0.1F);
}

}  // namespace
}  // namespace braid
