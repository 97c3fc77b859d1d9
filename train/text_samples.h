#pragma once
// Texts that the model writes while it is trained (logging.samples), so that people see what it has
// learned.
#include <string>
#include <vector>

#include "data/tokenizer.h"
#include "model/transformer.h"
#include "parallel/grid.h"
#include "run/config.h"

namespace braid {

/// How the model went on with a prompt.
struct WrittenText {
  std::string prompt, text;
  int64_t number = 0;  ///< of the prompt's texts, from 0
  int64_t tokens = 0;  ///< drawn, the end token not counted
};

class TextSamples {
 public:
  /// Throws ConfigError for a prompt that leaves no room for max_tokens.
  TextSamples(const SamplesSection& config, const ModelConfig& model, const Tokenizer& tokenizer);

  /// The texts of each prompt in turn. The draws are those of `seed`, at every step the same, so
  /// that texts differ by what the model has learned. Every rank of the grid calls this: they all
  /// generate the same texts, of which rank 0 draws the tokens. Throws Interrupted where a signal
  /// asks to stop.
  std::vector<WrittenText> write(const Transformer& model,
                                 uint64_t seed,
                                 const ProcessGrid& grid) const;

 private:
  SamplesSection config_;
  const Tokenizer& tokenizer_;
  std::vector<std::vector<int64_t>> prompt_ids_;
};

}  // namespace braid
