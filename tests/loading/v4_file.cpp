#include "tests/loading/v4_file.h"

#include <filesystem>
#include <optional>

#include "core/file.h"
#include "data/byte_stream.h"

namespace braid::testing {
namespace {

const std::filesystem::path kTestData = BRAID_TEST_DATA;

}  // namespace

std::string v4_tokenizer_json() {
  const auto file = kTestData / "tokenizer/v4_tokenizer.json.zst";
  const auto stream = decompressed(stream_of_file(file), Compression::kZstd, file.string());
  std::string result;
  for (auto piece = stream->next(); !piece.empty(); piece = stream->next()) {
    result += piece;
  }
  return result;
}

const BpeTokenizer& v4_tokenizer() {
  static const BpeTokenizer tokenizer(v4_tokenizer_json(), std::nullopt, "v4/tokenizer.json");
  return tokenizer;
}

std::vector<std::string> lines_of(const std::string& file) {
  const std::string text = read_file(kTestData / file);
  std::vector<std::string> lines;
  for (std::size_t begin = 0; begin < text.size();) {
    const std::size_t end = std::min(text.find('\n', begin), text.size());
    if (end > begin) {
      lines.push_back(text.substr(begin, end - begin));
    }
    begin = end + 1;
  }
  return lines;
}

std::vector<nlohmann::json> rows_of(const std::string& file) {
  std::vector<nlohmann::json> rows;
  for (const std::string& line : lines_of(file)) {
    rows.push_back(nlohmann::json::parse(line));
  }
  return rows;
}

}  // namespace braid::testing
