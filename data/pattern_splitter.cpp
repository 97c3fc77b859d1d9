#include "data/pattern_splitter.h"

#include <optional>
#include <utility>

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#include "core/error.h"
#include "core/utf8.h"
#include "data/pattern_rewrite.h"

namespace braid {
namespace {

std::string pcre_message(int code) {
  PCRE2_UCHAR message[256];
  pcre2_get_error_message(code, message, sizeof(message));
  return reinterpret_cast<const char*>(message);
}

}  // namespace

class PatternSplitter::Stage {
 public:
  explicit Stage(const Pattern& pattern) : where_(pattern.where) {
    std::string rewritten;
    try {
      rewritten = pcre_pattern(pattern.regex);
    } catch (const Error& error) {
      fail(where_, ": ", error.what());
    }
    const std::unique_ptr<pcre2_compile_context, void (*)(pcre2_compile_context*)> context(
        pcre2_compile_context_create(nullptr), pcre2_compile_context_free);
    pcre2_set_newline(context.get(), PCRE2_NEWLINE_LF);
    int code = 0;
    PCRE2_SIZE offset = 0;
    code_.reset(pcre2_compile(reinterpret_cast<PCRE2_SPTR>(rewritten.data()),
                              rewritten.size(),
                              PCRE2_UTF | PCRE2_UCP,
                              &code,
                              &offset,
                              context.get()));
    require(code_ != nullptr,
            where_,
            ": PCRE2 does not compile this pattern: ",
            pcre_message(code),
            " (near '",
            std::string_view(rewritten).substr(std::min(offset, rewritten.size()), 16),
            "')");
    pcre2_jit_compile(code_.get(), PCRE2_JIT_COMPLETE);  // where it fails, matching is slower
  }

  /// The matches of one text, one after another; the whole of it is the subject.
  class Matches {
   public:
    Matches(const Stage& stage, std::string_view text)
        : stage_(stage),
          text_(text),
          match_(pcre2_match_data_create_from_pattern(stage.code_.get(), nullptr),
                 pcre2_match_data_free) {}

    /// The next match that is not empty, as begin and end; nullopt at the end.
    std::optional<std::pair<std::size_t, std::size_t>> next() {
      while (at_ < text_.size()) {
        if (match(0) < 0) {
          return std::nullopt;
        }
        const PCRE2_SIZE* const found = pcre2_get_ovector_pointer(match_.get());
        if (found[0] < found[1]) {
          at_ = found[1];
          return std::pair{found[0], found[1]};
        }
        at_ = found[1] +
              (found[1] < text_.size() ? utf8_character_at(text_.data() + found[1]).length : 1);
      }
      return std::nullopt;
    }

   private:
    int match(uint32_t options) {
      const int code = pcre2_match(stage_.code_.get(),
                                   reinterpret_cast<PCRE2_SPTR>(text_.data()),
                                   text_.size(),
                                   at_,
                                   options | PCRE2_NO_UTF_CHECK,
                                   match_.get(),
                                   nullptr);
      if (code == PCRE2_ERROR_JIT_STACKLIMIT && options == 0) {
        return match(PCRE2_NO_JIT);
      }
      require(code > 0 || code == PCRE2_ERROR_NOMATCH,
              stage_.where_,
              ": PCRE2 cannot match this pattern at byte ",
              at_,
              " of a text of ",
              text_.size(),
              " bytes: ",
              pcre_message(code));
      return code;
    }

    const Stage& stage_;
    std::string_view text_;
    std::unique_ptr<pcre2_match_data, void (*)(pcre2_match_data*)> match_;
    std::size_t at_ = 0;
  };

 private:
  std::string where_;
  std::unique_ptr<pcre2_code, void (*)(pcre2_code*)> code_{nullptr, pcre2_code_free};
};

PatternSplitter::PatternSplitter(const std::vector<Pattern>& patterns) {
  for (const Pattern& pattern : patterns) {
    stages_.push_back(std::make_unique<Stage>(pattern));
  }
}

PatternSplitter::~PatternSplitter() = default;

void PatternSplitter::split(std::string_view text, PieceSink& sink) const {
  split_from(0, text, sink);
}

void PatternSplitter::split_from(std::size_t stage, std::string_view text, PieceSink& sink) const {
  if (text.empty()) {
    return;
  }
  if (stage == stages_.size()) {
    sink.take(text);
    return;
  }
  std::size_t at = 0;
  Stage::Matches matches(*stages_[stage], text);
  while (const auto match = matches.next()) {
    split_from(stage + 1, text.substr(at, match->first - at), sink);
    split_from(stage + 1, text.substr(match->first, match->second - match->first), sink);
    at = match->second;
  }
  split_from(stage + 1, text.substr(at), sink);
}

}  // namespace braid
