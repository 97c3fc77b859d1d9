#include "data/token_store.h"

#include <gtest/gtest.h>

#include "tests/loading/corpus.h"

#define XXH_INLINE_ALL
#include <xxhash.h>

namespace braid::testing {
namespace {

class TokenStoreTest : public CorpusTest {
 protected:
  /// The error of opening a store of "one", "two!" whose bytes `change` has edited.
  template <class Change>
  std::string error_after(Change change) const {
    store_of({"one", "two!"});
    std::string bytes = read_file(training_store());
    change(bytes);
    const std::filesystem::path path = write("changed.tokens", bytes);
    const std::string message = error_of([&] { TokenStore{path}; });
    expect_mentions(message, {path.string()});
    return message;
  }
};

/// Gives the edited bytes the digest they would have had, as a faulty writer would.
void sign(std::string& bytes) {
  const std::size_t digested = bytes.size() - 16;
  const uint64_t digest = XXH3_64bits(bytes.data(), digested);
  bytes.replace(digested, 8, reinterpret_cast<const char*>(&digest), 8);
}

struct OtherTokenizer : ByteTokenizer {
  std::string name() const override { return "other"; }
};

TEST_F(TokenStoreTest, HoldsEveryTokenOfEveryDocument) {
  const std::vector<std::string> documents = {"one", "x", "\xff\xfe and more"};
  const auto store = store_of(documents);
  ASSERT_EQ(store->num_documents(), 3);
  EXPECT_EQ(store->num_tokens(), 3 + 1 + 11);
  EXPECT_EQ(store->text_bytes(), 3 + 1 + 11);
  for (int64_t d = 0; d < 3; ++d) {
    EXPECT_EQ(tokenizer_.decode(store->tokens(d)), documents[static_cast<std::size_t>(d)]);
  }
}

TEST_F(TokenStoreTest, RefusesAFileOfAnyShorterLength) {
  store_of({"one", "two!"});
  const std::string bytes = read_file(training_store());
  for (std::size_t size = 0; size < bytes.size(); ++size) {
    const std::filesystem::path path = write("short.tokens", bytes.substr(0, size));
    expect_mentions(error_of([&] { TokenStore{path}; }),
                    {path.string(), size < 8 ? "not a token store" : "truncated"});
  }
}

TEST_F(TokenStoreTest, RefusesAFileWithAnyByteChanged) {
  store_of({"one", "two!"});
  const std::string bytes = read_file(training_store());
  for (std::size_t i = 0; i < bytes.size(); ++i) {
    std::string changed = bytes;
    changed[i] = static_cast<char>(changed[i] ^ 1);
    const std::filesystem::path path = write("changed.tokens", changed);
    expect_mentions(error_of([&] { TokenStore{path}; }), {path.string()});
  }
}

TEST_F(TokenStoreTest, SaysWhatIsWrong) {
  expect_mentions(error_after([](std::string& bytes) { bytes[10] ^= 4; }), {"altered", "digest"});
  expect_mentions(error_after([](std::string& bytes) { bytes += "more"; }), {"truncated"});
  expect_mentions(
      error_after([](std::string& bytes) { bytes = "plain text, long enough to be anything"; }),
      {"not a token store"});
  expect_mentions(error_after([](std::string& bytes) { bytes[bytes.size() - 128] = 1; }),
                  {"version 1", "version 3"});
}

TEST_F(TokenStoreTest, RefusesWhatAFaultyWriterSigned) {
  const std::size_t documents = 128 - 24, tokens = 128 - 32, text_bytes = 128 - 40;  // from the end
  expect_mentions(error_after([&](std::string& bytes) {
                    bytes[bytes.size() - documents] = 3;
                    sign(bytes);
                  }),
                  {"inconsistent", "3 documents"});
  expect_mentions(error_after([&](std::string& bytes) {
                    bytes[bytes.size() - tokens + 7] = '\xff';
                    sign(bytes);
                  }),
                  {"inconsistent"});
  expect_mentions(error_after([](std::string& bytes) {
                    // The second document's offset of 7 tokens in all; 320 byte lengths follow.
                    bytes[bytes.size() - sizeof(TokenStore::Trailer) - 640 - 16] = 9;
                    sign(bytes);
                  }),
                  {"inconsistent", "document 1"});
  expect_mentions(error_after([](std::string& bytes) {
                    bytes[9] = 1;  // the first token's high byte: an id past 319
                    sign(bytes);
                  }),
                  {"inconsistent", "token 0", "320"});
  expect_mentions(error_after([](std::string& bytes) {
                    bytes[8] = 2;  // the first token: padding
                    sign(bytes);
                  }),
                  {"inconsistent", "6 bytes of text, not 7"});
  expect_mentions(error_after([&](std::string& bytes) {
                    bytes[bytes.size() - text_bytes] = 8;
                    sign(bytes);
                  }),
                  {"inconsistent", "7 bytes of text, not 8"});
}

TEST_F(TokenStoreTest, KnowsWhoseIdsItHolds) {
  const auto store = store_of({"one"});
  EXPECT_EQ(store->tokenizer_name(), "bytes");
  EXPECT_TRUE(store->matches(tokenizer_));
  EXPECT_FALSE(store->matches(OtherTokenizer()));
  EXPECT_EQ(store->begin_id(), tokenizer_.begin_id());
  EXPECT_EQ(store->end_id(), tokenizer_.end_id());
  EXPECT_EQ(store->pad_id(), tokenizer_.pad_id());
  for (int64_t id = 0; id < tokenizer_.vocab_size(); ++id) {
    EXPECT_EQ(store->byte_length(id), tokenizer_.byte_length(id));
  }
}

TEST_F(TokenStoreTest, AFileThatIsCutShortWhileInUseIsAnErrorWithItsName) {
  const auto store = store_of({"one", std::string(100000, 'x')});
  std::filesystem::resize_file(training_store(), 100);
  expect_mentions(error_of([&] { store->tokens(1); }),
                  {training_store().string(), "cut short while it was in use"});
}

TEST_F(TokenStoreTest, AFileThatIsAlteredWhileInUseGivesNoWrongIds) {
  const auto store = store_of({"one"});
  std::string bytes = read_file(training_store());
  bytes[9] = 1;  // the first token's high byte: an id past 319
  std::ofstream(training_store(), std::ios::binary | std::ios::in) << bytes;
  expect_mentions(error_of([&] { store->tokens(0); }),
                  {training_store().string(), "altered while it was in use"});
}

TEST_F(TokenStoreTest, AFileThatIsReplacedOrRemovedStaysReadable) {
  const auto store = store_of({"one"});
  write_file_atomically(training_store(), "something else");
  EXPECT_EQ(tokenizer_.decode(store->tokens(0)), "one");
  std::filesystem::remove(training_store());
  EXPECT_EQ(tokenizer_.decode(store->tokens(0)), "one");
}

TEST_F(TokenStoreTest, NamesAMissingFile) {
  expect_mentions(error_of([&] { TokenStore{folder_ / "absent.tokens"}; }), {"absent.tokens"});
}

}  // namespace
}  // namespace braid::testing
