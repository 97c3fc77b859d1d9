#include "data/task_documents.h"

#include <algorithm>

#include "core/error.h"
#include "core/file.h"
#include "core/interruption.h"

namespace braid {
namespace {

/// Stands for how documents are made; another number starts every continued run's next epoch.
constexpr int kTaskRules = 1;

// More than any run reads, and few enough to be added up over sources.
constexpr int64_t kEndless = int64_t{1} << 40;

const char* name_of(TaskSide side) {
  return side == TaskSide::kTraining ? "training" : "validation";
}

}  // namespace

TaskDocuments::TaskDocuments(const TaskOptions& options, TaskSide side, const Tokenizer& tokenizer)
    : options_(options),
      side_(side),
      task_(make_task(options, tokenizer)),
      key_(random_key(static_cast<uint64_t>(options.any().seed),
                      text("task ", options.name(), " ", name_of(side)))),
      begin_id_(tokenizer.begin_id()),
      end_id_(tokenizer.end_id()),
      pad_id_(tokenizer.pad_id()),
      digest_(xxh3_128(text(kTaskRules,
                            ' ',
                            options.name(),
                            ' ',
                            options.text(),
                            ' ',
                            name_of(side),
                            ' ',
                            tokenizer.name(),
                            ' ',
                            task_->digest()))) {
  for (int64_t id = 0; id < tokenizer.vocab_size(); ++id) {
    byte_lengths_.push_back(tokenizer.byte_length(id));
  }
  key_of(0);  // says so at once where there is none
  for (int64_t document = 0; !is_endless() && document < num_documents(); ++document) {
    stop_if_interrupted();
    const auto made = task_->document(key_of(document));
    num_tokens_ += static_cast<int64_t>(made.ids.size());
    for (const auto& [begin, end, group] : made.answers) {
      num_targets_ += end - begin;
      for (int64_t i = begin; i < end; ++i) {
        text_bytes_ += byte_length(made.ids[static_cast<std::size_t>(i)]);
      }
    }
  }
}

int64_t TaskDocuments::num_documents() const {
  return is_endless() ? kEndless : options_.any().documents;
}

// Problems are drawn until one belongs to this side.
uint64_t TaskDocuments::key_of(int64_t document) const {
  const uint64_t own = random_bits(key_, static_cast<uint64_t>(document));
  constexpr uint64_t kMostDraws = 1 << 20;
  for (uint64_t draw = 0; draw < kMostDraws; ++draw) {
    const uint64_t key = random_bits(own, draw);
    const bool validates = is_validation_document(task_->problem(key), options_.any().held_out);
    if (validates == (side_ == TaskSide::kValidation)) {
      return key;
    }
  }
  fail(options_.described(),
       ": held_out ",
       options_.any().held_out,
       " leaves no problem for ",
       name_of(side_),
       "; there are too few different ones: change held_out, or ask for more symbols");
}

int64_t TaskDocuments::num_tokens(int64_t document) const {
  return task_->num_tokens(key_of(document));
}

std::vector<int64_t> TaskDocuments::tokens(int64_t document, int64_t begin, int64_t end) const {
  const auto ids = task_->document(key_of(document)).ids;
  return {ids.begin() + static_cast<std::ptrdiff_t>(begin),
          ids.begin() + static_cast<std::ptrdiff_t>(end)};
}

std::vector<uint8_t> TaskDocuments::targets(int64_t document, int64_t begin, int64_t end) const {
  std::vector<uint8_t> result(static_cast<std::size_t>(end - begin), 0);
  for (const auto& answer : answers(document)) {
    for (int64_t i = std::max(begin, answer.begin); i < std::min(end, answer.end); ++i) {
      result[static_cast<std::size_t>(i - begin)] = 1;
    }
  }
  return result;
}

std::vector<Answer> TaskDocuments::answers(int64_t document) const {
  return task_->document(key_of(document)).answers;
}

}  // namespace braid
