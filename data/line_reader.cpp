#include "data/line_reader.h"

namespace braid {

std::optional<std::string_view> LineReader::next() {
  line_.clear();
  ++number_;
  while (true) {
    if (piece_.empty() && (piece_ = stream_.next()).empty()) {
      too_long_ = false;
      return line_.empty() ? std::nullopt : std::optional<std::string_view>(line_);
    }
    const std::size_t newline = piece_.find('\n');
    const bool ends = newline != std::string_view::npos;
    const std::size_t length = ends ? newline : piece_.size();
    if (too_long_) {  // the last one
      piece_.remove_prefix(length + ends);
      too_long_ = !ends;
      continue;
    }
    if (length > longest_ - line_.size()) {
      too_long_ = true;
      return std::string_view();
    }
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

}  // namespace braid
