#include "checkpoint/manifest.h"

#include <sstream>

#include "core/error.h"
#include "core/file.h"
#include "core/interruption.h"

namespace braid {
namespace {

namespace fs = std::filesystem;

constexpr const char* kTitle = "braid-checkpoint";
constexpr const char* kDigest = "digest ";

std::string digest_line(const std::string& lines) {
  return text(kDigest, xxh3_128(lines), "\n");
}

}  // namespace

FileRecord record_of(const fs::path& folder, const std::string& name) {
  return {name, fs::file_size(folder / name), xxh3_128_of_file(folder / name)};
}

void write_manifest(const fs::path& folder, const std::vector<FileRecord>& records) {
  std::string contents = text(kTitle, " ", kCheckpointVersion, "\n");
  for (const auto& [name, size, digest] : records) {
    contents += text(name, " ", size, " ", digest, "\n");
  }
  write_file_atomically(folder / kManifestFile, contents + digest_line(contents));
}

std::vector<FileRecord> read_manifest(const fs::path& folder) {
  const fs::path path = folder / kManifestFile;
  require(fs::is_directory(folder), folder.string(), " is not a folder, so not a checkpoint");
  require(fs::exists(path),
          folder.string(),
          " has no file COMPLETE, so it is not a whole checkpoint (saving it was interrupted); use "
          "an earlier one");
  const std::string contents = read_file(path);
  std::istringstream first_line(contents);
  std::string title;
  int version = 0;
  first_line >> title >> version;
  require(first_line && title == kTitle,
          path.string(),
          " does not begin with '",
          kTitle,
          " VERSION'; it is damaged, use an earlier checkpoint");
  require(version == kCheckpointVersion,
          path.string(),
          " has format version ",
          version,
          ", this program reads version ",
          kCheckpointVersion,
          "; use the version of Braid that wrote it");
  const auto last_line = contents.rfind(kDigest);
  const std::string covered = contents.substr(0, last_line);
  require(last_line != std::string::npos && contents.substr(last_line) == digest_line(covered),
          path.string(),
          " does not match its own digest; it is damaged, use an earlier checkpoint");
  std::istringstream lines(covered);
  std::getline(lines, title);
  std::vector<FileRecord> records;
  for (FileRecord record; lines >> record.name >> record.size >> record.digest;) {
    records.push_back(record);
  }
  return records;
}

std::vector<FileRecord> check_manifest(const fs::path& folder,
                                       Check check,
                                       int64_t part,
                                       int64_t parts) {
  auto records = read_manifest(folder);
  int64_t number = 0;
  for (const auto& [name, size, digest] : records) {
    const bool compares = check == Check::kDigests && number++ % parts == part;
    const fs::path path = folder / name;
    require(fs::exists(path),
            path.string(),
            " is missing; the checkpoint is not whole, use an earlier one");
    const uint64_t found = fs::file_size(path);
    require(found == size,
            path.string(),
            " has ",
            found,
            " bytes, COMPLETE says ",
            size,
            "; the checkpoint is damaged, use an earlier one");
    require(!compares || xxh3_128_of_file(path, stop_if_interrupted) == digest,
            path.string(),
            " differs from what was saved (its digest is not the one in COMPLETE); the checkpoint "
            "is damaged, "
            "use an earlier one");
  }
  return records;
}

}  // namespace braid
