#pragma once
#include <cstdint>
#include <filesystem>
#include <map>
#include <string>
#include <vector>

#include "data/sample_documents.h"

namespace braid {

/// What samples hold and what is wrong with them, all of them.
struct SampleSurvey {
  struct Problem {
    int64_t count = 0;
    std::string first;  ///< "a.jsonl:17: has no key 'messages'"
  };

  int64_t samples = 0;                      ///< good ones
  int64_t tokens = 0;                       ///< with begin and end tokens, before any is cut
  int64_t trained_tokens = 0;               ///< of those that stay
  double trained_weight = 0;                ///< their weights together
  int64_t too_long = 0;                     ///< samples that are left out or cut
  std::vector<int64_t> lengths;             ///< tokens of each document, ascending
  std::map<std::string, Problem> problems;  ///< by kind

  /// The length that this share of the documents does not exceed; 0 without documents.
  int64_t length_at(double share) const;
};

/// Reads every file of a source to its end, whatever is wrong with single rows. Throws Error for
/// what is wrong with a whole file, and for one that is plain text.
SampleSurvey survey_samples(const TextSource& source, const Tokenizer& tokenizer);

/// The documents of the `number`-th row (from 1) of a file of JSONL or a JSON array. Throws Error
/// with file and line where it is bad or missing.
std::vector<Document> documents_of_row(const std::filesystem::path& file,
                                       int64_t number,
                                       const SampleParser& parser);

}  // namespace braid
