#pragma once
#include <filesystem>
#include <fstream>
#include <string>

namespace braid {

/// What a run prints for people: lines on standard output and in its log file, and one progress
/// line that is rewritten in place on a terminal. Neither needs to be writable: a reader that went
/// away, a closed descriptor, a full disk end no run.
class Console {
 public:
  /// Disabled: prints nothing. Of several ranks only rank 0 prints.
  Console() = default;
  /// `may_be_terminal`: false where standard output looks like a terminal but is not read as one:
  /// mpirun gives ranks a terminal and collects what they write there.
  explicit Console(const std::filesystem::path& log_file, bool may_be_terminal = true);
  ~Console();

  void line(const std::string& text);
  /// A terminal shows every call; elsewhere only those marked `keep` are printed.
  void progress(const std::string& text, bool keep);

 private:
  void end_progress();
  void log(const std::string& text);

  bool enabled_ = false;
  std::ofstream log_;
  bool terminal_ = false;
  bool progress_shown_ = false;
};

/// "1h02m", "3m05s", "12s".
std::string duration_text(double seconds);

}  // namespace braid
