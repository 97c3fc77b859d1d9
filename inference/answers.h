#pragma once
// What models answer to conversations whose answer is known.
#include <cstdint>
#include <string>
#include <vector>

#include "data/chat_options.h"
#include "data/document_store.h"
#include "data/tokenizer.h"
#include "inference/generate.h"
#include "model/transformer.h"

namespace braid {

/// A conversation up to its last answer, and that answer.
struct AnswerPrompt {
  int64_t document = 0;      ///< of the store
  std::vector<int64_t> ids;  ///< with the begin token and the header of the answer
  ChatMode mode = ChatMode::kChat;
  std::string prompt = {};     ///< the ids without the begin token, special tokens spelled out
  std::string reference = {};  ///< the answer, without its end token
};

struct AnswerPrompts {
  std::vector<AnswerPrompt> prompts;
  int64_t conversations = 0;  ///< with an answer, in the whole store
  int64_t too_long = 0;       ///< of them, those with a longer prompt
};

/// `count` conversations of a store, or all where there are fewer, evenly spread: of n whose prompt
/// has at most `longest` tokens, the i-th is number i n / count, rounded down.
AnswerPrompts spread_prompts(const DocumentStore& store,
                             const Tokenizer& tokenizer,
                             int64_t count,
                             int64_t longest);

/// The first word of a text: its first stretch without white space, less the ASCII punctuation at
/// the stretch's end unless nothing else is there. Empty where there is none.
std::string first_word(const std::string& text);

struct GivenAnswer {
  std::string text;    ///< valid UTF-8, special tokens spelled out
  int64_t tokens = 0;  ///< the end token not counted
  bool ended = false;  ///< by the end token, not by max_tokens
  /// As the reference, byte for byte: text and calls; reasoning is not compared.
  bool is_equal = false;
  bool has_first_word = false;  ///< the reference has one, and the text begins with the same
};

/// One answer to each, see generate(), compared.
std::vector<GivenAnswer> give_answers(const Transformer& model,
                                      const Tokenizer& tokenizer,
                                      const std::vector<AnswerPrompt>& prompts,
                                      const GenerateOptions& options);

/// Says of each answer, by its text, how far it is the reference.
void compare_answers(const std::vector<AnswerPrompt>& prompts, std::vector<GivenAnswer>& answers);

struct AnswerFigures {
  int64_t answers = 0, ended = 0, equal = 0;
  int64_t with_word = 0;  ///< whose reference has a first word
  int64_t same_word = 0;  ///< of those
  double equal_share() const;
  double same_word_share() const;  ///< NaN where no reference has a word
};
AnswerFigures answer_figures(const std::vector<AnswerPrompt>& prompts,
                             const std::vector<GivenAnswer>& answers);

}  // namespace braid
