#pragma once
#include <cstdint>
#include <string>
#include <vector>

#include "data/document.h"

namespace braid {

/// Tokens begin..end-1 of a document that answer a question which one can only be right or wrong
/// about; the group is an index in DocumentStore::answer_groups().
struct Answer {
  int64_t begin = 0, end = 0;
  std::size_t group = 0;
};

/// Documents by number, any of them at any time and by any thread: what the loader and evaluation
/// read, from a file (TokenStore) or made when they are asked for (TaskDocuments). Documents do not
/// hold the begin and end tokens around them; those are the loader's business.
class DocumentStore {
 public:
  virtual ~DocumentStore() = default;

  /// For messages.
  virtual std::string name() const = 0;
  /// Of what the documents are made from, 32 characters: equal digests mean equal documents.
  virtual std::string sources_digest() const = 0;
  virtual int64_t num_documents() const = 0;
  /// Whether there are more documents than any run reads. Then nothing is known of all of them.
  virtual bool is_endless() const { return false; }
  /// Of all documents; 0 of an endless store.
  virtual int64_t num_tokens() const = 0;
  /// Tokens that are targets; end tokens are not counted. 0 of an endless store.
  virtual int64_t num_targets() const = 0;
  /// What bits per byte divides by: the bytes of text that the targets stand for. 0 of an endless
  /// store.
  virtual int64_t text_bytes() const = 0;
  virtual int64_t begin_id() const = 0;
  virtual int64_t end_id() const = 0;
  virtual int64_t pad_id() const = 0;
  /// Bytes of text the id stands for. Not checked.
  virtual int64_t byte_length(int64_t id) const = 0;
  /// Whether some target weighs another than 1.
  virtual bool has_weights() const { return false; }
  /// How many documents make one sample that stays together: 2 in a store of preferences, whose
  /// documents 2 i and 2 i + 1 are the chosen and the rejected answer to one prompt; else 1.
  virtual int64_t documents_per_sample() const { return 1; }

  /// The document is not checked in any of these.
  virtual int64_t num_tokens(int64_t document) const = 0;
  /// Ids of its tokens begin..end-1; end is at most num_tokens(document).
  virtual std::vector<int64_t> tokens(int64_t document, int64_t begin, int64_t end) const = 0;
  std::vector<int64_t> tokens(int64_t document) const {
    return tokens(document, 0, num_tokens(document));
  }
  /// Whether its tokens begin..end-1 are targets, 1 or 0 each; num_tokens(document) is the index of
  /// the end token, which makes end at most one more.
  virtual std::vector<uint8_t> targets(int64_t document, int64_t begin, int64_t end) const = 0;
  /// What the loss of each of them is multiplied by, where it is a target.
  virtual std::vector<float> target_weights(int64_t document, int64_t begin, int64_t end) const;
  /// Inputs that a row needs for it (document.h).
  virtual int64_t num_inputs(int64_t document) const;
  /// All of it, without its hash.
  Document document(int64_t document) const;

  /// What its answers are told apart by, such as "distance_64"; empty where documents have no
  /// answers that are right or wrong.
  virtual const std::vector<std::string>& answer_groups() const;
  /// In order, each a part of the targets.
  virtual std::vector<Answer> answers(int64_t /*document*/) const { return {}; }
};

}  // namespace braid
