#pragma once
#include <filesystem>
#include <fstream>
#include <memory>
#include <string>
#include <vector>

#include <gtest/gtest.h>
#include <unistd.h>

#include "core/error.h"
#include "data/byte_tokenizer.h"
#include "data/text_documents.h"
#include "data/token_store.h"
#include "data/token_store_build.h"
#include "data/token_store_writer.h"

namespace braid::testing {

/// A folder of its own for each test, removed with the test.
class CorpusTest : public ::testing::Test {
 protected:
  CorpusTest() {
    const auto* test = ::testing::UnitTest::GetInstance()->current_test_info();
    folder_ = std::filesystem::temp_directory_path() /
              text("braid-", ::getpid(), "-", test->test_suite_name(), "-", test->name());
    std::filesystem::create_directories(folder_);
  }
  ~CorpusTest() override { std::filesystem::remove_all(folder_); }

  std::filesystem::path write(const std::string& name, const std::string& contents) const {
    const std::filesystem::path path = folder_ / name;
    std::filesystem::create_directories(path.parent_path());
    std::ofstream(path, std::ios::binary) << contents;
    return path;
  }

  /// A store of exactly these documents, in this order.
  std::unique_ptr<TokenStore> store_of(const std::vector<std::string>& documents) const {
    TokenStoreWriter writer(training_store(), tokenizer_, std::string(32, '0'));
    for (const std::string& document : documents) {
      writer.add(text_document(document, tokenizer_));
    }
    writer.commit();
    return std::make_unique<TokenStore>(training_store());
  }

  std::filesystem::path training_store() const { return folder_ / "training.tokens"; }
  CorpusFiles files() const {
    return {{training_store()}, {{folder_ / "validation.tokens", folder_ / "validation.jsonl"}}};
  }

  std::filesystem::path folder_;
  ByteTokenizer tokenizer_;
};

/// The message of the Error that `action` throws; fails the test when it throws none.
template <class Action>
std::string error_of(Action action) {
  try {
    action();
  } catch (const Error& error) {
    return error.what();
  }
  ADD_FAILURE() << "expected an Error";
  return "";
}

inline void expect_mentions(const std::string& message, const std::vector<std::string>& parts) {
  for (const std::string& part : parts) {
    EXPECT_NE(message.find(part), std::string::npos)
        << "'" << message << "' does not mention '" << part << "'";
  }
}

}  // namespace braid::testing
