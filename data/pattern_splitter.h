#pragma once
#include <memory>
#include <string>
#include <vector>

#include "data/splitter.h"

namespace braid {

/// Split patterns by PCRE2. Each cuts what the one before it left, into its matches and what is
/// between them. PCRE2 knows the characters of its own Unicode version (Debian 12: 14.0): a text
/// with younger ones may be cut in other places than Hugging Face cuts it.
class PatternSplitter : public Splitter {
 public:
  /// A regular expression of a tokenizer.json and where it stands there, for messages.
  struct Pattern {
    std::string regex, where;
  };

  /// Throws Error with `where` for what pcre_pattern() refuses and PCRE2 does not compile.
  explicit PatternSplitter(const std::vector<Pattern>& patterns);
  ~PatternSplitter() override;

  /// Throws Error where a pattern takes more steps than PCRE2 allows.
  void split(std::string_view text, PieceSink& sink) const override;

 private:
  class Stage;

  void split_from(std::size_t stage, std::string_view text, PieceSink& sink) const;

  std::vector<std::unique_ptr<Stage>> stages_;
};

}  // namespace braid
