#pragma once
// What a sweep notes in the folder of each of its runs, so that the same command runs again only
// what has changed.
#include <filesystem>
#include <functional>
#include <map>
#include <string>
#include <vector>

#include "core/config.h"
#include "data/token_store_build.h"
#include "run/config.h"

namespace braid {

/// What runs are made from beside their configuration: their texts, tokenizer and base, by content.
/// A base (run.init_from) is known by its checkpoint's digests, or by fingerprint_of()
/// (formats/open_model.h).
class InputDigests {
 public:
  /// Reads every path once. Throws Error for a path that cannot be read.
  std::vector<TextDigest> of(const RunConfig& config);

 private:
  const TextDigest& text(const std::string& path);
  const TextDigest& tokenizer(const TokenizerConfig& config);
  const TextDigest& base(const std::string& path);
  const TextDigest& known(const std::string& path, const std::function<TextDigest()>& read);

  std::map<std::string, TextDigest> known_;
};

/// How far the run in a folder is, compared with what it is to be.
struct RunStanding {
  enum class State {
    kNew,       ///< nothing is there
    kBegun,     ///< the same run, to be continued
    kFinished,  ///< the same run, to its end
    kOther      ///< made from something else
  };
  State state = State::kNew;
  std::string why;  ///< kOther: what differs; kBegun: the error that ended it last time, if one did
};

/// Keys that change no result (report/comparison.h) and the folder's place may differ.
RunStanding standing_of(const std::filesystem::path& folder,
                        const RunConfig& config,
                        const std::vector<TextDigest>& inputs);

/// Makes the run's folder with its config.yaml and the record that it has begun. A run of other
/// making is moved into `aside` first. Whenever the process is killed, the next one finds the old
/// run, none, or the new one.
void begin_run(const std::filesystem::path& folder,
               const std::filesystem::path& aside,
               const RunConfig& config,
               const std::vector<TextDigest>& inputs);

/// Notes that the run ended: without an error it is finished.
void end_run(const std::filesystem::path& folder,
             const std::vector<TextDigest>& inputs,
             const std::string& error);

/// The error that ended a sweep's run, as end_run() noted it; "" where none did.
std::string error_of_run(const std::filesystem::path& folder);

}  // namespace braid
