#pragma once
// What the machine, and the limits that this process was given on it, leave us: cores, memory, room
// on a disk. `root` is where /proc and /sys are; tests give a folder that looks like it.

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

namespace braid {

/// Cores that the process may use.
struct Cores {
  std::vector<int64_t> numbers;  ///< those it may run on (sched_getaffinity), ascending
  int64_t of_machine = 1;        ///< that are online
  double quota = 0;  ///< cores' worth of time that its cgroups allow (v1 and v2); 0 = no limit
};
Cores usable_cores(const std::filesystem::path& root = "/");

/// Memory that the process may use, in bytes; 0 where the system does not say.
struct Memory {
  int64_t total = 0;       ///< all there is, or the least limit of its cgroups, and swap
  int64_t available = 0;   ///< of it without swap: free now, or held by caches that give way
  bool by_cgroup = false;  ///< whether a cgroup's limit is what decides `available`
};
Memory usable_memory(const std::filesystem::path& root = "/");

/// Bytes that may still be written below `path`, which need not exist yet; nothing where the system
/// does not say.
std::optional<int64_t> free_disk(const std::filesystem::path& path);

/// Bytes on the disk of all files below `folder`; 0 where it is not.
int64_t disk_usage(const std::filesystem::path& folder);

/// Tells this machine from the other ranks' ones: the host's name and the kernel's boot.
std::string machine_name(const std::filesystem::path& root = "/");

}  // namespace braid
