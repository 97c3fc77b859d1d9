// GoogleTest's main under mpirun: a test fails if it fails on any rank.
#include <iostream>

#include <ATen/Parallel.h>
#include <gtest/gtest.h>

#include "parallel/cuda_plugin.h"
#include "parallel/mpi_world.h"
#include "parallel/nccl.h"
#include "tests/parallel/ranks.h"

namespace braid::testing {
namespace {

Communicator* the_ranks = nullptr;

/// Rank 0 tells how tests go; the others only what fails.
class FailuresAlone : public ::testing::EmptyTestEventListener {
  void OnTestPartResult(const ::testing::TestPartResult& result) override {
    if (result.failed()) {
      std::cerr << "rank " << ranks().rank() << ": "
                << (result.file_name() != nullptr ? result.file_name() : "") << ":"
                << result.line_number() << ": " << result.message() << std::endl;
    }
  }
};

int run() {
  if (ranks().rank() > 0) {
    auto& listeners = ::testing::UnitTest::GetInstance()->listeners();
    delete listeners.Release(listeners.default_result_printer());
    listeners.Append(new FailuresAlone);
  }
  const int failed = RUN_ALL_TESTS();
  return ranks().sum({failed != 0}, "results")[0] > 0 ? 1 : 0;
}

}  // namespace

Communicator& ranks() {
  return *the_ranks;
}

}  // namespace braid::testing

int main(int argc, char** argv) {
  ::testing::InitGoogleTest(&argc, argv);
  at::set_num_threads(1);
  try {
    braid::cuda_plugin();  // before a test asks LibTorch about GPUs
  } catch (const braid::Error&) {
    // Tests that need one say why there is none.
  }
  if (!braid::MpiWorld::was_launched()) {
    const auto self = braid::alone();
    braid::testing::the_ranks = self.get();
    return braid::testing::run();
  }
  const braid::MpiWorld world;
  braid::MpiWorld::set_timeout(30);
  const auto all = braid::with_nccl(world.communicator());
  braid::testing::the_ranks = all.get();
  return braid::testing::run();
}
