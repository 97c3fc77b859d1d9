#include "data/sample_documents.h"

#include <algorithm>
#include <map>
#include <utility>

#include "core/error.h"
#include "data/json_line.h"

namespace braid {
namespace {

bool may_hold_rows(const std::filesystem::path& file) {
  return is_jsonl(file) || is_json(file);
}

std::string expected_samples(SampleFormat format) {
  return text("expected samples of format ",
              enum_name(format),
              " (data.format; docs/data.md has an example of each); `braid render --check` lists "
              "all that is wrong, data.on_bad_sample: skip leaves such samples out");
}

}  // namespace

FileFormat format_of(const std::filesystem::path& file,
                     SampleFormat asked,
                     const std::string& text_key) {
  if (asked != SampleFormat::kAuto) {
    return {asked};
  }
  if (!may_hold_rows(file)) {
    return {};
  }
  constexpr int kRows = 20;
  std::vector<std::string> keys;
  const auto stream = open_rows(file);
  JsonRows rows(*stream,
                file.string(),
                {.on_bad_line = OnBadLine::kSkip, .may_be_array = true},
                [&keys](std::string_view row) {
                  keys = json_keys(row);
                  return std::string();
                });
  for (int i = 0; i < kRows && rows.next(); ++i) {
    const auto found = guess_format(keys, text_key);
    if (found == SampleFormat::kAuto) {
      continue;
    }
    FileFormat result{found, /*guessed=*/true};
    std::erase(keys, text_key);
    const auto other = guess_format(keys, "");
    if (found == SampleFormat::kText && other != SampleFormat::kAuto &&
        other != SampleFormat::kTokens) {
      result.note = text(file.string(),
                         ": its rows hold samples of format ",
                         enum_name(other),
                         " beside the string under '",
                         text_key,
                         "', and that is read; data.format: ",
                         enum_name(other),
                         " reads the samples");
    }
    return result;
  }
  return {};
}

SourceFormats formats_of(const TextSource& source) {
  SourceFormats result;
  for (std::size_t i = 0; i < source.paths.size(); ++i) {
    std::map<std::pair<SampleFormat, bool>, int64_t> files;
    for (const auto& file : text_files(source.paths[i]).files) {
      auto found = format_of(file, source.format_of_path(i), source.text_key);
      ++files[{found.format, found.guessed}];
      if (!found.note.empty()) {
        result.notes.push_back(std::move(found.note));
      }
    }
    for (const auto& [kind, count] : files) {
      const auto& [format, guessed] = kind;
      if (format == SampleFormat::kText) {
        continue;
      }
      result.samples = true;
      result.pairs = result.pairs || format == SampleFormat::kPreference;
      result.lines.push_back(text(source.paths[i].string(),
                                  ": samples of format ",
                                  enum_name(format),
                                  count == 1 ? "" : text(" in ", count, " files"),
                                  guessed ? " (guessed from the keys; data.format sets it)" : ""));
    }
  }
  return result;
}

SampleDocuments::SampleDocuments(const std::filesystem::path& file,
                                 SampleFormat format,
                                 const TextSource& source,
                                 const Tokenizer& tokenizer)
    : parser_(format, source.samples, tokenizer, source.text_key),
      too_long_(source.samples.too_long),
      longest_(source.longest),
      longest_key_(source.longest_key),
      stream_(open_rows(file)),
      name_(file.string()),
      rows_(*stream_,
            name_,
            {.on_bad_line = source.on_bad_line,
             .may_be_array = true,
             .expected = expected_samples(format)},
            [this](std::string_view row) { return take(row); }) {}

// Into documents_.
std::string SampleDocuments::take(std::string_view row) {
  documents_.clear();
  given_ = 0;
  try {
    auto documents = parser_.parse(row);
    if (fits(documents)) {
      documents_ = std::move(documents);
      for (const Document& document : documents_) {
        masked_messages_ += document.masked_messages;
      }
    }
    ++samples_;
    return {};
  } catch (const SampleError& error) {
    return error.what();
  }
}

// A pair is one sample: its answers share a row.
bool SampleDocuments::fits(std::vector<Document>& documents) {
  int64_t inputs = 0;
  for (const Document& document : documents) {
    inputs += num_inputs(document);
  }
  if (longest_ == 0 || inputs <= longest_) {
    return true;
  }
  ++too_long_samples_;
  if (inputs > most_inputs_) {
    most_inputs_ = inputs;
    longest_place_ = rows_.place();
  }
  require(too_long_ != TooLong::kError,
          rows_.full_place(),
          ": this sample has ",
          inputs,
          " tokens, more than the ",
          longest_,
          " of a sequence (",
          longest_key_,
          "); make sequences longer, or set data.too_long to drop or cut");
  if (too_long_ == TooLong::kDrop) {
    return false;
  }
  // A pair's shorter answer leaves the other one more than half.
  const auto size = static_cast<int64_t>(documents.size());
  for (Document& document : documents) {
    const int64_t others = inputs - num_inputs(document);
    cut_document(document, std::max(longest_ / size, longest_ - others));
  }
  return true;
}

bool SampleDocuments::next(Document& document) {
  while (given_ == documents_.size()) {
    if (!rows_.next()) {
      return false;
    }
  }
  document = std::move(documents_[given_++]);
  return true;
}

std::vector<std::string> SampleDocuments::notes() const {
  std::vector<std::string> notes;
  if (auto note = rows_.note(); !note.empty()) {
    notes.push_back(std::move(note));
  }
  if (too_long_samples_ > 0) {
    notes.push_back(text(name_,
                         too_long_ == TooLong::kCut ? ": cut " : ": left out ",
                         too_long_samples_,
                         " of ",
                         samples_,
                         " samples, which have more than ",
                         longest_,
                         " tokens (",
                         longest_key_,
                         "; data.too_long); the longest, ",
                         longest_place_,
                         ", has ",
                         most_inputs_));
  }
  if (masked_messages_ > 0) {
    notes.push_back(text(name_,
                         ": ",
                         masked_messages_,
                         " messages before the last trained answer of their conversation are not "
                         "trained (data.mask_history)"));
  }
  return notes;
}

}  // namespace braid
