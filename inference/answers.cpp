#include "inference/answers.h"

#include <algorithm>
#include <limits>

#include "core/error.h"
#include "core/work.h"
#include "data/chat_answer.h"
#include "data/chat_parts.h"
#include "inference/utf8_stream.h"

namespace braid {
namespace {

std::string spelled(const Tokenizer& tokenizer, const std::vector<int64_t>& ids) {
  Utf8Stream text;
  const auto sound = text.add(tokenizer.decode(ids, SpecialTokens::kSpell));
  return sound + text.finish();
}

std::vector<int64_t> slice(const std::vector<int64_t>& ids, int64_t begin, int64_t end) {
  return {ids.begin() + static_cast<std::ptrdiff_t>(begin),
          ids.begin() + static_cast<std::ptrdiff_t>(end)};
}

ChatAnswer answer_in(const std::string& text, ChatMode mode) {
  return parse_answer(text, mode, AnswerForm::kLenient);
}

double share(int64_t part, int64_t all) {
  return all == 0 ? std::numeric_limits<double>::quiet_NaN()
                  : static_cast<double>(part) / static_cast<double>(all);
}

}  // namespace

AnswerPrompts spread_prompts(const DocumentStore& store,
                             const Tokenizer& tokenizer,
                             int64_t count,
                             int64_t longest) {
  const ChatPartReader reader(tokenizer);
  AnswerPrompts result;
  std::vector<int64_t> candidates;
  for (int64_t document = 0; document < store.num_documents(); ++document) {
    if (const auto answer = reader.last_answer(store.tokens(document))) {
      ++result.conversations;
      if (1 + answer->begin > longest) {
        ++result.too_long;
      } else {
        candidates.push_back(document);
      }
    }
  }
  const auto available = static_cast<int64_t>(candidates.size());
  const int64_t taken = std::min(count, available);
  for (int64_t i = 0; i < taken; ++i) {
    const int64_t document = candidates[static_cast<std::size_t>(i * available / taken)];
    const auto ids = store.tokens(document);
    const auto answer = *reader.last_answer(ids);
    AnswerPrompt prompt{.document = document, .ids = slice(ids, 0, answer.begin)};
    prompt.mode = answer.mode;
    prompt.prompt = spelled(tokenizer, prompt.ids);
    prompt.reference = spelled(tokenizer, slice(ids, answer.begin, answer.end));
    prompt.ids.insert(prompt.ids.begin(), tokenizer.begin_id());
    result.prompts.push_back(std::move(prompt));
  }
  return result;
}

std::string first_word(const std::string& text) {
  constexpr const char* kSpace = " \t\r\n\f\v";
  constexpr const char* kPunctuation = "!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~";
  const auto begin = text.find_first_not_of(kSpace);
  if (begin == std::string::npos) {
    return {};
  }
  const auto word = text.substr(begin, text.find_first_of(kSpace, begin) - begin);
  const auto last = word.find_last_not_of(kPunctuation);
  return last == std::string::npos ? word : word.substr(0, last + 1);
}

std::vector<GivenAnswer> give_answers(const Transformer& model,
                                      const Tokenizer& tokenizer,
                                      const std::vector<AnswerPrompt>& prompts,
                                      const GenerateOptions& options) {
  require(options.num_samples == 1, "[answers] expected one answer to each prompt");
  const Work work("questions answered", static_cast<int64_t>(prompts.size()));
  std::vector<std::vector<int64_t>> prompt_ids, answer_ids(prompts.size());
  for (const AnswerPrompt& prompt : prompts) {
    prompt_ids.push_back(prompt.ids);
  }
  std::vector<GivenAnswer> answers(prompts.size());
  const auto number = [](const Continuation& of) { return static_cast<std::size_t>(of.prompt); };
  generate(model,
           prompt_ids,
           tokenizer.end_id(),
           options,
           {.token =
                [&](const Continuation& of, int64_t id) {
                  answer_ids[number(of)].push_back(id);
                  return true;
                },
            .end =
                [&](const Continuation& of, GenerationEnd end) {
                  answers[number(of)].ended = end == GenerationEnd::kEndToken;
                  Work::did(1);
                }});
  for (std::size_t i = 0; i < answers.size(); ++i) {
    answers[i].text = spelled(tokenizer, answer_ids[i]);
    answers[i].tokens = static_cast<int64_t>(answer_ids[i].size());
  }
  compare_answers(prompts, answers);
  return answers;
}

void compare_answers(const std::vector<AnswerPrompt>& prompts, std::vector<GivenAnswer>& answers) {
  for (std::size_t i = 0; i < answers.size(); ++i) {
    const auto want = answer_in(prompts[i].reference, prompts[i].mode),
               got = answer_in(answers[i].text, prompts[i].mode);
    const auto word = first_word(want.content);
    answers[i].is_equal = got.content == want.content && got.tool_calls == want.tool_calls;
    answers[i].has_first_word = !word.empty() && first_word(got.content) == word;
  }
}

double AnswerFigures::equal_share() const {
  return share(equal, answers);
}

double AnswerFigures::same_word_share() const {
  return share(same_word, with_word);
}

AnswerFigures answer_figures(const std::vector<AnswerPrompt>& prompts,
                             const std::vector<GivenAnswer>& answers) {
  AnswerFigures figures;
  for (std::size_t i = 0; i < answers.size(); ++i) {
    const auto reference = answer_in(prompts[i].reference, prompts[i].mode);
    ++figures.answers;
    figures.ended += answers[i].ended ? 1 : 0;
    figures.equal += answers[i].is_equal ? 1 : 0;
    figures.with_word += first_word(reference.content).empty() ? 0 : 1;
    figures.same_word += answers[i].has_first_word ? 1 : 0;
  }
  return figures;
}

}  // namespace braid
