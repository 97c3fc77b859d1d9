#include "report/comparison_files.h"

#include <utility>

#include "core/file.h"
#include "core/own_folder.h"
#include "report/comparison_page.h"

namespace braid {

std::vector<std::filesystem::path> write_comparison(const Comparison& comparison,
                                                    const std::filesystem::path& folder) {
  make_own_folder(folder, "choose another folder for the comparison");
  std::vector<std::filesystem::path> paths;
  for (const auto& [name, contents] : {std::pair{"comparison.md", comparison_markdown(comparison)},
                                       std::pair{"comparison.html", comparison_page(comparison)},
                                       std::pair{"comparison.csv", comparison_csv(comparison)},
                                       std::pair{"runs.csv", comparison_runs_csv(comparison)},
                                       std::pair{"comparison.json", comparison_json(comparison)}}) {
    paths.push_back(folder / name);
    write_file_atomically(paths.back(), contents);
  }
  return paths;
}

}  // namespace braid
