#pragma once
#include <filesystem>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "data/added_tokens.h"
#include "data/bpe_merges.h"
#include "data/splitter.h"
#include "data/tokenizer.h"

namespace braid {

struct TokenizerJson;

/// Byte-level BPE out of a Hugging Face tokenizer.json; what is supported: parse_tokenizer_json().
/// Added tokens are special tokens, all of them, whatever the file calls them, except those of
/// white space alone, which are text. Bytes that are no UTF-8 are kept, as pieces of their own.
///
/// encode() may be called from any number of threads at once.
class BpeTokenizer : public Tokenizer {
 public:
  /// `name` stands for the file in messages. `config_json`: what tokenizer_config.json holds, which
  /// names the begin, end and padding tokens of a file that has not V4's. Throws Error where either
  /// is malformed or not supported, and where no end token is named.
  BpeTokenizer(std::string_view tokenizer_json,
               const std::optional<std::string>& config_json,
               const std::string& name);
  ~BpeTokenizer() override;

  /// "v4-", or "bpe-" where the pieces are cut by PCRE2, and 16 digits of the file's digest.
  std::string name() const override { return name_; }
  int64_t vocab_size() const override { return static_cast<int64_t>(entries_.size()); }
  int64_t begin_id() const override { return begin_id_; }
  int64_t end_id() const override { return end_id_; }
  int64_t pad_id() const override { return pad_id_; }

  std::vector<int64_t> encode(std::string_view text) const override;
  std::vector<int64_t> encode_spelled(std::string_view text) const override;
  std::optional<int64_t> special_id(std::string_view spelling) const override;
  std::string decode(const std::vector<int64_t>& ids,
                     SpecialTokens special = SpecialTokens::kDrop) const override;
  int64_t byte_length(int64_t id) const override;

 private:
  class PieceEncoder;
  struct Workspace;

  BpeTokenizer(TokenizerJson file,
               const std::string& digest,
               const std::optional<std::string>& config_json,
               const std::string& name);

  static std::unique_ptr<Splitter> splitter_of(const TokenizerJson& file);
  void choose_special_ids(const std::optional<std::string>& config_json, const std::string& name);
  void encode_stretch(std::string_view text, Workspace& workspace, std::vector<int64_t>& ids) const;
  std::unique_ptr<Workspace> borrow_workspace() const;
  void return_workspace(std::unique_ptr<Workspace> workspace) const;
  void check_id(int64_t id) const;

  std::string name_;
  std::vector<std::string> entries_;
  std::vector<bool> special_;  // by id
  BpeMerges merges_;
  std::unordered_map<std::string_view, uint32_t> whole_pieces_;  // into entries_; ignore_merges
  std::unordered_map<std::string_view, int64_t> special_ids_;    // into entries_
  std::unique_ptr<Splitter> splitter_;
  AddedTokenFinder raw_, normalized_, spaces_;
  int64_t begin_id_ = 0, end_id_ = 0, pad_id_ = 0;

  mutable std::mutex mutex_;  // guards what follows
  mutable std::vector<std::unique_ptr<Workspace>> workspaces_;
};

/// `path`: a tokenizer.json, or a folder that has one. A tokenizer_config.json beside it is read
/// too. Throws Error as the constructor does.
std::unique_ptr<BpeTokenizer> read_bpe_tokenizer(const std::filesystem::path& path);

}  // namespace braid
