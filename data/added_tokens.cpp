#include "data/added_tokens.h"

#include "core/utf8.h"
#include "data/unicode_classes.h"

namespace braid {
namespace {

bool is_space_at(std::string_view text) {
  const auto [length, fitting] = utf8_sequence_at(text);
  return length == fitting &&
         unicode_classes()[utf8_character_at(text.data()).code_point] == UnicodeClass::kSpace;
}

// Bytes of white space at the end of `text`.
std::size_t spaces_before(std::string_view text) {
  std::size_t begin = text.size();
  while (begin > 0) {
    std::size_t at = begin - 1;
    while (at > 0 && (static_cast<unsigned char>(text[at]) & 0xC0) == 0x80) {
      --at;
    }
    const auto character = text.substr(at, begin - at);
    if (!is_space_at(character) || utf8_sequence_at(character).length != character.size()) {
      break;
    }
    begin = at;
  }
  return text.size() - begin;
}

std::size_t spaces_after(std::string_view text) {
  std::size_t end = 0;
  while (end < text.size() && is_space_at(text.substr(end))) {
    end += utf8_sequence_at(text.substr(end)).length;
  }
  return end;
}

}  // namespace

AddedTokenFinder::AddedTokenFinder(const std::vector<AddedToken>& tokens)
    : tokens_(tokens), ends_{-1} {
  for (std::size_t i = 0; i < tokens.size(); ++i) {
    uint32_t node = 0;
    for (const char c : tokens[i].content) {
      const uint64_t edge = uint64_t{node} << 8 | static_cast<unsigned char>(c);
      const auto [next, is_new] = edges_.try_emplace(edge, static_cast<uint32_t>(ends_.size()));
      if (is_new) {
        ends_.push_back(-1);
      }
      node = next->second;
    }
    ends_[node] = static_cast<int64_t>(i);
    begins_[static_cast<unsigned char>(tokens[i].content.at(0))] = true;
  }
}

const AddedToken* AddedTokenFinder::match_at(std::string_view text) const {
  const AddedToken* longest = nullptr;
  uint32_t node = 0;
  for (const char c : text) {
    const auto next = edges_.find(uint64_t{node} << 8 | static_cast<unsigned char>(c));
    if (next == edges_.end()) {
      break;
    }
    node = next->second;
    if (ends_[node] >= 0) {
      longest = &tokens_[static_cast<std::size_t>(ends_[node])];
    }
  }
  return longest;
}

void AddedTokenFinder::cut(std::string_view text,
                           const std::function<void(std::string_view)>& stretch,
                           const std::function<void(int64_t id)>& token) const {
  std::size_t done = 0;
  for (std::size_t at = 0; at < text.size();) {
    if (!begins_[static_cast<unsigned char>(text[at])]) {
      ++at;
      continue;
    }
    const AddedToken* const found = match_at(text.substr(at));
    if (found == nullptr) {
      ++at;
      continue;
    }
    std::size_t begin = at, end = at + found->content.size();
    if (found->takes_left_spaces) {
      begin -= spaces_before(text.substr(done, begin - done));
    }
    if (found->takes_right_spaces) {
      end += spaces_after(text.substr(end));
    }
    if (done < begin) {
      stretch(text.substr(done, begin - done));
    }
    token(found->id);
    at = done = end;
  }
  if (done < text.size()) {
    stretch(text.substr(done));
  }
}

}  // namespace braid
