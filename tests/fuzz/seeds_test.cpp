// The fuzzers' seeds, and what they found: every reader accepts or refuses each, and no more.
#include <filesystem>
#include <string>

#include <gtest/gtest.h>

#include "core/file.h"
#include "tests/fuzz/targets.h"

namespace braid::testing {
namespace {

struct Target {
  const char* name;
  bool (*read)(std::string_view);
};

class FuzzSeeds : public ::testing::TestWithParam<Target> {};

TEST_P(FuzzSeeds, AreAcceptedOrRefused) {
  const auto folder = std::filesystem::path(BRAID_TEST_DATA) / "../fuzz/corpus" / GetParam().name;
  int accepted = 0, refused = 0;
  for (const auto& entry : std::filesystem::directory_iterator(folder)) {
    SCOPED_TRACE(entry.path());
    EXPECT_NO_THROW((GetParam().read(read_file(entry.path())) ? accepted : refused)++);
  }
  EXPECT_GE(accepted, 3);
  EXPECT_GE(refused, 2);
}

INSTANTIATE_TEST_SUITE_P(Readers,
                         FuzzSeeds,
                         ::testing::Values(Target{"adapter", read_adapter},
                                           Target{"jsonl", read_jsonl},
                                           Target{"samples", read_samples},
                                           Target{"yaml", read_yaml},
                                           Target{"token_store", read_token_store},
                                           Target{"safetensors", read_safetensors},
                                           Target{"tokenizer", read_tokenizer}),
                         [](const auto& target) { return target.param.name; });

}  // namespace
}  // namespace braid::testing
