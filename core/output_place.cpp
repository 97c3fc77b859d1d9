#include "core/output_place.h"

#include <algorithm>
#include <string>

#include <sys/stat.h>
#include <unistd.h>

#include "core/error.h"

namespace braid {
namespace {

namespace fs = std::filesystem;

fs::path folder_part(const fs::path& path) {
  return path.has_parent_path() ? path.parent_path() : fs::path(".");
}

// N of /dev/fd/N, /proc/self/fd/N; -1 for any other path.
int own_descriptor(const fs::path& path) {
  std::error_code none;
  const std::string name = path.filename().string();
  const bool number =
      !name.empty() && name.size() < 9 && name.find_first_not_of("0123456789") == std::string::npos;
  return number && fs::canonical(folder_part(path), none) == text("/proc/", ::getpid(), "/fd")
             ? std::stoi(name)
             : -1;
}

// Where the chain of links ends, or the first path in it that is one of our own descriptors.
fs::path followed(const fs::path& given) {
  fs::path path = given;
  std::error_code none;
  for (int links = 0; own_descriptor(path) < 0 && fs::is_symlink(fs::symlink_status(path, none));
       ++links) {
    require(links < 40, given.string(), ": its links lead in a circle; choose another name");
    const fs::path to = fs::read_symlink(path);
    path = to.is_absolute() ? to : folder_part(path) / to;
  }
  return path;
}

bool same_file(const struct stat& a, const struct stat& b) {
  return a.st_dev == b.st_dev && a.st_ino == b.st_ino;
}

bool is_within(const fs::path& path, const fs::path& folder) {
  const auto inner = fs::weakly_canonical(path), outer = fs::weakly_canonical(folder);
  return std::mismatch(outer.begin(), outer.end(), inner.begin(), inner.end()).first == outer.end();
}

bool holds(const fs::path& folder, const struct stat& file) {
  for (const auto& entry :
       fs::recursive_directory_iterator(folder, fs::directory_options::skip_permission_denied)) {
    struct stat status {};
    if (::stat(entry.path().c_str(), &status) == 0 && same_file(status, file)) {
      return true;
    }
  }
  return false;
}

}  // namespace

OutputPlace output_place(const fs::path& path) {
  OutputPlace place{followed(path)};
  place.descriptor = own_descriptor(place.path);
  if (place.descriptor >= 0) {
    place.through = true;
    return place;
  }
  std::error_code error;
  const auto status = fs::symlink_status(place.path, error);
  switch (status.type()) {
    case fs::file_type::not_found:
    case fs::file_type::none:
      break;
    case fs::file_type::regular:
      require(::access(place.path.c_str(), W_OK) == 0,
              path.string(),
              ": may not be written; choose another name, or chmod u+w it");
      break;
    case fs::file_type::character:
    case fs::file_type::fifo:
      place.through = true;
      break;
    case fs::file_type::directory:
      fail(path.string(), ": is a folder; give the name of a file");
    default:
      fail(path.string(),
           ": is a ",
           status.type() == fs::file_type::socket ? "socket" : "block device",
           "; only files, FIFOs and character devices are written");
  }
  return place;
}

void require_file_or_absent(const fs::path& path) {
  std::error_code error;
  const auto status = fs::status(path, error);
  require(!fs::exists(status) || fs::is_regular_file(status),
          path.string(),
          ": is no regular file; remove it or choose another place");
}

void require_absent(const fs::path& path, const char* advice) {
  std::error_code error;
  require(!fs::exists(fs::symlink_status(path, error)), path.string(), " exists already; ", advice);
}

void require_not_an_input(const fs::path& output, const std::vector<fs::path>& inputs) {
  const auto place = output_place(output);
  if (place.through) {
    return;
  }
  struct stat written {};
  const bool exists = ::stat(place.path.c_str(), &written) == 0;
  for (const auto& input : inputs) {
    struct stat read {};
    if (::stat(input.c_str(), &read) != 0) {
      continue;  // whoever reads it says so
    }
    require(!exists || !same_file(read, written),
            output.string(),
            ": is what this command reads; choose another name for the output");
    if (S_ISDIR(read.st_mode)) {
      require(!is_within(place.path, input) && !(exists && holds(input, written)),
              output.string(),
              ": lies in ",
              input.string(),
              ", which this command reads; choose a place outside of it for the output");
    }
  }
}

}  // namespace braid
