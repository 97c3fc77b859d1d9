#pragma once
// One HTML file that shows a result: opened without a network, read on a laptop, on a phone, on
// paper, and by readers who hear it. Everything is in it, and nothing is fetched. Without a script
// the figures are as they were drawn; report/page.js lets a reader choose axes, smoothing and
// lines, and shows values. It is well-formed XML, too, so that any XML reader can check it.
#include <cstddef>
#include <filesystem>
#include <string>
#include <vector>

#include "report/markup.h"

namespace braid {

/// A cell's text; `mark` is a class of report/page.css, such as "better".
struct TableCell {
  std::string text;
  std::string mark = {};
};

struct PageTable {
  std::string caption;
  std::vector<std::string> titles;  ///< '>' in front of one: numbers, at the right (not shown)
  std::vector<std::vector<TableCell>> rows;
};

class Page {
 public:
  struct Options {
    std::string title;
    std::vector<std::string> x_axes;  ///< names of those that the page's plots have, in order
    std::size_t smoothing = 0;        ///< which of kSmoothing the plots were drawn with
    int refresh_seconds = 0;          ///< how often a browser loads the page again; 0 = never
  };
  explicit Page(Options options);

  /// A line below the title.
  void subtitle(const std::string& text);
  /// What is to be seen first, such as what is wrong with a run.
  void warning(const std::string& text);

  /// Begins a section. One that nothing follows is left out.
  void section(const std::string& title);
  void paragraph(const std::string& text);
  void table(const PageTable& table);
  /// A figure_of() something. Consecutive ones stand side by side where there is room.
  void figure(const std::string& markup);
  /// Text in its own lines, below a title that a reader opens and closes. `begin` comes first,
  /// bold.
  void preformatted(const std::string& title,
                    const std::string& text,
                    bool is_open = false,
                    const std::string& begin = "");

  /// The whole file.
  std::string html() const;

 private:
  struct Section {
    std::string title, content;
    bool in_figures = false;
  };
  Section& current();
  void add(const std::string& markup);

  Options options_;
  std::string head_;
  std::vector<Section> sections_;
};

/// Writes a page as a file that is whole at any time, also for a browser that reads it meanwhile.
/// Throws Error where `path` exists and is no page of Braid's, which it does not replace.
void write_page(const std::filesystem::path& path, const std::string& html);

}  // namespace braid
