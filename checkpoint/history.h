#pragma once
// The folder that holds the checkpoints of one run: step-00001000, step-00002000, ...
#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

namespace braid {

/// "step-00001000" for 1000.
std::string checkpoint_folder_name(int64_t step);

/// The checkpoint of the highest step that is complete: COMPLETE is sound and every file has its
/// size (load_checkpoint() compares the digests). Nothing when there is none, or no such folder.
/// Each newer one that is not complete adds its reason to `skipped`.
std::optional<std::filesystem::path> newest_complete_checkpoint(
    const std::filesystem::path& root, std::vector<std::string>* skipped = nullptr);

/// Removes all but the newest `keep_last` complete checkpoints (at least 1) and returns those
/// removed. Incomplete ones are left for people to look at.
std::vector<std::filesystem::path> prune_checkpoints(const std::filesystem::path& root,
                                                     int64_t keep_last);

/// Renames a finished folder to its final name and forces the rename to the disk. A folder that has
/// that name stays readable as `final` + ".old" until then; remove_leftovers() restores it if the
/// machine stops in between.
void put_in_place(const std::filesystem::path& finished, const std::filesystem::path& final);

/// Clears what a killed run left: removes "step-*.tmp" folders and superseded "step-*.old" ones.
void remove_leftovers(const std::filesystem::path& root);

}  // namespace braid
