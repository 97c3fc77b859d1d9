#include "data/bpe_tokenizer.h"

#include <numeric>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "core/error.h"
#include "core/file.h"
#include "data/byte_tokenizer.h"
#include "tests/loading/corpus.h"
#include "tests/loading/v4_file.h"

namespace braid::testing {
namespace {

using nlohmann::json;

int64_t bytes_of(const std::vector<int64_t>& ids, const Tokenizer& tokenizer) {
  return std::accumulate(ids.begin(), ids.end(), int64_t{0}, [&](int64_t sum, int64_t id) {
    return sum + tokenizer.byte_length(id);
  });
}

TEST(V4Tokenizer, GivesTheIdsOfHuggingFace) {
  const auto rows = rows_of("tokenizer/v4_ids.jsonl");
  ASSERT_EQ(rows.size(), 400u);
  for (const json& row : rows) {
    const std::string text = row["text"];
    EXPECT_EQ(v4_tokenizer().encode_spelled(text), row["ids"].get<std::vector<int64_t>>())
        << row["tag"] << " " << row["text"];
    EXPECT_EQ(v4_tokenizer().decode(row["ids"], SpecialTokens::kSpell), text);
    const auto plain = v4_tokenizer().encode(text);
    EXPECT_EQ(v4_tokenizer().decode(plain), text);
    EXPECT_EQ(bytes_of(plain, v4_tokenizer()), static_cast<int64_t>(text.size()));
  }
}

TEST(V4Tokenizer, IsNamedByItsFileAndKnowsItsSpecialTokens) {
  EXPECT_EQ(v4_tokenizer().name(), "v4-" + xxh3_128(v4_tokenizer_json()).substr(0, 16));
  EXPECT_EQ(v4_tokenizer().vocab_size(), 129280);
  EXPECT_EQ(v4_tokenizer().begin_id(), 0);
  EXPECT_EQ(v4_tokenizer().end_id(), 1);
  EXPECT_EQ(v4_tokenizer().pad_id(), 2);
  EXPECT_EQ(v4_tokenizer().special_id("<｜User｜>"), 128803);
  EXPECT_EQ(v4_tokenizer().special_id("<think>"), 128821);
  EXPECT_EQ(v4_tokenizer().special_id("think"), std::nullopt);
  EXPECT_THROW(v4_tokenizer().decode({129280}), Error);
  EXPECT_THROW(v4_tokenizer().byte_length(-1), Error);
}

TEST(V4Tokenizer, NoSpellingOfASpecialTokenInATextBecomesOne) {
  const json file = json::parse(v4_tokenizer_json());
  const json& added = file["added_tokens"];
  ASSERT_EQ(added.size(), 1283u);
  for (const json& token : added) {
    const std::string spelling = token["content"];
    const int64_t id = token["id"];
    EXPECT_EQ(v4_tokenizer().special_id(spelling), id);
    EXPECT_EQ(v4_tokenizer().byte_length(id), 0);
    EXPECT_EQ(v4_tokenizer().encode_spelled(spelling), std::vector{id});
    for (const int64_t plain : v4_tokenizer().encode("a " + spelling + "b")) {
      EXPECT_GT(v4_tokenizer().byte_length(plain), 0) << spelling;
    }
    EXPECT_EQ(v4_tokenizer().decode({id}), "");
  }
}

TEST(V4Tokenizer, KeepsBytesThatAreNoUtf8) {
  for (const std::string text :
       {"\xFF", "a\xC3", "\x80\x80 b", "x\xED\xA0\x80y", "日\xE6\x97 本"}) {
    const auto ids = v4_tokenizer().encode(text);
    EXPECT_EQ(v4_tokenizer().decode(ids), text);
    EXPECT_EQ(bytes_of(ids, v4_tokenizer()), static_cast<int64_t>(text.size()));
  }
}

// Quadratic ways take minutes for these.
TEST(V4Tokenizer, TakesAMegabyteOfOneCharacter) {
  for (const std::string character : {"a", " ", "\n", "=", "一", "1", "\x01", "\xFF"}) {
    std::string text;
    while (text.size() < (1 << 20)) {
      text += character;
    }
    EXPECT_EQ(v4_tokenizer().decode(v4_tokenizer().encode(text)), text) << character;
  }
}

TEST(V4Tokenizer, GivesTheSameIdsOnManyThreads) {
  const auto rows = rows_of("tokenizer/v4_ids.jsonl");
  const auto encode_all = [&rows](std::vector<std::vector<int64_t>>& all) {
    for (const json& row : rows) {
      all.push_back(v4_tokenizer().encode_spelled(row["text"].get_ref<const std::string&>()));
    }
  };
  std::vector<std::vector<std::vector<int64_t>>> results(4);
  std::vector<std::thread> threads;
  for (auto& result : results) {
    threads.emplace_back([&] { encode_all(result); });
  }
  for (auto& thread : threads) {
    thread.join();
  }
  for (const auto& result : results) {
    EXPECT_EQ(result, results[0]);
  }
  EXPECT_EQ(results[0][20], rows[20]["ids"].get<std::vector<int64_t>>());
}

/// A small file that is complete, to be changed.
json small_file() {
  return json::parse(byte_tokenizer_json());
}

BpeTokenizer tokenizer_of(const json& file, std::optional<std::string> config = {}) {
  return {file.dump(), config, "some/tokenizer.json"};
}

TEST(BpeTokenizer, TheBytesAsAFileGiveTheSameIds) {
  const ByteTokenizer bytes;
  const BpeTokenizer file(byte_tokenizer_json(), byte_tokenizer_config_json(), "tokenizer.json");
  EXPECT_EQ(file.vocab_size(), bytes.vocab_size());
  EXPECT_EQ(file.begin_id(), bytes.begin_id());
  EXPECT_EQ(file.end_id(), bytes.end_id());
  EXPECT_EQ(file.pad_id(), bytes.pad_id());
  std::string text = "<｜User｜>Hallo, Welt<think>日本</think><｜end▁of▁sentence｜>";
  for (int byte = 0; byte < 256; ++byte) {
    text += static_cast<char>(byte);
  }
  EXPECT_EQ(file.encode(text), bytes.encode(text));
  EXPECT_EQ(file.encode_spelled(text), bytes.encode_spelled(text));
  EXPECT_LT(bytes.encode_spelled(text).size(), bytes.encode(text).size());
  for (int64_t id = 0; id < bytes.vocab_size(); ++id) {
    EXPECT_EQ(file.byte_length(id), bytes.byte_length(id));
    EXPECT_EQ(file.decode({id}, SpecialTokens::kSpell), bytes.decode({id}, SpecialTokens::kSpell));
  }
  EXPECT_EQ(bytes.special_id("｜DSML｜"), 263);
  EXPECT_EQ(file.special_id("｜DSML｜"), 263);
}

TEST(BpeTokenizer, MergesAsTheFileRanksThem) {
  json file = small_file();
  file["model"]["vocab"].update({{"ab", 320}, {"bc", 321}, {"abc", 322}, {"Ġa", 323}});
  file["model"]["merges"] = {"b c", json::array({"a", "b"}), "a bc", "Ġ a"};
  const auto tokenizer = tokenizer_of(file);
  EXPECT_EQ(tokenizer.encode("abc ab"), (std::vector<int64_t>{322, 3 + ' ', 320}));
  EXPECT_EQ(tokenizer.encode("bcab"), (std::vector<int64_t>{321, 320}));
  EXPECT_EQ(tokenizer.decode({322, 323}), "abc a");
  file["model"]["vocab"]["aa"] = 324;
  file["model"]["ignore_merges"] = true;
  EXPECT_EQ(tokenizer_of(file).encode("aa"), (std::vector<int64_t>{324}));
  EXPECT_EQ(tokenizer_of(file).encode("aab"), (std::vector<int64_t>{3 + 'a', 320}));
}

TEST(BpeTokenizer, TakesSpacesIntoAddedTokensThatStripThem) {
  json file = small_file();
  file["added_tokens"].push_back(
      {{"id", 320}, {"content", "<m>"}, {"lstrip", true}, {"rstrip", true}});
  file["added_tokens"].push_back({{"id", 321}, {"content", "<m>x"}, {"normalized", true}});
  const auto tokenizer = tokenizer_of(file);
  EXPECT_EQ(tokenizer.encode_spelled("a \u3000<m>\n b"),
            (std::vector<int64_t>{3 + 'a', 320, 3 + 'b'}));
  EXPECT_EQ(tokenizer.encode_spelled("<m> <m>"), (std::vector<int64_t>{320, 320}));
  EXPECT_EQ(tokenizer.encode_spelled("<m>x"), (std::vector<int64_t>{321}));  // the longest
}

TEST(BpeTokenizer, AddedTokensOfWhiteSpaceAreText) {
  json file = small_file();
  file["added_tokens"].push_back({{"id", 320}, {"content", "    "}, {"normalized", true}});
  const auto tokenizer = tokenizer_of(file);
  EXPECT_EQ(tokenizer.encode("     a"), (std::vector<int64_t>{320, 3 + ' ', 3 + 'a'}));
  EXPECT_EQ(tokenizer.byte_length(320), 4);
  EXPECT_EQ(tokenizer.decode({320}), "    ");
}

TEST(BpeTokenizer, TokenizerConfigNamesTheEndOfOtherModels) {
  json file = small_file();
  file["added_tokens"].erase(1);
  file["model"]["vocab"].erase("<｜end▁of▁sentence｜>");
  file["added_tokens"].push_back({{"id", 1}, {"content", "<|endoftext|>"}, {"special", true}});
  file["added_tokens"].push_back({{"id", 320}, {"content", "<s>"}, {"special", true}});
  const auto with = [&](const std::string& config) { return tokenizer_of(file, config); };
  const auto tokenizer = with(R"({"eos_token": "<|endoftext|>", "bos_token": null})");
  EXPECT_EQ(tokenizer.begin_id(), 1);
  EXPECT_EQ(tokenizer.end_id(), 1);
  EXPECT_EQ(tokenizer.pad_id(), 1);
  EXPECT_EQ(with(R"({"eos_token": "<|endoftext|>", "bos_token": {"content": "<s>"}})").begin_id(),
            320);
  const auto message = [&](const std::optional<std::string>& config) {
    return error_of([&] { tokenizer_of(file, config); });
  };
  expect_mentions(message({}), {"some/tokenizer.json", "tokenizer_config.json", "eos_token"});
  expect_mentions(message("{}"), {"some/tokenizer.json", "has no eos_token"});
  expect_mentions(message("[1"), {"some/tokenizer.json", "no JSON object"});
  expect_mentions(message(R"({"eos_token": 3})"), {"eos_token", "number", "expected a string"});
  expect_mentions(message(R"({"eos_token": "</s>"})"), {"'</s>'", "eos_token", "no added token"});
}

struct BadFile {
  const char* pointer;  // what is replaced
  json value;
  std::vector<std::string> mentions;
};

TEST(TokenizerJson, RefusesWhatIsMalformedOrNotSupportedWithItsPath) {
  const std::vector<BadFile> bad = {
      {"/model", 3, {"model: is number; expected an object"}},
      {"/model", nullptr, {"model: is missing"}},
      {"/model/type", "Unigram", {"model.type", "'Unigram' is not supported", "'BPE'"}},
      {"/model/dropout", 0.1, {"model.dropout", "0.1"}},
      {"/model/byte_fallback", true, {"model.byte_fallback"}},
      {"/model/byte_fallback", "yes", {"model.byte_fallback: is string; expected true or false"}},
      {"/model/end_of_word_suffix", "</w>", {"model.end_of_word_suffix", "</w>"}},
      {"/model/continuing_subword_prefix", "##", {"model.continuing_subword_prefix", "##"}},
      {"/model/vocab", json::array(), {"model.vocab: is array; expected an object"}},
      {"/model/vocab/a", -1, {"model.vocab[\"a\"]: is -1; expected an id in 0..4194303"}},
      {"/model/vocab/a", 1.5, {"model.vocab[\"a\"]: is number; expected a whole number"}},
      {"/model/vocab/a", 1e9, {"model.vocab[\"a\"]"}},
      {"/model/vocab/a", uint64_t{1} << 22, {"model.vocab[\"a\"]: is 4194304"}},
      {"/model/vocab/a", "5", {"model.vocab[\"a\"]"}},
      {"/model/vocab/a", 5, {"model.vocab", "has the id 5, which another token has too"}},
      {"/model/vocab", {{"a", 1}}, {"model.vocab", "stands for the byte 0"}},
      {"/model/merges",
       json::array({json::array({"a", "b"})}),
       {"model.merges[0]: 'ab' is not in the vocabulary"}},
      {"/model/merges", json::array({"a"}), {"model.merges[0]: is \"a\"; expected"}},
      {"/model/merges", json::array({json::array({"a", 2})}), {"model.merges[0]: is [\"a\",2]"}},
      {"/model/merges", "a b", {"model.merges: is string; expected a list"}},
      {"/added_tokens", 5, {"added_tokens: is number"}},
      {"/added_tokens/3", 5, {"added_tokens[3]: is number; expected an object"}},
      {"/added_tokens/3/id", nullptr, {"added_tokens[3].id: is missing; expected a whole number"}},
      {"/added_tokens/3/content", "", {"added_tokens[3].content: is empty"}},
      {"/added_tokens/3/content", "<think>", {"added_tokens[5].content: '<think>' comes twice"}},
      {"/added_tokens/3/id", 70, {"added_tokens[3].id: has the id 70, which another token"}},
      {"/added_tokens/3/content", "a", {"added_tokens[3].id: is 259, but 'a' has the id 100"}},
      {"/added_tokens/3",
       {{"id", 100}, {"content", "a"}},
       {"added_tokens[3].content: 'a' is also what text becomes"}},
      {"/added_tokens/0/id", 70, {"added_tokens[0].id: is 70, but", "has the id 0"}},
      {"/added_tokens/3/single_word", true, {"added_tokens[3].single_word"}},
      {"/normalizer", {{"type", "NFC"}}, {"normalizer.type: 'NFC' is not supported"}},
      {"/normalizer",
       {{"type", "Sequence"}, {"normalizers", {{{"type", "Lowercase"}}}}},
       {"normalizer.normalizers[0].type: 'Lowercase'"}},
      {"/pre_tokenizer", nullptr, {"pre_tokenizer: is missing"}},
      {"/pre_tokenizer", {{"type", "Whitespace"}}, {"pre_tokenizer.type: 'Whitespace'"}},
      {"/pre_tokenizer",
       {{"type", "Sequence"}, {"pretokenizers", json::array()}},
       {"pre_tokenizer: holds no ByteLevel"}},
      {"/pre_tokenizer/add_prefix_space", true, {"pre_tokenizer.add_prefix_space: is true"}},
      {"/post_processor", {{"type", "BertProcessing"}}, {"post_processor.type: 'BertProcessing'"}},
      {"/decoder", {{"type", "WordPiece"}}, {"decoder.type: 'WordPiece'"}},
  };
  for (const BadFile& change : bad) {
    json file = small_file();
    file[json::json_pointer(change.pointer)] = change.value;
    auto mentions = change.mentions;
    mentions.emplace_back("some/tokenizer.json: ");
    SCOPED_TRACE(change.pointer + (" = " + change.value.dump()));
    expect_mentions(error_of([&] { tokenizer_of(file); }), mentions);
  }
  for (const std::string broken : {"", "{", "[1, 2", "\xFF{}", "{\"model\": {}} x"}) {
    expect_mentions(error_of([&] { BpeTokenizer(broken, {}, "some/tokenizer.json"); }),
                    {"some/tokenizer.json", "is not valid JSON at byte"});
  }
  expect_mentions(error_of([] { BpeTokenizer("[]", {}, "some/tokenizer.json"); }),
                  {"some/tokenizer.json: is array; expected an object"});
}

TEST(TokenizerJson, RefusesSplitsThatItDoesNotKnow) {
  const auto message = [](const json& change) {
    json split = {{"type", "Split"}, {"pattern", {{"Regex", "a"}}}, {"behavior", "Isolated"}};
    split.update(change);
    json file = small_file();
    const json byte_level = file["pre_tokenizer"];
    file["pre_tokenizer"] = {{"type", "Sequence"}, {"pretokenizers", {split, byte_level}}};
    return error_of([&] { tokenizer_of(file); });
  };
  const std::string at = "some/tokenizer.json: pre_tokenizer.pretokenizers[0].";
  expect_mentions(message({{"behavior", "Removed"}}), {at + "behavior: 'Removed'"});
  expect_mentions(message({{"invert", true}}), {at + "invert: is true"});
  expect_mentions(message({{"pattern", "a"}}), {at + "pattern: is string"});
  expect_mentions(message({{"pattern", json::object()}}), {at + "pattern.String: is missing"});
  expect_mentions(message({{"pattern", {{"Regex", "\\h"}}}}), {at + "pattern.Regex: ", "\\h"});
  expect_mentions(message({{"pattern", {{"Regex", "(a"}}}}), {at + "pattern.Regex: ", "PCRE2"});
}

}  // namespace
}  // namespace braid::testing
