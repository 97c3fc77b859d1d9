// Experts on the host, brought to a device whose memory the CPU cannot touch.
#include "model/expert_stream.h"

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include <ATen/ATen.h>
#include <c10/core/impl/VirtualGuardImpl.h>
#include <gtest/gtest.h>

#include "core/error.h"
#include "kernels/codec.h"
#include "model/parameters.h"
#include "tests/support/mapped_values.h"
#include "tests/support/strict_device.h"

namespace braid {
namespace {

using testing::MappedValues;
using testing::strict_device;

constexpr int64_t kExperts = 3;

/// FP4 or FP8 experts of one kind in one layer, whose codes are in files.
struct FiledExperts {
  std::vector<Codes> codes;
  std::vector<std::unique_ptr<MappedValues>> files;
  std::vector<Weight> each;

  FiledExperts(bool fp4, std::vector<int64_t> shape) {
    for (int64_t e = 0; e < kExperts; ++e) {
      codes.push_back(fp4 ? encode_fp4(at::randn(shape))
                          : encode_fp8(at::randn(shape), at::kFloat));
      files.push_back(std::make_unique<MappedValues>(codes.back().values));
      each.emplace_back(files.back()->tensor, codes.back().scales, WeightPlace::kMapped);
    }
  }

  void expect_equal(const std::vector<Weight>& on_device) const {
    ASSERT_EQ(on_device.size(), codes.size());
    for (std::size_t e = 0; e < codes.size(); ++e) {
      for (const auto& [got, want] : {std::pair{on_device[e].values, codes[e].values},
                                      {on_device[e].scales, codes[e].scales}}) {
        EXPECT_EQ(got.device(), strict_device());
        EXPECT_TRUE(got.cpu().view(at::kByte).equal(want.view(at::kByte))) << e;
      }
    }
  }
};

TEST(ExpertStream, BringsTheCodesOfEveryLayerWhereverTheyAreAndInAnyOrder) {
  const auto stream = std::make_shared<ExpertStream>(strict_device());
  // Layers of one model may be of several formats and sizes.
  const std::vector<std::pair<bool, std::vector<int64_t>>> kinds = {
      {true, {4, 64}}, {false, {5, 96}}, {true, {40, 64}}, {false, {130, 32}}, {true, {4, 64}}};
  std::vector<std::unique_ptr<FiledExperts>> experts;
  std::vector<ExpertWeights> weights;
  for (std::size_t i = 0; i < kinds.size(); ++i) {
    for (int matrix = 0; matrix < 2; ++matrix) {
      const auto& [fp4, shape] = kinds[i];
      experts.push_back(std::make_unique<FiledExperts>(fp4, shape));
      weights.push_back(stream->add(text("layers.", i, ".ffn"),
                                    experts.back()->each,
                                    i % 2 == 0 ? WeightPlace::kPinned : WeightPlace::kMapped));
    }
  }
  stream->make_buffers();
  EXPECT_EQ(stream->layers(), 5);
  for (const std::vector<int>& order :
       {std::vector{0, 1, 2, 3, 4, 4, 3, 2, 1, 0}, {0, 1, 2, 3, 4}, {3, 1, 4, 0, 2, 2, 0}}) {
    stream->begin_pass(/*returns=*/order.size() == 10);
    for (const int layer : order) {
      for (const int i : {2 * layer + 1, 2 * layer}) {
        const auto at = static_cast<std::size_t>(i);
        experts[at]->expect_equal(weights[at].present().each());
      }
    }
  }
}

TEST(ExpertStream, BringsTheExpertsOfAWave) {
  const auto stream = std::make_shared<ExpertStream>(strict_device());
  const FiledExperts experts(true, {4, 64});
  const auto weights = stream->add("layers.0.ffn", experts.each, WeightPlace::kPinned);
  stream->make_buffers();
  const auto part = weights.part(1, 3).part(1, 2);
  EXPECT_EQ(part.sizes(), (std::vector<int64_t>{1, 4, 64}));
  const auto present = part.present().each();
  ASSERT_EQ(present.size(), 1u);
  EXPECT_TRUE(present[0].values.cpu().equal(experts.codes[2].values));
}

TEST(ExpertStream, RefusesLayersOfSeveralFormats) {
  const auto stream = std::make_shared<ExpertStream>(strict_device());
  auto each = FiledExperts(true, {4, 64}).each;
  const FiledExperts others(false, {4, 64});
  each[1] = others.each[1];
  std::string message;
  try {
    stream->add("layers.7.ffn", each, WeightPlace::kPinned);
  } catch (const Error& error) {
    message = error.what();
  }
  for (const auto* part : {"layers.7.ffn", "expert 1", "train.resident_gb", "one format"}) {
    EXPECT_NE(message.find(part), std::string::npos) << message;
  }
}

// Pieces end within matrices, and one is not filled again before it was copied.
TEST(MappedCopies, GoThroughPiecesOfAnySize) {
  const FiledExperts experts(true, {33, 64});
  const auto bytes_of = [&](at::Tensor Weight::*part) {
    return kExperts * static_cast<int64_t>((experts.each[0].*part).nbytes());
  };
  const int64_t gap = 100, scales_at = bytes_of(&Weight::values) + gap;
  for (const int64_t piece : {64, 1000, 1 << 20}) {
    SCOPED_TRACE(piece);
    const c10::impl::VirtualGuardImpl streams(strict_device().type());
    const auto stream = streams.getNewStream(strict_device());
    const auto bytes = at::empty({scales_at + bytes_of(&Weight::scales)},
                                 at::device(strict_device()).dtype(at::kByte));
    c10::Event copied(strict_device().type());
    MappedCopies copies(stream, piece);
    copies.start({bytes, {{experts.each, 0, scales_at}}}, copied).get();
    copied.block(streams.getStream(strict_device()));
    const auto there = bytes.cpu();
    int64_t values = 0, scales = scales_at;
    for (const auto& [codes, its_scales] : experts.codes) {
      const auto next = [&](int64_t& at, const at::Tensor& want) {
        const auto size = static_cast<int64_t>(want.nbytes());
        EXPECT_TRUE(there.narrow(0, at, size).equal(want.view(at::kByte).flatten()));
        at += size;
      };
      next(values, codes);
      next(scales, its_scales);
    }
  }
}

// No second copy on the host, but what is pinned there.
TEST(Parameters, LeaveNoPagesOfExpertsThatGoElsewhere) {
  const std::string name = "layers.0.ffn.experts.*.w1.weight";
  for (const auto place : {WeightPlace::kDevice, WeightPlace::kPinned, WeightPlace::kMapped}) {
    FiledExperts experts(true, {256, 512});
    if (experts.files[0]->pages() < 0) {
      GTEST_SKIP() << "this system does not tell a process which pages it has";
    }
    const WeightSource source{
        .read =
            [&](const std::string& read) {
              return experts.each.at(static_cast<std::size_t>(read.at(21) - '0'));
            },
        .is_frozen = [](const std::string&) { return true; },
        .place = [&](const std::string&) { return place; }};
    Parameters parameters(at::kFloat, 0, 1, &source, strict_device());
    const auto weights = parameters.experts(name, {kExperts, 256, 512});
    EXPECT_EQ(parameters.expert_stream() == nullptr, place == WeightPlace::kDevice);
    if (const auto& stream = parameters.expert_stream()) {
      EXPECT_EQ(stream->kept_bytes(place), kExperts * (256 * 256 + 256 * 16));
      stream->make_buffers();
    }
    experts.expect_equal(weights.present().each());
    for (const auto& file : experts.files) {
      EXPECT_EQ(file->pages(), 0) << static_cast<int>(place);
    }
  }
}

}  // namespace
}  // namespace braid
