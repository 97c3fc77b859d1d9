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

/// The checkpoints that are complete, newest first: COMPLETE is sound and every file has its size
/// (load_checkpoint() compares the digests). Empty when there are none, or no such folder. Each one
/// that is not complete adds its reason to `skipped`.
std::vector<std::filesystem::path> complete_checkpoints(
    const std::filesystem::path& root, std::vector<std::string>* skipped = nullptr);

/// The first of them.
std::optional<std::filesystem::path> newest_complete_checkpoint(
    const std::filesystem::path& root, std::vector<std::string>* skipped = nullptr);

/// The step in a checkpoint folder's name; nothing for other names.
std::optional<int64_t> checkpoint_step(const std::filesystem::path& folder);

/// Removes all but the newest `keep_last` complete checkpoints (at least 1), those of steps that
/// `keep_every_steps` divides (0 = none), and those of `kept_steps`, and returns those removed.
/// Incomplete ones stay for people to look at.
std::vector<std::filesystem::path> prune_checkpoints(const std::filesystem::path& root,
                                                     int64_t keep_last,
                                                     int64_t keep_every_steps = 0,
                                                     const std::vector<int64_t>& kept_steps = {});

/// Renames a checkpoint so that no run continues from it: "step-00001000.damaged". Returns its new
/// name, which no folder had before.
std::filesystem::path set_aside(const std::filesystem::path& folder, const std::string& why);

/// Renames a finished folder to its final name and forces the rename to the disk. A folder that has
/// that name stays readable as `final` + ".old" until then; remove_leftovers() restores it if the
/// machine stops in between.
void put_in_place(const std::filesystem::path& finished, const std::filesystem::path& final);

/// Writes the name of the newest checkpoint into `latest` beside it, a hint for people.
void note_latest(const std::filesystem::path& folder);

/// Makes `best` in the folder a link to the checkpoint of this step, and removes it where there is
/// no such checkpoint. A link is a MODEL and a checkpoint for every command. Throws Error where the
/// file system has no links.
void link_best(const std::filesystem::path& root, std::optional<int64_t> step);

/// Cleans up after a killed run: removes "step-*.tmp" folders and superseded "step-*.old" ones.
void remove_leftovers(const std::filesystem::path& root);

}  // namespace braid
