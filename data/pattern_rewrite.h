#pragma once
#include <string>
#include <string_view>

namespace braid {

/// The PCRE2 pattern that matches what a tokenizer.json's regular expression (Oniguruma, Ruby's
/// syntax) matches: \s and \S become lists of code points, for the two disagree about U+180E.
/// Throws Error that names the first construct that the two engines read differently, or that is
/// not known to be read alike.
std::string pcre_pattern(std::string_view pattern);

}  // namespace braid
