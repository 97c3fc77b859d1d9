#pragma once
#include <memory>
#include <string>
#include <vector>

#include "data/document_store.h"
#include "data/task.h"

namespace braid {

enum class TaskSide { kTraining, kValidation };

/// The documents of a synthetic task, made when they are asked for: document `i` is a pure function
/// of the options, the tokenizer, the side and `i`. Training has no end (is_endless()), validation
/// as many as the options say. A document belongs to one of the sides by a hash of its problem, so
/// that no problem of validation is ever trained, whatever the seeds.
class TaskDocuments : public DocumentStore {
 public:
  /// What it needs of the tokenizer is kept. Throws Error as make_task() does.
  TaskDocuments(const TaskOptions& options, TaskSide side, const Tokenizer& tokenizer);

  std::string name() const final { return options_.described(); }
  std::string sources_digest() const final { return digest_; }
  int64_t num_documents() const final;
  bool is_endless() const final { return side_ == TaskSide::kTraining; }
  int64_t num_tokens() const final { return num_tokens_; }
  int64_t num_targets() const final { return num_targets_; }
  int64_t text_bytes() const final { return text_bytes_; }
  int64_t begin_id() const final { return begin_id_; }
  int64_t end_id() const final { return end_id_; }
  int64_t pad_id() const final { return pad_id_; }
  int64_t byte_length(int64_t id) const final {
    return byte_lengths_[static_cast<std::size_t>(id)];
  }

  using DocumentStore::tokens;
  int64_t num_tokens(int64_t document) const final;
  std::vector<int64_t> tokens(int64_t document, int64_t begin, int64_t end) const final;
  std::vector<uint8_t> targets(int64_t document, int64_t begin, int64_t end) const final;
  int64_t num_inputs(int64_t document) const final { return num_tokens(document); }
  const std::vector<std::string>& answer_groups() const final { return task_->groups(); }
  std::vector<Answer> answers(int64_t document) const final;

  /// The hash of the problem, which decides on the side.
  uint64_t problem(int64_t document) const { return task_->problem(key_of(document)); }

 private:
  uint64_t key_of(int64_t document) const;

  TaskOptions options_;
  TaskSide side_;
  std::unique_ptr<Task> task_;
  uint64_t key_;
  int64_t begin_id_, end_id_, pad_id_;
  std::vector<int64_t> byte_lengths_;  // by id
  std::string digest_;
  int64_t num_tokens_ = 0, num_targets_ = 0, text_bytes_ = 0;
};

}  // namespace braid
