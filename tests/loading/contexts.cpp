#include "tests/loading/contexts.h"

#include <algorithm>

#include <ATen/ATen.h>

#include "core/random.h"
#include "tests/support/compare.h"

namespace braid::testing {

std::vector<int64_t> values(const at::Tensor& tensor) {
  const at::Tensor flat = tensor.contiguous();
  return {flat.const_data_ptr<int64_t>(), flat.const_data_ptr<int64_t>() + flat.numel()};
}

std::vector<Context> contexts_of(const Batch& batch, int64_t pad_id) {
  std::vector<Context> contexts;
  int64_t num_targets = 0;
  for (int64_t b = 0; b < batch.ids_BS.size(0); ++b) {
    const auto ids = values(batch.ids_BS[b]), targets = values(batch.targets_BS[b]);
    const auto documents = values(batch.documents_BS[b]), positions = values(batch.positions_BS[b]);
    int64_t current = -1;
    bool padding = false;
    for (std::size_t s = 0; s < ids.size(); ++s) {
      num_targets += targets[s] != kIgnoredTarget;
      if (documents[s] == -1) {
        padding = true;
        EXPECT_EQ(ids[s], pad_id);
        EXPECT_EQ(targets[s], kIgnoredTarget);
        EXPECT_EQ(positions[s], 0);
        continue;
      }
      EXPECT_FALSE(padding) << "padding comes last";
      if (documents[s] != current) {
        EXPECT_EQ(documents[s], current + 1) << "contexts are contiguous and numbered in order";
        current = documents[s];
        contexts.emplace_back();
      }
      EXPECT_EQ(positions[s], static_cast<int64_t>(contexts.back().ids.size()));
      contexts.back().ids.push_back(ids[s]);
      contexts.back().targets.push_back(targets[s]);
    }
  }
  EXPECT_EQ(num_targets, batch.num_targets);
  return contexts;
}

std::vector<Context> sorted_contexts(const std::vector<Batch>& batches, int64_t pad_id) {
  std::vector<Context> contexts;
  for (const Batch& batch : batches) {
    const auto more = contexts_of(batch, pad_id);
    contexts.insert(contexts.end(), more.begin(), more.end());
  }
  std::sort(contexts.begin(), contexts.end());
  return contexts;
}

std::vector<Context> expected_contexts(const std::vector<std::string>& documents,
                                       int64_t seq_len,
                                       bool count_end) {
  const ByteTokenizer tokenizer;
  std::vector<Context> contexts;
  for (const std::string& document : documents) {
    std::vector<int64_t> sequence = tokenizer.encode(document);
    sequence.insert(sequence.begin(), tokenizer.begin_id());
    sequence.push_back(tokenizer.end_id());
    for (std::size_t i = 0; i + 1 < sequence.size(); ++i) {
      if (i % static_cast<std::size_t>(seq_len) == 0) {
        contexts.emplace_back();
      }
      const bool counted = count_end || sequence[i + 1] != tokenizer.end_id();
      contexts.back().ids.push_back(sequence[i]);
      contexts.back().targets.push_back(counted ? sequence[i + 1] : kIgnoredTarget);
    }
  }
  std::sort(contexts.begin(), contexts.end());
  return contexts;
}

void expect_equal(const Batch& got, const Batch& want) {
  expect_bitwise_equal("ids", got.ids_BS, want.ids_BS);
  expect_bitwise_equal("targets", got.targets_BS, want.targets_BS);
  expect_bitwise_equal("documents", got.documents_BS, want.documents_BS);
  expect_bitwise_equal("positions", got.positions_BS, want.positions_BS);
  EXPECT_EQ(got.num_targets, want.num_targets);
}

std::vector<std::string> LoaderTest::documents() {
  std::vector<std::string> result;
  for (uint64_t i = 0; i < 60; ++i) {
    result.emplace_back(1 + random_bits(5, i) % 79, static_cast<char>('A' + i));
  }
  return result;
}

}  // namespace braid::testing
