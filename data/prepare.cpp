#include "data/prepare.h"

#include <algorithm>
#include <iterator>
#include <utility>

#include "core/error.h"
#include "data/sample_documents.h"
#include "data/task_documents.h"
#include "data/token_store.h"

namespace braid {
namespace {

namespace fs = std::filesystem;

// Of the texts one source of all paths, or with weights one for each.
Corpus corpus_of(const DataSection& config) {
  Corpus corpus;
  for (const DataSource& entry : config.train) {
    if (entry.task) {
      continue;
    }
    if (corpus.training.empty() || entry.weight) {
      corpus.training.push_back(text_source_of(config, config.seq_len));
    }
    corpus.training.back().paths.emplace_back(entry.path);
    corpus.training.back().of_paths.push_back({entry.format, entry.max_samples.value_or(0)});
  }
  for (const auto& set : config.validation.all()) {
    if (!set.task) {
      corpus.validation.push_back(text_source_of(config, config.validation_seq_len));
      corpus.validation.back().longest_key = "data.validation_seq_len";
      corpus.validation.back().paths.assign(set.paths.begin(), set.paths.end());
    }
  }
  const bool holds_back = config.validation.empty() && !corpus.training.empty();
  corpus.validation_fraction = holds_back ? config.validation_fraction : 0;
  return corpus;
}

void look_at_formats(const Corpus& corpus, const DataSection& config, PreparedData& data) {
  const auto look_at = [&](const TextSource& source) {
    auto found = formats_of(source);
    std::ranges::move(found.lines, std::back_inserter(data.formats));
    std::ranges::move(found.notes, std::back_inserter(data.notes));
    data.has_samples = data.has_samples || found.samples;
  };
  for (const TextSource& source : corpus.training) {
    look_at(source);
  }
  // Samples are never divided, not by a validation of shorter rows either.
  if (data.has_samples && corpus.validation_fraction > 0 &&
      config.validation_seq_len < config.seq_len) {
    throw ConfigError("data.validation_seq_len",
                      text("is ",
                           config.validation_seq_len,
                           ", less than data.seq_len ",
                           config.seq_len,
                           ": samples that are held back for validation would be divided; make it "
                           "at least as long, or name validation files"));
  }
  for (const TextSource& source : corpus.validation) {
    look_at(source);
  }
}

/// "folder/validation-NAME.tokens"; without a name the path as it is.
fs::path named(const fs::path& path, const std::string& name) {
  const std::string suffix = name.empty() ? "" : "-" + name;
  return path.parent_path() / (path.stem().string() + suffix + path.extension().string());
}

// In the order of data.train, by which a checkpoint knows them.
void add_training(const DataSection& config,
                  const Corpus& corpus,
                  const CorpusFiles& files,
                  const Tokenizer& tokenizer,
                  PreparedData& data) {
  std::size_t text_source = 0;
  for (const DataSource& entry : config.train) {
    if (entry.task) {
      data.has_samples = true;
      data.training.push_back(
          {entry.task->described(),
           entry.weight.value_or(1),
           std::make_unique<TaskDocuments>(*entry.task, TaskSide::kTraining, tokenizer)});
    } else if (text_source < files.training.size()) {  // without weights, one of all texts
      data.training.push_back({name_of(corpus.training[text_source]),
                               entry.weight.value_or(1),
                               std::make_unique<TokenStore>(files.training[text_source])});
      ++text_source;
    }
  }
}

struct TextDigests {
  std::vector<TextDigest> texts;

  template <class Visitor>
  static void fields(Visitor& v) {
    v("texts", &TextDigests::texts, "what each path of data.train held");
  }
};

}  // namespace

TextSource text_source_of(const DataSection& config, int64_t longest) {
  return {.paths = {},
          .document_separator = config.document_separator,
          .text_key = config.text_key,
          .on_bad_line = config.on_bad_sample,
          .samples = config,
          .longest = longest};
}

std::vector<LoaderSource> PreparedData::sources() const {
  std::vector<LoaderSource> result;
  for (const TrainingData& data : training) {
    result.push_back({*data.store, data.weight});
  }
  return result;
}

PreparedData prepare_data(const DataSection& config,
                          const Tokenizer& tokenizer,
                          const DataPaths& paths) {
  if (config.train.empty()) {
    throw ConfigError("data.train",
                      "names no text; expected files, folders of *.txt and *.jsonl, or tasks");
  }
  const fs::path& folder = paths.token_stores;
  fs::create_directories(folder);
  const Corpus corpus = corpus_of(config);
  CorpusFiles files;
  for (std::size_t i = 0; i < corpus.training.size(); ++i) {
    files.training.push_back(
        folder / (corpus.training.size() == 1 ? "train.tokens" : text("train-", i, ".tokens")));
  }
  // Texts that are held back have no name.
  auto sets = config.validation_sets().all();
  if (corpus.validation_fraction > 0) {
    sets.insert(sets.begin(), ValidationSet());
  }
  for (const auto& set : sets) {
    if (!set.task) {
      files.validation.push_back(
          {named(folder / "validation.tokens", set.name), named(paths.validation_text, set.name)});
    }
  }
  PreparedData data;
  look_at_formats(corpus, config, data);
  if (!files.training.empty() || !files.validation.empty()) {
    auto build = build_token_stores(corpus, tokenizer, files);
    data.texts = std::move(build.training);
    std::ranges::move(build.notes, std::back_inserter(data.notes));
    data.validation_not_utf8 = build.validation_not_utf8;
  }
  add_training(config, corpus, files, tokenizer, data);
  std::size_t text_set = 0;
  for (const auto& set : sets) {
    if (set.task) {
      data.validation.push_back(
          {set.name, std::make_unique<TaskDocuments>(*set.task, TaskSide::kValidation, tokenizer)});
    } else {
      data.validation.push_back(
          {set.name, std::make_unique<TokenStore>(files.validation[text_set++].store)});
    }
  }
  return data;
}

std::vector<std::string> changes_of_texts(const std::vector<TextDigest>& before,
                                          const std::vector<TextDigest>& now) {
  std::vector<std::string> result;
  for (const TextDigest& is : now) {
    for (const TextDigest& was : before) {
      if (was.path == is.path && was.digest != is.digest) {
        result.push_back(text(is.path,
                              " changed since the checkpoint (digest ",
                              was.digest,
                              ", ",
                              was.bytes,
                              " bytes; now ",
                              is.digest,
                              ", ",
                              is.bytes,
                              " bytes)"));
        break;
      }
    }
  }
  return result;
}

std::string to_yaml(const std::vector<TextDigest>& texts) {
  return dump_config(TextDigests{texts});
}

std::vector<TextDigest> text_digests_of(const std::string& yaml, const std::string& source) {
  return parse_config<TextDigests>(yaml, source).texts;
}

}  // namespace braid
