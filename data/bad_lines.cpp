#include "data/bad_lines.h"

#include <algorithm>
#include <utility>

#include "core/error.h"

namespace braid {

void BadLines::add(int64_t line, std::string reason) {
  ++count_;
  if (first_.size() < kNamed) {
    first_.push_back({line, std::move(reason)});
  }
}

std::string BadLines::error(const std::string& file) const {
  const auto& [number, reason] = first_.front();
  std::string result = word_ == "line" ? text(file, ":", number, ": this line ", reason)
                                       : text(file, ": ", word_, " ", number, " ", reason);
  for (std::size_t i = 1; i < first_.size(); ++i) {
    result += text("; ", word_, " ", first_[i].number, " ", first_[i].reason);
  }
  return result;
}

std::string BadLines::note(const std::string& file, int64_t lines) const {
  constexpr std::size_t kFew = 3;
  std::string result =
      text(file, ": left out ", count_, " of ", lines, " ", word_, lines == 1 ? "" : "s");
  for (std::size_t i = 0; i < std::min(kFew, first_.size()); ++i) {
    result += text(i == 0 ? ": " : "; ", word_, " ", first_[i].number, " ", first_[i].reason);
  }
  return result + (count_ > static_cast<int64_t>(kFew) ? "; ..." : "");
}

}  // namespace braid
