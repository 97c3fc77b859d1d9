#include "parallel/communicator.h"

#include <csignal>

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "core/interruption.h"
#include "tests/parallel/ranks.h"
#include "tests/support/compare.h"
#include "tests/support/normal_tensor.h"

namespace braid {
namespace {

using testing::expect_bitwise_equal;
using testing::normal_tensor;
using testing::ranks;

std::vector<int64_t> counts_of_all(const std::function<int64_t(int64_t)>& count) {
  std::vector<int64_t> counts;
  for (int64_t r = 0; r < ranks().size(); ++r) {
    counts.push_back(count(r));
  }
  return counts;
}

TEST(Communicator, GathersNumbersAndTextsOfEveryRank) {
  const int64_t own = ranks().rank();
  const auto integers = ranks().all_gather(std::vector<int64_t>{own, -own}, "test");
  const auto reals =
      ranks().all_gather(std::vector<double>(static_cast<std::size_t>(own), 0.5), "test");
  const auto texts = ranks().all_gather(std::string(static_cast<std::size_t>(own), 'x'), "test");
  ASSERT_EQ(static_cast<int64_t>(integers.size()), ranks().size());
  for (int64_t r = 0; r < ranks().size(); ++r) {
    const auto i = static_cast<std::size_t>(r);
    EXPECT_EQ(integers[i], (std::vector<int64_t>{r, -r}));
    EXPECT_EQ(reals[i], std::vector<double>(i, 0.5));
    EXPECT_EQ(texts[i], std::string(i, 'x'));
  }
  EXPECT_EQ(ranks().from_first(own == 0 ? "first" : "other", "test"), "first");
  EXPECT_EQ(ranks().sum({1, own}, "test"),
            (std::vector<int64_t>{ranks().size(), ranks().size() * (ranks().size() - 1) / 2}));
}

// Rank r sends 2 + (r + s) % 3 rows to rank s, and to itself none.
TEST(Communicator, ExchangesAnyNumberOfRows) {
  const auto rows = [](int64_t from, int64_t to) { return from == to ? 0 : 2 + (from + to) % 3; };
  const auto sent_by = [&](int64_t from, int64_t to) {
    return normal_tensor(text("rows ", from, " ", to), {rows(from, to), 3}, at::kFloat);
  };
  const int64_t own = ranks().rank();
  std::vector<at::Tensor> out, in;
  for (int64_t r = 0; r < ranks().size(); ++r) {
    out.push_back(sent_by(own, r));
    in.push_back(sent_by(r, own));
  }
  const auto send = at::cat(out), want = at::cat(in);
  const auto received = at::empty_like(want);
  const int64_t before = ranks().bytes_sent();
  ranks()
      .start_all_to_all(send,
                        counts_of_all([&](int64_t r) { return rows(own, r); }),
                        received,
                        counts_of_all([&](int64_t r) { return rows(r, own); }),
                        "test")
      ->wait();
  expect_bitwise_equal("received", received, want);
  EXPECT_EQ(ranks().bytes_sent() - before, static_cast<int64_t>(send.nbytes()));
}

TEST(Communicator, SeveralOperationsMayBeUnderWayAtOnce) {
  std::vector<at::Tensor> sent, received;
  std::vector<std::unique_ptr<Pending>> pending;
  const auto ones = counts_of_all([](int64_t) { return 1; });
  for (int64_t i = 0; i < 5; ++i) {
    sent.push_back(at::full({1, 100}, ranks().rank() * 10 + i, at::kDouble));
    received.push_back(at::empty({ranks().size(), 100}, at::kDouble));
    pending.push_back(ranks().start_all_gather(sent.back(), received.back(), ones, "test"));
  }
  for (std::size_t i = 5; i-- > 0;) {
    pending[i]->wait();
    for (int64_t r = 0; r < ranks().size(); ++r) {
      EXPECT_EQ(received[i][r][99].item<double>(), static_cast<double>(r * 10) + i);
    }
  }
}

TEST(Communicator, SplitsIntoGroupsInTheSameOrder) {
  const auto half = ranks().split(ranks().rank() % 2);
  const auto members = half->all_gather(std::vector<int64_t>{ranks().rank()}, "test");
  for (std::size_t i = 0; i < members.size(); ++i) {
    EXPECT_EQ(members[i][0], ranks().rank() % 2 + 2 * static_cast<int64_t>(i));
  }
  EXPECT_EQ(half->rank(), ranks().rank() / 2);
}

TEST(Communicator, AnErrorOnOneRankIsAnErrorOnAll) {
  const int64_t last = ranks().size() - 1;
  try {
    ranks().all_or_none([&] { require(ranks().rank() != last, "no disk"); }, "test");
    ADD_FAILURE() << "nothing was thrown";
  } catch (const ErrorOfAnotherRank& error) {
    EXPECT_NE(ranks().rank(), last);
    EXPECT_STREQ(error.what(), "no disk");
  } catch (const Error& error) {
    EXPECT_EQ(ranks().rank(), last);
    EXPECT_STREQ(error.what(), "no disk");
  }
  int64_t runs = 0;
  ranks().first_alone([&] { ++runs; }, "test");
  EXPECT_EQ(runs, ranks().rank() == 0 ? 1 : 0);
}

TEST(Communicator, ASignalToOneRankStopsAll) {
  forget_interruption();
  EXPECT_FALSE(ranks().agree_on_interruption("test"));
  const int64_t last = ranks().size() - 1;
  try {
    ranks().all_or_none(
        [&] {
          if (ranks().rank() == last) {
            request_interruption(SIGTERM);
            stop_if_interrupted();
          }
        },
        "test");
    ADD_FAILURE() << "nothing was thrown";
  } catch (const Interrupted& stopped) {
    EXPECT_EQ(stopped.signal(), SIGTERM);
  }
  EXPECT_EQ(interruption(), SIGTERM);
  EXPECT_TRUE(ranks().agree_on_interruption("test"));
  forget_interruption();
}

TEST(Communicator, RefusesRowsThatAreNotThere) {
  const auto rows = at::zeros({3, 2});
  if (ranks().size() > 1) {
    EXPECT_THROW(ranks().start_all_to_all(rows,
                                          counts_of_all([](int64_t) { return 3; }),
                                          rows,
                                          counts_of_all([](int64_t) { return 3; }),
                                          "test"),
                 Error);
    EXPECT_THROW(
        ranks().start_all_gather(rows.t(), rows, counts_of_all([](int64_t) { return 1; }), "test"),
        Error);
  }
}

TEST(TreeSum, SumsOfPowersOfTwoPartsAddUpToTheWhole) {
  for (const int64_t groups : {1, 2, 3, 5}) {
    for (const int64_t each : {1, 2, 4}) {
      std::vector<at::Tensor> all, sums;
      for (int64_t g = 0; g < groups; ++g) {
        std::vector<at::Tensor> own;
        for (int64_t i = 0; i < each; ++i) {
          const auto part = normal_tensor(text("part ", g, " ", i), {50}, at::kFloat);
          all.push_back(part.clone());
          own.push_back(part.clone());
        }
        sums.push_back(tree_sum(own));
      }
      const auto exact = at::stack(all).to(at::kDouble).sum(0);
      const auto whole_sum = tree_sum(all);
      expect_bitwise_equal(text(groups, " x ", each), tree_sum(sums), whole_sum);
      testing::expect_close("sum", whole_sum.to(at::kDouble), exact, {.absolute = 1e-5});
    }
  }
}

}  // namespace
}  // namespace braid
