#pragma once
#include <filesystem>
#include <fstream>
#include <string>

namespace braid {

/// What a run tells people: lines on standard output and in log.txt, and one progress line that is
/// rewritten in place on a terminal.
class Console {
 public:
  /// One that says nothing: of all ranks only the first speaks.
  Console() = default;
  /// `may_be_terminal`: whether standard output reaches a person as it is written; mpirun hands
  /// ranks a terminal and collects what they write there.
  explicit Console(const std::filesystem::path& log_file, bool may_be_terminal = true);
  ~Console();

  void line(const std::string& text);
  /// A terminal shows every call; elsewhere only those marked `keep` are printed.
  void progress(const std::string& text, bool keep);

 private:
  void end_progress();

  bool speaks_ = false;
  std::ofstream log_;
  bool terminal_ = false;
  bool progress_shown_ = false;
};

/// "1h02m", "3m05s", "12s".
std::string duration_text(double seconds);

}  // namespace braid
