#pragma once
#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "data/config.h"
#include "data/document_store.h"
#include "data/loader.h"
#include "data/token_store_build.h"

namespace braid {

/// Documents that are shuffled together.
struct TrainingData {
  std::string name;  ///< its paths, or the task
  double weight = 1;
  std::unique_ptr<DocumentStore> store;
};

/// Documents to validate on.
struct ValidationData {
  std::string name;  ///< as data.validation has it; empty where it has none
  std::unique_ptr<DocumentStore> store;
};

/// The tokenized texts of a run.
struct PreparedData {
  std::vector<TrainingData> training;
  std::vector<ValidationData> validation;  ///< in the order of data.validation
  /// Of the documents to validate on, those that their text (DataPaths) does not hold exactly.
  int64_t validation_not_utf8 = 0;
  std::vector<TextDigest> texts;   ///< what each path of data.train held
  std::vector<std::string> notes;  ///< of build_token_stores()
  /// What is not text, for people: "a.jsonl: samples of format messages".
  std::vector<std::string> formats;
  bool has_samples = false;  ///< which must not be divided

  std::vector<LoaderSource> sources() const;
};

/// Where a run keeps its data.
struct DataPaths {
  std::filesystem::path token_stores;  ///< a folder, made where it is missing
  /// A file for the validation documents as JSONL. Of a set with a name, that name is behind the
  /// stem: validation-NAME.jsonl.
  std::filesystem::path validation_text;
};

/// How the section reads a text, without its paths; `longest`: of a sample, in inputs.
TextSource text_source_of(const DataSection& config, int64_t longest);

/// Opens the token stores of a run's texts and its tasks, and builds the stores first where the
/// text or the options changed; then also writes the validation texts. Throws ConfigError without
/// text and where samples would be divided, and Error as build_token_stores() does.
PreparedData prepare_data(const DataSection& config,
                          const Tokenizer& tokenizer,
                          const DataPaths& paths);

/// One line for each text that is not what it was, for people: "corpus/b changed ...".
std::vector<std::string> changes_of_texts(const std::vector<TextDigest>& before,
                                          const std::vector<TextDigest>& now);

/// YAML for a checkpoint, and back; `source` is for messages.
std::string to_yaml(const std::vector<TextDigest>& texts);
std::vector<TextDigest> text_digests_of(const std::string& yaml, const std::string& source);

}  // namespace braid
