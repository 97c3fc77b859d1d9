#include "core/profile.h"

#include <algorithm>
#include <thread>

#include <ATen/ATen.h>
#include <gtest/gtest.h>
#include <torch/csrc/autograd/custom_function.h>

#include "core/error.h"

namespace braid {
namespace {

void pause(int milliseconds) {
  std::this_thread::sleep_for(std::chrono::milliseconds(milliseconds));
}

// An operation that knows nothing of profiles and takes its time backwards.
class SlowBackward : public torch::autograd::Function<SlowBackward> {
 public:
  static at::Tensor forward(torch::autograd::AutogradContext*, const at::Tensor& x) {
    return x.clone();
  }
  static torch::autograd::variable_list backward(torch::autograd::AutogradContext*,
                                                 torch::autograd::variable_list gradients) {
    pause(20);
    count_flops(1000);
    return gradients;
  }
};

const Profile::Part& part_of(const Profile& profile, const std::string& name) {
  const auto& parts = profile.parts();
  const auto found = std::ranges::find(parts, name, &Profile::Part::name);
  require(found != parts.end(), "no part ", name);
  return *found;
}

double seconds(const Profile& profile, const std::string& name, ProfilePhase phase) {
  return part_of(profile, name).phases[static_cast<std::size_t>(phase)].seconds;
}

TEST(Profile, InnerScopesAreNotTheOuterOnesTime) {
  Profile profile;
  profile.begin_step();
  {
    const ProfileScope outer("outer");
    pause(5);
    profiled("inner", [] { pause(30); });
  }
  const double whole = profile.end_step();
  const double inner = seconds(profile, "inner", ProfilePhase::kForward),
               outer = seconds(profile, "outer", ProfilePhase::kForward),
               other = seconds(profile, "other", ProfilePhase::kStep);
  EXPECT_GE(inner, 0.030);
  EXPECT_GE(outer, 0.005);
  EXPECT_NEAR(inner + outer + other, whole, 1e-6);
}

TEST(Profile, BackwardTimeBelongsToThePartWhoseForwardMadeTheNode) {
  Profile profile;
  profile.begin_step();
  const auto x = at::ones({4}).requires_grad_(true);
  const auto first = profiled("first", [&] { return SlowBackward::apply(x); });
  const auto second = profiled("second", [&] { return SlowBackward::apply(first * 2); });
  const auto whole = [&] {
    const ProfileScope scope("whole", ProfileKind::kWhole);
    return profiled("unseen", [&] { return SlowBackward::apply(second).sum(); });
  }();
  whole.backward();
  profile.end_step();
  for (const char* part : {"first", "second", "whole"}) {
    EXPECT_GE(seconds(profile, part, ProfilePhase::kBackward), 0.020) << part;
    const auto backward = static_cast<std::size_t>(ProfilePhase::kBackward);
    EXPECT_EQ(part_of(profile, part).phases[backward].flops, 1000) << part;
  }
  EXPECT_THROW(part_of(profile, "unseen"), Error);
}

TEST(Profile, NothingIsMeasuredWithoutOne) {
  profiled("before", [] { count_flops(5); });
  Profile profile;
  std::thread([] { profiled("other thread", [] { pause(1); }); }).join();
  EXPECT_EQ(profile.parts().size(), 1u);  // "other"
  EXPECT_THROW(Profile(), Error);
}

}  // namespace
}  // namespace braid
