#include "model/mtp.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "core/ignored_target.h"

namespace braid {
namespace {

at::Tensor row(std::initializer_list<int64_t> values) {
  return at::tensor(values, at::kLong).unsqueeze(0);
}

TEST(MtpInputs, StayInsideTheirDocument) {
  const auto documents = row({0, 0, 0, 1, 2, 2, -1, -1}), ids = row({5, 6, 7, 8, 9, 4, 0, 0});
  EXPECT_TRUE(next_ids(ids, documents).equal(row({6, 7, 0, 0, 4, 0, 0, 0})));
}

// From next-token targets: the one at t + 2; a document's last two positions have none.
TEST(MtpTargets, StayInsideTheirDocument) {
  constexpr int64_t X = kIgnoredTarget;
  const auto documents = row({0, 0, 0, 0, 1, 2, 2, -1}), targets = row({6, 7, 8, X, X, 4, X, X});
  EXPECT_TRUE(mtp_targets(targets, documents).equal(row({7, 8, X, X, X, X, X, X})));
  EXPECT_TRUE(mtp_targets(row({X}), row({0})).equal(row({X})));
}

}  // namespace
}  // namespace braid
