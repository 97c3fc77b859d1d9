#include "inference/generated_text.h"

#include <algorithm>
#include <utility>

#include "core/error.h"

namespace braid {

GeneratedText::GeneratedText(std::vector<std::string> stop_texts)
    : stop_texts_(std::move(stop_texts)) {
  for (const auto& stop : stop_texts_) {
    require(!stop.empty(), "a stop text must not be empty: nothing would be generated");
  }
}

std::string GeneratedText::add(std::string_view bytes) {
  std::string certain;
  for (const char byte : bytes) {
    if (stopped_) {
      break;
    }
    held_ += byte;
    const std::size_t stop = stop_at_end();
    stopped_ = stop > 0;
    const std::size_t released = held_.size() - (stopped_ ? stop : possible_stop_at_end());
    certain += held_.substr(0, released);
    held_ = stopped_ ? "" : held_.substr(released);
  }
  return utf8_.add(certain);
}

std::string GeneratedText::finish() {
  return utf8_.add(std::exchange(held_, "")) + utf8_.finish();
}

// Bytes of the longest stop text that the held ones end with; 0 = none.
std::size_t GeneratedText::stop_at_end() const {
  std::size_t longest = 0;
  for (const auto& stop : stop_texts_) {
    longest = held_.ends_with(stop) ? std::max(longest, stop.size()) : longest;
  }
  return longest;
}

// Bytes at the end of the held ones that a stop text begins with, at most.
std::size_t GeneratedText::possible_stop_at_end() const {
  std::size_t longest = 0;
  for (const std::string_view stop : stop_texts_) {
    for (std::size_t size = std::min(held_.size(), stop.size() - 1); size > longest; --size) {
      longest = held_.ends_with(stop.substr(0, size)) ? size : longest;
    }
  }
  return longest;
}

}  // namespace braid
