#include "data/background_loader.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "core/random.h"
#include "tests/loading/contexts.h"

namespace braid::testing {
namespace {

const StreamOptions kOptions{.seed = 9, .pack_window = 16};

class BackgroundLoaderTest : public LoaderTest {
 protected:
  BackgroundLoaderTest() : store_(store_of(documents())) {}
  Loader loader() const { return Loader({{*store_}}, kOptions); }

  std::unique_ptr<TokenStore> store_;
};

BatchShape shape_of_batch(uint64_t batch) {
  return batch < 20 ? BatchShape{4, 24}
                    : BatchShape{static_cast<int64_t>(1 + random_bits(1, batch) % 3),
                                 static_cast<int64_t>(8 + 8 * (random_bits(2, batch) % 2))};
}

TEST_F(BackgroundLoaderTest, GivesTheSameBatchesAndStatesAsTheLoaderAlone) {
  Loader plain = loader();
  BackgroundLoader background(loader());
  for (uint64_t i = 0; i < 100; ++i) {
    expect_equal(background.next(shape_of_batch(i)), plain.next(shape_of_batch(i)));
    EXPECT_EQ(background.state(), plain.state());
    EXPECT_EQ(background.progress().samples, plain.progress().samples);
    EXPECT_EQ(background.progress().bytes, plain.progress().bytes);
    EXPECT_EQ(background.progress().epochs, plain.progress().epochs);
  }
}

TEST_F(BackgroundLoaderTest, AStateContinuesAsIfNothingHadBeenPrepared) {
  BackgroundLoader first(loader()), second(loader());
  for (uint64_t i = 0; i < 60; ++i) {
    const LoaderState state = first.state();
    const Batch batch = first.next(shape_of_batch(i));
    EXPECT_TRUE(second.restore(state).empty());
    EXPECT_EQ(second.state(), state);
    expect_equal(second.next(shape_of_batch(i)), batch);
  }
}

TEST_F(BackgroundLoaderTest, ErrorsReachTheCallerAndLeaveThePosition) {
  Loader plain = loader();
  BackgroundLoader background(loader());
  for (int i = 0; i < 3; ++i) {
    expect_mentions(error_of([&] { background.next({4, 1}); }), {"seq_len", "got 1"});
    EXPECT_EQ(background.state(), plain.state());
    expect_equal(background.next({4, 24}), plain.next({4, 24}));
  }
}

}  // namespace
}  // namespace braid::testing
