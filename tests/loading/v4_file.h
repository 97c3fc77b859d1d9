#pragma once
#include <string>
#include <vector>

#include <nlohmann/json.hpp>

#include "data/bpe_tokenizer.h"

namespace braid::testing {

/// DeepSeek-V4's tokenizer.json (tests/data/tokenizer), decompressed.
std::string v4_tokenizer_json();

/// The tokenizer it makes; read once.
const BpeTokenizer& v4_tokenizer();

/// The lines of a file of tests/data. They end at LF alone.
std::vector<std::string> lines_of(const std::string& file);

/// The objects of a JSONL file of tests/data.
std::vector<nlohmann::json> rows_of(const std::string& file);

}  // namespace braid::testing
