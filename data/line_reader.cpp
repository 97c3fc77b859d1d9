#include "data/line_reader.h"

#include <algorithm>

#include "core/error.h"

namespace braid {

std::optional<std::string_view> LineReader::next() {
  line_.clear();
  ++number_;
  while (true) {
    if (piece_.empty() && (piece_ = stream_.next()).empty()) {
      return line_.empty() ? std::nullopt : std::optional<std::string_view>(line_);
    }
    const std::size_t newline = piece_.find('\n');
    const bool ends = newline != std::string_view::npos;
    const std::size_t length = ends ? newline : piece_.size();
    require(length <= longest_ - line_.size(),
            where(),
            ": this line has more than ",
            longest_,
            " bytes; expected one document a line, so split the document or the file");
    const std::string_view part = piece_.substr(0, length + ends);
    piece_.remove_prefix(part.size());
    if (ends && line_.empty()) {
      return part;
    }
    line_ += part;
    if (ends) {
      return line_;
    }
  }
}

std::string LineReader::where() const {
  return text(name_, ":", number_);
}

}  // namespace braid
