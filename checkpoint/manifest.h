#pragma once
// The file COMPLETE: written last, so that its presence and its digests say that a checkpoint is
// whole. HDF5 itself notices neither a missing shard (it reads fill values) nor most flipped bits.
#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

namespace braid {

inline constexpr const char* kManifestFile = "COMPLETE";

/// The version of the checkpoint format; a reader refuses any other.
inline constexpr int kCheckpointVersion = 1;

struct FileRecord {
  std::string name;    // within the folder, no separators or white space
  uint64_t size;       // bytes
  std::string digest;  // xxh3_128_of_file()
};

/// Size and digest of a file as it is now.
FileRecord record_of(const std::filesystem::path& folder, const std::string& name);

/// Writes COMPLETE for these files of the folder: a line with the format version, one with name,
/// size and XXH3-128 for each file, and one with the digest of the lines before it.
void write_manifest(const std::filesystem::path& folder, const std::vector<FileRecord>& records);

/// The records of COMPLETE. Throws Error when it is missing, damaged or of another version.
std::vector<FileRecord> read_manifest(const std::filesystem::path& folder);

enum class Check { kSizes, kDigests };

/// Reads COMPLETE and compares every file it names with its size, and with its digest if asked.
/// Throws Error naming the first file that is missing or differs. Of the digests only every
/// `parts`-th file's from number `part` on: several ranks divide them.
std::vector<FileRecord> check_manifest(const std::filesystem::path& folder,
                                       Check check,
                                       int64_t part = 0,
                                       int64_t parts = 1);

}  // namespace braid
