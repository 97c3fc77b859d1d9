#include "data/repeated_texts.h"

#include <algorithm>
#include <cstddef>
#include <map>

#include "core/error.h"

namespace braid {

void RepeatedTexts::add_file(Side side, const std::string& path, const std::string& digest) {
  files_.push_back({side, path, digest});
}

void RepeatedTexts::add_document(Side side, uint64_t content_hash) {
  (side == Side::kTraining ? training_ : validation_).push_back(content_hash);
}

std::vector<std::string> RepeatedTexts::notes() const {
  constexpr std::size_t kFew = 3;
  std::vector<std::string> result;
  std::map<std::string, const File*> known;
  std::size_t repeated = 0;
  for (const File& file : files_) {
    const auto [at, is_new] = known.emplace(file.digest, &file);
    if (is_new || ++repeated > kFew) {
      continue;
    }
    const File& first = *at->second;
    const bool across = first.side != file.side;
    result.push_back(text(file.path,
                          " holds the same text as ",
                          first.path,
                          across
                              ? "; the one is to train on, the other to validate: the validation "
                                "loss says little about new text"
                              : ", which counts it twice"));
  }
  if (repeated > kFew) {
    result.push_back(
        text("... and ", repeated - kFew, " more files hold the same text as another"));
  }

  auto training = training_;
  std::sort(training.begin(), training.end());
  const auto distinct = std::unique(training.begin(), training.end()) - training.begin();
  if (const auto twice = static_cast<int64_t>(training.size()) - distinct; twice > 0) {
    result.push_back(
        text(twice, " of ", training.size(), " documents are the same as another one"));
  }
  const auto end = training.begin() + distinct;
  const auto shared = std::count_if(validation_.begin(), validation_.end(), [&](uint64_t hash) {
    return std::binary_search(training.begin(), end, hash);
  });
  if (shared > 0) {
    result.push_back(text(
        shared, " of ", validation_.size(), " validation documents are training documents, too"));
  }
  return result;
}

}  // namespace braid
