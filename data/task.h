#pragma once
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "core/random.h"
#include "data/document_store.h"
#include "data/task_options.h"
#include "data/tokenizer.h"

namespace braid {

inline constexpr int64_t kNeedleKey = 4;         ///< tokens of a needle's key
inline constexpr int64_t kArithmeticTokens = 5;  ///< a op b = c

struct TaskDocument {
  std::vector<int64_t> ids;
  std::vector<Answer> answers;  ///< the targets, in order
};

/// A synthetic task: documents whose answers follow from what stands before them. Documents are ids
/// rather than text: every symbol is one token of the tokenizer (task_symbols()), so that distances
/// hold exactly with any. A document is a pure function of its key.
class Task {
 public:
  virtual ~Task() = default;

  /// A hash of what the answers of this key's document depend on. Whether a document is trained or
  /// validated is a function of it alone.
  virtual uint64_t problem(uint64_t key) const = 0;
  virtual int64_t num_tokens(uint64_t key) const = 0;
  virtual TaskDocument document(uint64_t key) const = 0;
  /// What Answer::group counts.
  const std::vector<std::string>& groups() const { return groups_; }
  /// Of what the documents depend on besides the options and the tokenizer.
  virtual std::string digest() const { return {}; }

 protected:
  std::vector<std::string> groups_;
};

/// Throws Error where the tokenizer has too few symbols, or a text to hide needles in cannot be
/// read or is too short.
std::unique_ptr<Task> make_task(const TaskOptions& options, const Tokenizer& tokenizer);

/// `count` ids that stand for text: first those that spell printable ASCII and are what the
/// tokenizer makes of it, in the order of ids, then, where these are too few, others. Throws Error
/// with `what` needs them where there are not that many.
std::vector<int64_t> task_symbols(const Tokenizer& tokenizer, int64_t count, std::string_view what);

/// Random numbers one after another, a pure function of the key.
class Draws {
 public:
  explicit Draws(uint64_t key) : key_(key) {}

  /// One of 0..count-1.
  int64_t below(int64_t count) {
    const auto wide = static_cast<unsigned __int128>(random_bits(key_, next_++));
    return static_cast<int64_t>((wide * static_cast<uint64_t>(count)) >> 64);
  }
  template <class T>
  T one_of(const std::vector<T>& values) {
    return values[static_cast<std::size_t>(below(static_cast<int64_t>(values.size())))];
  }

 private:
  uint64_t key_, next_ = 0;
};

}  // namespace braid
