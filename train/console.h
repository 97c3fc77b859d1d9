#pragma once
#include <filesystem>
#include <fstream>
#include <string>

namespace braid {

/// What a run tells people: lines on standard output and in log.txt, and one progress line that is
/// rewritten in place on a terminal.
class Console {
 public:
  explicit Console(const std::filesystem::path& log_file);
  ~Console();

  void line(const std::string& text);
  /// A terminal shows every call; elsewhere only those marked `keep` are printed.
  void progress(const std::string& text, bool keep);

 private:
  void end_progress();

  std::ofstream log_;
  bool terminal_;
  bool progress_shown_ = false;
};

/// "1h02m", "3m05s", "12s".
std::string duration_text(double seconds);

}  // namespace braid
