#pragma once
#include <string>
#include <string_view>

namespace braid {

/// Valid UTF-8 out of bytes that arrive in any pieces: sequences appear when they are whole, and
/// bytes that belong to none as U+FFFD (the substitution of maximal subparts, Unicode 15, 3.9).
class Utf8Stream {
 public:
  std::string add(std::string_view bytes);
  /// What an unfinished sequence at the end becomes.
  std::string finish();

 private:
  std::string take(bool at_end);

  std::string pending_;
};

}  // namespace braid
