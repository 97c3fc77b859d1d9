#pragma once
// What may be written where a person asked for an output. A command writes only what is its own.
#include <filesystem>
#include <vector>

namespace braid {

/// Where an output goes once its links are followed.
struct OutputPlace {
  std::filesystem::path path;  ///< no link; a regular file, absent, or written through
  bool through = false;        ///< a character device or a FIFO: written as it is, never replaced
  int descriptor = -1;         ///< for /dev/stdout and the like: one of the process's own
};

/// Follows the links of `path`; that of a link to nothing is where the output is made. Throws Error
/// for what cannot be an output: a folder, a socket, a block device, a file without permission to
/// write, a circle of links.
OutputPlace output_place(const std::filesystem::path& path);

/// Throws Error unless `path` is a regular file or absent, links followed: for files that grow.
void require_file_or_absent(const std::filesystem::path& path);

/// Throws Error where anything has this name, be it a link to nothing. `advice` follows the name.
void require_absent(const std::filesystem::path& path, const char* advice);

/// Throws Error where writing `output` would change one of `inputs`: it is the same file under any
/// name, or lies in an input that is a folder.
void require_not_an_input(const std::filesystem::path& output,
                          const std::vector<std::filesystem::path>& inputs);

}  // namespace braid
