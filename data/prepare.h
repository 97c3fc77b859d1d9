#pragma once
#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "data/config.h"
#include "data/loader.h"
#include "data/token_store.h"
#include "data/token_store_build.h"

namespace braid {

/// Documents that are shuffled together.
struct TrainingData {
  std::string name;  ///< its paths
  double weight = 1;
  std::unique_ptr<TokenStore> store;
};

/// The tokenized texts of a run.
struct PreparedData {
  std::vector<TrainingData> training;
  std::unique_ptr<TokenStore> validation;  ///< null without validation
  std::vector<TextDigest> texts;           ///< what each path of data.train held

  std::vector<LoaderSource> sources() const;
};

/// Opens the token stores in the run's folder, `run_dir`/data, and builds them first where the text
/// or the options changed; writes the validation text beside them. Throws ConfigError without
/// text, and Error as build_token_stores() does.
PreparedData prepare_data(const DataSection& config,
                          const Tokenizer& tokenizer,
                          const std::filesystem::path& run_dir);

/// One line for each text that is not what it was, for people: "corpus/b changed ...".
std::vector<std::string> changes_of_texts(const std::vector<TextDigest>& before,
                                          const std::vector<TextDigest>& now);

/// YAML for a checkpoint, and back; `source` is for messages.
std::string to_yaml(const std::vector<TextDigest>& texts);
std::vector<TextDigest> text_digests_of(const std::string& yaml, const std::string& source);

}  // namespace braid
