#include "checkpoint/history.h"

#include <algorithm>
#include <charconv>
#include <string_view>
#include <utility>

#include "checkpoint/manifest.h"
#include "core/error.h"
#include "core/file.h"

namespace braid {
namespace {

namespace fs = std::filesystem;

constexpr std::string_view kPrefix = "step-";

std::optional<int64_t> step_of(const std::string& name) {
  int64_t step = 0;
  if (name.rfind(kPrefix, 0) != 0) {
    return std::nullopt;
  }
  const char* end = name.data() + name.size();
  const auto [stop, error] = std::from_chars(name.data() + kPrefix.size(), end, step);
  return error == std::errc() && stop == end && step >= 0 ? std::optional(step) : std::nullopt;
}

/// Step and folder of every checkpoint, complete or not, newest first.
std::vector<std::pair<int64_t, fs::path>> checkpoint_folders(const fs::path& root) {
  std::vector<std::pair<int64_t, fs::path>> found;
  if (!fs::is_directory(root)) {
    return found;
  }
  for (const auto& item : fs::directory_iterator(root)) {
    if (const auto step = step_of(item.path().filename().string()); step && item.is_directory()) {
      found.emplace_back(*step, item.path());
    }
  }
  std::sort(found.rbegin(), found.rend());
  return found;
}

bool is_complete(const fs::path& folder, std::vector<std::string>* skipped) {
  try {
    check_manifest(folder, Check::kSizes);
    return true;
  } catch (const Error& error) {
    if (skipped != nullptr) {
      skipped->push_back(error.what());
    }
    return false;
  }
}

}  // namespace

std::string checkpoint_folder_name(int64_t step) {
  const std::string digits = std::to_string(step);
  return std::string(kPrefix) + std::string(8 - std::min<std::size_t>(8, digits.size()), '0') +
         digits;
}

std::vector<fs::path> complete_checkpoints(const fs::path& root,
                                           std::vector<std::string>* skipped) {
  std::vector<fs::path> complete;
  for (const auto& [step, folder] : checkpoint_folders(root)) {
    if (is_complete(folder, skipped)) {
      complete.push_back(folder);
    }
  }
  return complete;
}

std::optional<fs::path> newest_complete_checkpoint(const fs::path& root,
                                                   std::vector<std::string>* skipped) {
  for (const auto& [step, folder] : checkpoint_folders(root)) {
    if (is_complete(folder, skipped)) {
      return folder;
    }
  }
  return std::nullopt;
}

std::optional<int64_t> checkpoint_step(const fs::path& folder) {
  return step_of(folder.filename().string());
}

std::vector<fs::path> prune_checkpoints(const fs::path& root,
                                        int64_t keep_last,
                                        int64_t keep_every_steps,
                                        const std::vector<int64_t>& kept_steps) {
  require(keep_last >= 1, "prune_checkpoints: keep_last is ", keep_last, ", expected at least 1");
  std::vector<fs::path> removed;
  int64_t newer = 0;
  for (const auto& folder : complete_checkpoints(root)) {
    const int64_t step = *checkpoint_step(folder);
    const bool kept = (keep_every_steps > 0 && step % keep_every_steps == 0) ||
                      std::ranges::count(kept_steps, step) > 0;
    if (++newer > keep_last && !kept) {
      // Renamed first: a half-removed folder must never look like a checkpoint.
      const fs::path doomed = folder.string() + ".tmp";
      fs::rename(folder, doomed);
      fs::remove_all(doomed);
      removed.push_back(folder);
    }
  }
  return removed;
}

fs::path set_aside(const fs::path& folder, const std::string& why) {
  fs::path name = folder.string() + "." + why;
  for (int i = 2; fs::exists(name); ++i) {
    name = text(folder.string(), ".", why, "-", i);
  }
  fs::rename(folder, name);
  return name;
}

void put_in_place(const fs::path& finished, const fs::path& final) {
  const fs::path old = final.string() + ".old";
  fsync_path(finished);
  if (fs::exists(final)) {
    fs::rename(final, old);
  }
  fs::rename(finished, final);
  fsync_path(final.has_parent_path() ? final.parent_path() : fs::path("."));
  fs::remove_all(old);
}

void note_latest(const fs::path& folder) {
  const fs::path root = folder.has_parent_path() ? folder.parent_path() : fs::path(".");
  write_file_atomically(root / "latest", folder.filename().string() + "\n");
}

void link_best(const fs::path& root, std::optional<int64_t> step) {
  const fs::path link = root / "best", temporary = root / "best.tmp";
  const auto target = step ? checkpoint_folder_name(*step) : std::string();
  std::error_code error;
  if (target.empty() || !fs::is_directory(root / target)) {
    if (fs::is_symlink(link)) {
      fs::remove(link, error);
    }
    return;
  }
  if (fs::read_symlink(link, error) == target) {
    return;
  }
  require(!fs::exists(fs::symlink_status(link)) || fs::is_symlink(link),
          link.string(),
          ": is in the way of a link to the best checkpoint; move it");
  fs::remove(temporary, error);
  fs::create_directory_symlink(target, temporary, error);
  if (!error) {
    fs::rename(temporary, link, error);
  }
  require(!error, link.string(), ": cannot be made a link to ", target, ": ", error.message());
}

void remove_leftovers(const fs::path& root) {
  std::vector<fs::path> leftovers;
  for (const auto& item : fs::directory_iterator(root)) {
    const bool is_checkpoint =
        step_of(item.path().stem().string()).has_value() && item.is_directory();
    if (is_checkpoint && (item.path().extension() == ".tmp" || item.path().extension() == ".old")) {
      leftovers.push_back(item.path());
    }
  }
  for (const auto& leftover : leftovers) {
    const fs::path final = root / leftover.stem();
    if (leftover.extension() == ".old" && !fs::exists(final)) {
      fs::rename(leftover, final);
    } else {
      fs::remove_all(leftover);
    }
  }
}

}  // namespace braid
