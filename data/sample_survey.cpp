#include "data/sample_survey.h"

#include <algorithm>

#include "core/error.h"
#include "core/interruption.h"

namespace braid {
namespace {

void require_rows(const std::filesystem::path& file, SampleFormat format) {
  require(format != SampleFormat::kText || is_jsonl(file),
          file.string(),
          ": is plain text, of which every token is trained; expected JSONL or a JSON array");
}

/// Adds the rows of one file.
class FileSurvey {
 public:
  FileSurvey(const std::filesystem::path& file,
             SampleFormat format,
             const TextSource& source,
             const Tokenizer& tokenizer,
             SampleSurvey& survey)
      : parser_(format, source.samples, tokenizer, source.text_key),
        // Text is divided, whatever its length.
        longest_(format == SampleFormat::kText ? 0 : source.longest),
        too_long_(source.samples.too_long),
        survey_(survey),
        stream_(open_rows(file)),
        rows_(*stream_,
              file.string(),
              {.on_bad_line = OnBadLine::kSkip, .may_be_array = true},
              [this](std::string_view row) { return take(row); }) {}

  void read(int64_t most) {
    for (int64_t samples = 0; (most == 0 || samples < most) && rows_.next(); ++samples) {
      stop_if_interrupted();
    }
    if (rows_.num_bad() > faults_) {  // take() has not seen them
      survey_.problems["longer than a row may be"].count += rows_.num_bad() - faults_;
      survey_.problems["longer than a row may be"].first = rows_.note();
    }
  }

 private:
  std::string take(std::string_view row) {
    try {
      auto documents = parser_.parse(row);
      look_at(documents);
      ++survey_.samples;
    } catch (const SampleError& error) {
      ++faults_;
      add_problem(name_of(error.fault()), text(rows_.full_place(), ": ", error.what()));
      return error.what();
    }
    return {};
  }

  void look_at(std::vector<Document>& documents) {
    int64_t most = 0;
    for (const Document& document : documents) {
      const int64_t length = 1 + num_inputs(document);
      most = std::max(most, num_inputs(document));
      survey_.lengths.push_back(length);
      survey_.tokens += length;
    }
    if (longest_ > 0 && most > longest_) {
      ++survey_.too_long;
      if (too_long_ == TooLong::kError) {
        add_problem("longer than a sequence",
                    text(rows_.full_place(), ": has ", most, " tokens, more than ", longest_));
      }
      if (too_long_ != TooLong::kCut) {
        return;
      }
      for (Document& document : documents) {
        cut_document(document, longest_);
      }
    }
    for (const Document& document : documents) {
      for (const auto& [begin, end, weight] : document.targets) {
        survey_.trained_tokens += end - begin;
        survey_.trained_weight += static_cast<double>(weight) * static_cast<double>(end - begin);
      }
    }
  }

  void add_problem(const std::string& kind, std::string place) {
    auto& problem = survey_.problems[kind];
    if (problem.count++ == 0) {
      problem.first = std::move(place);
    }
  }

  SampleParser parser_;
  int64_t longest_;
  TooLong too_long_;
  SampleSurvey& survey_;
  int64_t faults_ = 0;
  std::unique_ptr<TextStream> stream_;
  JsonRows rows_;
};

}  // namespace

int64_t SampleSurvey::length_at(double share) const {
  if (lengths.empty()) {
    return 0;
  }
  const double last = static_cast<double>(lengths.size() - 1);
  return lengths[static_cast<std::size_t>(share * last + 0.5)];
}

SampleSurvey survey_samples(const TextSource& source, const Tokenizer& tokenizer) {
  SampleSurvey survey;
  for (std::size_t i = 0; i < source.paths.size(); ++i) {
    for (const auto& file : text_files(source.paths[i]).files) {
      const auto format = format_of(file, source.format_of_path(i), source.text_key).format;
      require_rows(file, format);
      FileSurvey(file, format, source, tokenizer, survey).read(source.of_path(i).max_samples);
    }
  }
  std::sort(survey.lengths.begin(), survey.lengths.end());
  return survey;
}

std::vector<Document> documents_of_row(const std::filesystem::path& file,
                                       int64_t number,
                                       const SampleParser& parser) {
  require_rows(file, parser.format());
  const auto stream = open_rows(file);
  std::string row;
  JsonRows rows(*stream,
                file.string(),
                {.on_bad_line = OnBadLine::kSkip, .may_be_array = true},
                [&row](std::string_view line) {
                  row = line;
                  return std::string();
                });
  while (rows.next()) {
    if (rows.number() != number) {
      require(rows.number() < number, file.string(), ": line ", number, " is blank");
      continue;
    }
    try {
      return parser.parse(row);
    } catch (const SampleError& error) {
      fail(rows.full_place(),
           ": this ",
           rows.is_array() ? "item " : "line ",
           error.what(),
           " (read as format ",
           enum_name(parser.format()),
           ")");
    }
  }
  fail(file.string(), ": has no row ", number, "; its last one is ", rows.number() - 1);
}

}  // namespace braid
