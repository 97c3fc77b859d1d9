#pragma once
#include <functional>
#include <string>
#include <vector>

#include "data/tokenizer.h"
#include "model/transformer.h"

namespace braid {

struct GenerateOptions {
  int64_t max_tokens = 256;
  double temperature = 1;  ///< 0 = always the most probable token
  uint64_t seed = 0;
};

/// Continues one sequence of ids token by token with the decode state, until `end_id` or
/// max_tokens. `visit` sees each new id at once.  The draw of the i-th token is a pure function of
/// (seed, i).
void generate(const Transformer& model,
              const std::vector<int64_t>& prompt,
              int64_t end_id,
              const GenerateOptions& options,
              const std::function<void(int64_t)>& visit);

}  // namespace braid
