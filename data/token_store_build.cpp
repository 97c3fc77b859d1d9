#include "data/token_store_build.h"

#include <algorithm>
#include <memory>

#include <nlohmann/json.hpp>

#include "core/config_value.h"
#include "core/error.h"
#include "core/file.h"
#include "core/interruption.h"
#include "core/work.h"
#include "data/jsonl.h"
#include "data/repeated_texts.h"
#include "data/sample_documents.h"
#include "data/sample_parser.h"
#include "data/text_documents.h"
#include "data/token_store.h"
#include "data/token_store_writer.h"

namespace braid {
namespace {

namespace fs = std::filesystem;

std::size_t validation_stores(const Corpus& corpus) {
  return corpus.validation_fraction > 0 ? 1 : corpus.validation.size();
}

void require_not_an_output(const fs::path& file, const CorpusFiles& files) {
  std::vector<fs::path> outputs = files.training;
  for (const auto& [store, text] : files.validation) {
    outputs.insert(outputs.end(), {store, text});
  }
  for (const fs::path& output : outputs) {
    require(fs::weakly_canonical(file) != fs::weakly_canonical(output),
            output.string(),
            ": would overwrite a text the corpus is made of; keep the corpus in a folder of its "
            "own");
  }
}

struct SourceDigests {
  std::vector<TextDigest> paths;
  std::string manifest;  // what the source's documents are a function of
  bool has_samples = false;
};

SourceDigests digests_of(const TextSource& source,
                         const CorpusFiles& outputs,
                         RepeatedTexts::Side side,
                         RepeatedTexts& repeated) {
  SourceDigests result;
  result.manifest = text(source.document_separator,
                         '\n',
                         source.text_key,
                         '\n',
                         source.on_bad_line == OnBadLine::kSkip ? "without bad lines\n" : "");
  for (std::size_t i = 0; i < source.paths.size(); ++i) {
    const fs::path& path = source.paths[i];
    TextDigest of_path;
    of_path.path = path.string();
    std::vector<std::string> of_files;
    for (const fs::path& file : text_files(path).files) {
      require_not_an_output(file, outputs);
      of_files.push_back(xxh3_128_of_file(file, stop_if_interrupted));
      of_path.bytes += static_cast<int64_t>(fs::file_size(file));
      repeated.add_file(side, file.string(), of_files.back());
      const auto format = format_of(file, source.format_of_path(i), source.text_key).format;
      const bool is_text = format == SampleFormat::kText;
      result.has_samples = result.has_samples || !is_text;
      result.manifest += of_files.back() + " " + format_name(file) +
                         (is_text ? "" : text(" as ", enum_name(format))) + "\n";
    }
    if (const int64_t most = source.of_path(i).max_samples; most > 0) {
      result.manifest += text("the first ", most, "\n");
    }
    of_path.digest =
        fs::is_directory(path) ? xxh3_128(joined(of_files, "\n") + "\n") : of_files.front();
    result.paths.push_back(of_path);
  }
  if (result.has_samples) {
    result.manifest += text(dump_config(source.samples), "longest ", source.longest, "\n");
  }
  return result;
}

/// Stands for how documents are made from text. A loader's order depends on the digests, so another
/// number starts the next epoch of every run that continues.
constexpr int kDocumentRules = 1;

/// The digests that the stores must carry to be current.
struct StoreDigests {
  std::vector<std::string> training, validation;
  std::vector<bool> validation_has_samples;  // of each validation store
};

StoreDigests store_digests(const Corpus& corpus,
                           const Tokenizer& tokenizer,
                           const CorpusFiles& files,
                           std::vector<TextDigest>& training,
                           RepeatedTexts& repeated) {
  const std::string options = text(kDocumentRules,
                                   ' ',
                                   tokenizer.name(),
                                   ' ',
                                   tokenizer.vocab_size(),
                                   ' ',
                                   real_text(corpus.validation_fraction),
                                   '\n');
  StoreDigests result;
  std::string all = options;
  bool trains_samples = false;
  for (const TextSource& source : corpus.training) {
    const auto [paths, manifest, has_samples] =
        digests_of(source, files, RepeatedTexts::Side::kTraining, repeated);
    result.training.push_back(xxh3_128(options + manifest));
    all += manifest;
    training.insert(training.end(), paths.begin(), paths.end());
    trains_samples = trains_samples || has_samples;
  }
  const auto add_validation = [&](const TextSource& source, bool held_back_samples) {
    const auto of_source = digests_of(source, files, RepeatedTexts::Side::kValidation, repeated);
    result.validation.push_back(xxh3_128(all + of_source.manifest));
    result.validation_has_samples.push_back(held_back_samples || of_source.has_samples);
  };
  for (const TextSource& source : corpus.validation) {
    add_validation(source, /*held_back_samples=*/false);
  }
  if (corpus.validation_fraction > 0) {
    add_validation(TextSource{}, trains_samples);
  }
  return result;
}

bool is_current(const fs::path& path, const Tokenizer& tokenizer, const std::string& digest) {
  if (!fs::exists(path)) {
    return false;
  }
  require(is_token_store(path),
          path.string(),
          ": is in the way of a token store but is none; move it or choose another place");
  try {
    const TokenStore store(path);
    return store.matches(tokenizer) && store.sources_digest() == digest;
  } catch (const Error&) {
    return false;  // damaged or of an older format; its text is at hand, so it is built again
  }
}

[[noreturn]] void fail_split(const std::string& sources,
                             double fraction,
                             int64_t validation,
                             int64_t found) {
  fail(sources,
       ": a validation fraction of ",
       fraction,
       " puts ",
       validation,
       " of the ",
       found,
       found == 1 ? " document" : " documents",
       " into validation, and neither side may be empty: change the fraction, give a document "
       "separator, or name validation files");
}

void append(std::vector<std::string>& to, const std::vector<std::string>& lines) {
  to.insert(to.end(), lines.begin(), lines.end());
}

/// What comes out of reading the texts besides the stores.
struct Findings {
  RepeatedTexts repeated;
  std::vector<std::string> notes;
};

std::string why_empty(const DocumentSource& documents) {
  const auto notes = documents.notes();
  return notes.empty() ? "it is empty, or nothing but white space" : joined(notes, "; ");
}

/// Puts each document of a training source where it belongs. Returns how many there are.
int64_t write_source(const TextSource& source,
                     const Tokenizer& tokenizer,
                     double validation_fraction,
                     TokenStoreWriter& training,
                     TokenStoreWriter* validation,
                     Findings& findings) {
  int64_t found = 0;
  bool validates = false;
  const auto documents = open_documents(source, tokenizer);
  for (Document document; documents->next(document); ++found) {
    if (!document.with_previous) {
      validates = validation != nullptr &&
                  is_validation_document(document.content_hash, validation_fraction);
    }
    (validates ? *validation : training).add(document);
    if (!validates && !document.with_previous) {
      findings.repeated.add_document(RepeatedTexts::Side::kTraining, document.content_hash);
    }
  }
  append(findings.notes, documents->notes());
  require(found > 0, name_of(source), ": holds no document (", why_empty(*documents), ")");
  if (training.num_documents() == 0) {
    fail_split(name_of(source), validation_fraction, found, found);
  }
  return found;
}

void write_validation(const TextSource& source,
                      const Tokenizer& tokenizer,
                      TokenStoreWriter& validation,
                      Findings& findings) {
  const auto documents = open_documents(source, tokenizer);
  for (Document document; documents->next(document);) {
    validation.add(document);
    if (!document.with_previous) {
      findings.repeated.add_document(RepeatedTexts::Side::kValidation, document.content_hash);
    }
  }
  append(findings.notes, documents->notes());
  require(validation.num_documents() > 0,
          name_of(source),
          ": the validation corpus is empty (",
          why_empty(*documents),
          ")");
}

int64_t bytes_to_read(const Corpus& corpus) {
  int64_t bytes = 0;
  for (const auto* sources : {&corpus.training, &corpus.validation}) {
    for (const TextSource& source : *sources) {
      bytes += bytes_of(source);
    }
  }
  return bytes;
}

void write_stores(const Corpus& corpus,
                  const Tokenizer& tokenizer,
                  const CorpusFiles& files,
                  const StoreDigests& digests,
                  Findings& findings) {
  const Work work("text prepared", bytes_to_read(corpus), WorkUnit::kBytes);
  const double fraction = corpus.validation_fraction;
  std::vector<std::unique_ptr<TokenStoreWriter>> validation;
  for (std::size_t i = 0; i < validation_stores(corpus); ++i) {
    validation.push_back(std::make_unique<TokenStoreWriter>(
        files.validation[i].store, tokenizer, digests.validation[i]));
  }
  TokenStoreWriter* const held_back = fraction > 0 ? validation.front().get() : nullptr;
  std::vector<std::unique_ptr<TokenStoreWriter>> training;
  int64_t found = 0;
  std::vector<std::string> names;
  for (std::size_t i = 0; i < corpus.training.size(); ++i) {
    names.push_back(name_of(corpus.training[i]));
    training.push_back(
        std::make_unique<TokenStoreWriter>(files.training[i], tokenizer, digests.training[i]));
    found +=
        write_source(corpus.training[i], tokenizer, fraction, *training[i], held_back, findings);
  }
  if (held_back != nullptr && held_back->num_documents() == 0) {
    fail_split(joined(names), fraction, 0, found);
  }
  for (std::size_t i = 0; i < corpus.validation.size(); ++i) {
    write_validation(corpus.validation[i], tokenizer, *validation[i], findings);
  }
  for (const auto& writer : training) {
    writer->commit();
  }
  for (const auto& writer : validation) {
    writer->commit();
  }
}

void write_if_changed(const fs::path& path, const std::string& lines) {
  if (!fs::exists(path) || read_file(path) != lines) {
    write_file_atomically(path, lines);
  }
}

/// Returns how many documents are no UTF-8.
int64_t write_validation_text(const TokenStore& store,
                              const Tokenizer& tokenizer,
                              const fs::path& path) {
  using nlohmann::json;
  std::string lines;
  int64_t not_utf8 = 0;
  for (int64_t document = 0; document < store.num_documents(); ++document) {
    stop_if_interrupted();
    const json line = {{JsonlOptions{}.text_key, tokenizer.decode(store.tokens(document))}};
    try {
      lines += line.dump() + "\n";
    } catch (const json::type_error&) {
      lines += line.dump(-1, ' ', false, json::error_handler_t::replace) + "\n";
      ++not_utf8;
    }
  }
  write_if_changed(path, lines);
  return not_utf8;
}

// Samples have targets, which no text tells.
void write_validation_tokens(const TokenStore& store, const fs::path& path) {
  std::string lines;
  for (int64_t document = 0; document < store.num_documents(); ++document) {
    stop_if_interrupted();
    lines += tokens_line(store.document(document));
  }
  write_if_changed(path, lines);
}

}  // namespace

CorpusBuild build_token_stores(const Corpus& corpus,
                               const Tokenizer& tokenizer,
                               const CorpusFiles& files) {
  const double fraction = corpus.validation_fraction;
  require(0 <= fraction && fraction < 1,
          "the validation fraction must be at least 0 and below 1, got ",
          fraction);
  require(fraction == 0 || corpus.validation.empty(),
          "a validation fraction (",
          fraction,
          ") and validation files were both given; choose one");
  require(files.training.size() == corpus.training.size(),
          "[build_token_stores] ",
          corpus.training.size(),
          " sources need as many stores, got ",
          files.training.size());
  CorpusBuild result;
  Findings findings;
  const StoreDigests digests =
      store_digests(corpus, tokenizer, files, result.training, findings.repeated);
  const std::size_t validation = validation_stores(corpus);
  require(files.validation.size() >= validation,
          "[build_token_stores] ",
          validation,
          " validation sources need as many stores, got ",
          files.validation.size());
  bool current = true;
  for (std::size_t i = 0; i < validation; ++i) {
    current = is_current(files.validation[i].store, tokenizer, digests.validation[i]) && current;
  }
  for (std::size_t i = 0; i < files.training.size(); ++i) {
    // Every file is checked: one that is in the way must be reported before anything is written.
    current = is_current(files.training[i], tokenizer, digests.training[i]) && current;
  }
  if (!current) {
    write_stores(corpus, tokenizer, files, digests, findings);
    result.rebuilt = true;
    result.notes = findings.notes;
    append(result.notes, findings.repeated.notes());
  }
  for (std::size_t i = 0; i < validation; ++i) {
    const auto& [path, text] = files.validation[i];
    const TokenStore store(path);
    if (!store.is_plain() || digests.validation_has_samples[i]) {
      write_validation_tokens(store, text);
    } else {
      result.validation_not_utf8 += write_validation_text(store, tokenizer, text);
    }
  }
  return result;
}

}  // namespace braid
