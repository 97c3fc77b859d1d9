#pragma once
#include <cstdint>
#include <string>
#include <vector>

#include "data/loader.h"
#include "tests/loading/corpus.h"

namespace braid::testing {

/// One context of a row, as ids.
struct Context {
  std::vector<int64_t> ids, targets;
  auto operator<=>(const Context&) const = default;
};

std::vector<int64_t> values(const at::Tensor& tensor);

/// Takes rows apart and checks everything that must hold for any row.
std::vector<Context> contexts_of(const Batch& batch, int64_t pad_id);
std::vector<Context> sorted_contexts(const std::vector<Batch>& batches, int64_t pad_id);

/// What an epoch must consist of, in no particular order, straight from the definition.
std::vector<Context> expected_contexts(const std::vector<std::string>& documents,
                                       int64_t seq_len,
                                       bool count_end);

void expect_equal(const Batch& got, const Batch& want);

class LoaderTest : public CorpusTest {
 protected:
  /// 60 documents of 1..79 bytes; each byte says which document it is from.
  static std::vector<std::string> documents();
};

}  // namespace braid::testing
