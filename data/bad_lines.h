#pragma once
#include <array>
#include <cstdint>
#include <string>
#include <vector>

#include "core/config.h"

namespace braid {

/// What happens to a line, or an item of a JSON array, that holds no document.
enum class OnBadLine { kError, kSkip };
inline auto enum_names(OnBadLine) {
  return std::array{EnumName{"error", OnBadLine::kError}, EnumName{"skip", OnBadLine::kSkip}};
}

/// How many lines of a file hold no document, and why the first ones do not.
class BadLines {
 public:
  static constexpr std::size_t kNamed = 10;

  /// Lines are items of a JSON array, and named so.
  void are_items() { word_ = "item"; }

  /// `reason` follows "line 17": "has no key 'text'".
  void add(int64_t line, std::string reason);
  int64_t count() const { return count_; }

  /// "file:17: this line has no key 'text'; line 20 is a list; line 23 ...", up to kNamed; of items
  /// "file: item 17 has ...".
  std::string error(const std::string& file) const;
  /// "file: left out 12 of 400 lines: line 17 has no key 'text'; line 20 ...; ...", a few of them.
  std::string note(const std::string& file, int64_t lines) const;

 private:
  struct Line {
    int64_t number;
    std::string reason;
  };
  std::string word_ = "line";
  std::vector<Line> first_;
  int64_t count_ = 0;
};

}  // namespace braid
