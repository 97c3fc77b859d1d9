#pragma once
#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

namespace braid {

/// A token beside the vocabulary, as tokenizer.json lists it.
struct AddedToken {
  int64_t id = 0;
  std::string content;
  bool special = false;
  bool normalized = false;  ///< looked for after those that are not
  bool takes_left_spaces = false, takes_right_spaces = false;  ///< lstrip, rstrip
};

/// Finds the spellings of added tokens in a text.
class AddedTokenFinder {
 public:
  explicit AddedTokenFinder(const std::vector<AddedToken>& tokens);

  bool empty() const { return tokens_.empty(); }

  /// Cuts `text` into `stretch`es without a spelling and the `token`s between them, in order:
  /// leftmost match first, of those that begin there the longest.
  void cut(std::string_view text,
           const std::function<void(std::string_view)>& stretch,
           const std::function<void(int64_t id)>& token) const;

 private:
  const AddedToken* match_at(std::string_view text) const;

  std::vector<AddedToken> tokens_;
  std::unordered_map<uint64_t, uint32_t> edges_;  // node of a trie * 256 + byte -> node
  std::vector<int64_t> ends_;                     // by node: which of tokens_ ends there; -1 = none
  bool begins_[256] = {};                         // bytes that some spelling begins with
};

}  // namespace braid
