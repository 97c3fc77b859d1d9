#pragma once
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace braid {

class Tokenizer;

/// Tokens begin..end-1 of a document; the end token has the index after its last id.
struct TargetSpan {
  int64_t begin = 0, end = 0;
  float weight = 1;  ///< of each of them in the mean loss, more than 0
  bool operator==(const TargetSpan&) const = default;
};

/// What a model learns from or is judged by, as ids.
struct Document {
  /// Text and special tokens, at least one, without the begin and end tokens around them, which the
  /// loader adds.
  std::vector<int64_t> ids = {};
  /// The tokens that are predicted and counted, in order and disjoint, within 0..ids.size() + 1:
  /// {{0, ids.size() + 1}} = all of them with the end token. The others are only ever inputs.
  std::vector<TargetSpan> targets = {};
  /// content_hash() of what the document was made from.
  uint64_t content_hash = 0;
  /// Messages of a conversation that are not trained because of data.mask_history.
  int64_t masked_messages = 0;
  /// Belongs to the document before it and stays behind it: the rejected answer of a pair.
  bool with_previous = false;
};

/// The spans of targets that weigh this much each, index by index; 0 = no target. Neighbors of one
/// weight are one span.
std::vector<TargetSpan> target_spans(const std::vector<float>& weights);

/// How many inputs a row needs for it: the begin token and its ids, without the last one where no
/// target follows that.
int64_t num_inputs(const Document& document);

/// Documents, one after another.
class DocumentSource {
 public:
  virtual ~DocumentSource() = default;

  /// Fills `document` with the next one; false at the end. Throws Error that names file and line of
  /// what cannot be read.
  virtual bool next(Document& document) = 0;

  /// What was left out or looks wrong so far, a line each, for people.
  virtual std::vector<std::string> notes() const { return {}; }
};

uint64_t content_hash(std::string_view content);

/// A text as a document: every token is a target, and the end token too.
Document text_document(std::string_view text, const Tokenizer& tokenizer);

/// Whether a document belongs to validation, a function of its content alone: the same content is
/// always on the same side, wherever and however often it occurs. `fraction` in [0, 1] of all
/// documents.
bool is_validation_document(uint64_t content_hash, double fraction);

}  // namespace braid
