#pragma once
#include <cstdint>
#include <string>
#include <vector>

namespace braid {

/// Finds texts that a corpus holds more than once, as files and as documents, by their digests.
/// Takes eight bytes a document.
class RepeatedTexts {
 public:
  enum class Side { kTraining, kValidation };

  void add_file(Side side, const std::string& path, const std::string& digest);
  void add_document(Side side, uint64_t content_hash);

  /// What is there twice, a line each, for people: files by name, documents by count.
  std::vector<std::string> notes() const;

 private:
  struct File {
    Side side;
    std::string path, digest;
  };
  std::vector<File> files_;
  std::vector<uint64_t> training_, validation_;
};

}  // namespace braid
