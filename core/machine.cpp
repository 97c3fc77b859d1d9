#include "core/machine.h"

#include <algorithm>
#include <cstdlib>
#include <fstream>
#include <limits>
#include <sstream>

#include <sched.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "core/error.h"

namespace braid {
namespace {

namespace fs = std::filesystem;

// The first word of a file; empty where there is no such file.
std::string first_word(const fs::path& path) {
  std::ifstream file(path);
  std::string word;
  file >> word;
  return word;
}

std::optional<double> number_of(const std::string& word) {
  char* end = nullptr;
  const double number = std::strtod(word.c_str(), &end);
  return word.empty() || *end != '\0' ? std::nullopt : std::optional(number);
}

// The number behind `key` at the start of a line: "MemTotal:  12 kB", "inactive_file 4096".
std::optional<int64_t> number_behind(const fs::path& path, const std::string& key) {
  std::ifstream file(path);
  for (std::string line; std::getline(file, line);) {
    std::istringstream words(line);
    std::string first;
    int64_t number = 0;
    if (words >> first && first == key && words >> number) {
      return number;
    }
  }
  return std::nullopt;
}

bool lists(const std::string& list, const std::string& wanted) {
  std::istringstream parts(list);
  for (std::string part; std::getline(parts, part, ',');) {
    if (part == wanted) {
      return true;
    }
  }
  return false;
}

struct Mount {
  std::string root, point;
};

// Where a hierarchy of cgroups is mounted; no controller stands for the one of version 2.
std::optional<Mount> cgroup_mount(const fs::path& root, const std::string& controller) {
  std::ifstream file(root / "proc/self/mountinfo");
  for (std::string line; std::getline(file, line);) {
    const auto dash = line.find(" - ");
    if (dash == std::string::npos) {
      continue;
    }
    std::istringstream before(line.substr(0, dash)), behind(line.substr(dash + 3));
    std::string skipped, type, source, options;
    Mount mount;
    before >> skipped >> skipped >> skipped >> mount.root >> mount.point;
    behind >> type >> source >> options;
    if (controller.empty() ? type == "cgroup2" : type == "cgroup" && lists(options, controller)) {
      return mount;
    }
  }
  return std::nullopt;
}

std::optional<std::string> own_cgroup(const fs::path& root, const std::string& controller) {
  std::ifstream file(root / "proc/self/cgroup");
  for (std::string line; std::getline(file, line);) {  // "4:cpu,cpuacct:/some/group"
    const auto first = line.find(':'), second = line.find(':', first + 1);
    if (first == std::string::npos || second == std::string::npos) {
      continue;
    }
    const auto controllers = line.substr(first + 1, second - first - 1);
    if (controller.empty() ? controllers.empty() : lists(controllers, controller)) {
      return line.substr(second + 1);
    }
  }
  return std::nullopt;
}

// The folders of this process's cgroup and of those above it: each one's limit counts.
std::vector<fs::path> cgroup_folders(const fs::path& root, const std::string& controller) {
  const auto mount = cgroup_mount(root, controller);
  auto group = own_cgroup(root, controller);
  if (!mount || !group) {
    return {};
  }
  if (mount->root != "/") {  // a container sees a part of the tree, with paths of the whole
    group = group->starts_with(mount->root) ? group->substr(mount->root.size()) : "";
  }
  const fs::path top = root / fs::path(mount->point).relative_path();
  std::vector<fs::path> folders = {top};
  for (const auto& part : fs::path(*group).relative_path()) {
    const auto folder = folders.back() / part;
    std::error_code error;
    if (!fs::is_directory(folder, error)) {
      break;
    }
    folders.push_back(folder);
  }
  return folders;
}

double cpu_quota(const fs::path& root) {
  double least = 0;
  const auto add = [&least](std::optional<double> quota, std::optional<double> period) {
    if (quota && period && *quota > 0 && *period > 0) {
      least = least > 0 ? std::min(least, *quota / *period) : *quota / *period;
    }
  };
  for (const auto& folder : cgroup_folders(root, "cpu")) {
    add(number_of(first_word(folder / "cpu.cfs_quota_us")),
        number_of(first_word(folder / "cpu.cfs_period_us")));
  }
  for (const auto& folder : cgroup_folders(root, "")) {
    std::ifstream file(folder / "cpu.max");
    std::string quota, period;
    file >> quota >> period;
    add(number_of(quota), number_of(period));  // "max" is no number
  }
  return least;
}

struct CgroupMemory {
  int64_t limit = std::numeric_limits<int64_t>::max(), available = limit;
};

CgroupMemory cgroup_memory(const fs::path& root) {
  CgroupMemory least;
  const auto add = [&least](const fs::path& folder,
                            const char* limit_file,
                            const char* usage_file,
                            const std::string& prefix) {
    const auto limit = number_of(first_word(folder / limit_file));
    constexpr double kNoLimit = 1e18;  // version 1 writes almost 2^63
    if (!limit || *limit >= kNoLimit) {
      return;
    }
    const double used = number_of(first_word(folder / usage_file)).value_or(0);
    double cached = 0;
    for (const auto* kind : {"inactive_file", "active_file"}) {
      cached +=
          static_cast<double>(number_behind(folder / "memory.stat", prefix + kind).value_or(0));
    }
    least.limit = std::min(least.limit, static_cast<int64_t>(*limit));
    least.available = std::min(
        least.available, static_cast<int64_t>(std::clamp(*limit - used + cached, 0.0, *limit)));
  };
  for (const auto& folder : cgroup_folders(root, "memory")) {
    add(folder, "memory.limit_in_bytes", "memory.usage_in_bytes", "total_");
  }
  for (const auto& folder : cgroup_folders(root, "")) {
    add(folder, "memory.max", "memory.current", "");
  }
  return least;
}

}  // namespace

Cores usable_cores(const fs::path& root) {
  Cores cores;
  cores.of_machine = std::max<int64_t>(1, sysconf(_SC_NPROCESSORS_ONLN));
  constexpr std::size_t kMostCores = 1 << 16;
  auto* set = CPU_ALLOC(kMostCores);
  const std::size_t size = CPU_ALLOC_SIZE(kMostCores);
  if (sched_getaffinity(0, size, set) == 0) {
    for (std::size_t core = 0; core < kMostCores; ++core) {
      if (CPU_ISSET_S(core, size, set)) {
        cores.numbers.push_back(static_cast<int64_t>(core));
      }
    }
  }
  CPU_FREE(set);
  for (int64_t core = 0; cores.numbers.empty() && core < cores.of_machine; ++core) {
    cores.numbers.push_back(core);
  }
  cores.quota = cpu_quota(root);
  return cores;
}

Memory usable_memory(const fs::path& root) {
  const auto kilobytes = [&](const char* key) {
    return number_behind(root / "proc/meminfo", key).value_or(0) * 1024;
  };
  const auto cgroup = cgroup_memory(root);
  Memory memory{.total = kilobytes("MemTotal:"), .available = kilobytes("MemAvailable:")};
  if (memory.total > 0) {
    memory.total = std::min(memory.total, cgroup.limit) + kilobytes("SwapTotal:");
    memory.by_cgroup = cgroup.available < memory.available;
    memory.available = std::min(memory.available, cgroup.available);
  }
  return memory;
}

std::optional<int64_t> free_disk(const fs::path& path) {
  std::error_code error;
  fs::path existing = fs::absolute(path, error);
  while (!fs::exists(existing, error) && existing.has_relative_path()) {
    existing = existing.parent_path();
  }
  struct statvfs status {};
  if (statvfs(existing.c_str(), &status) != 0 || status.f_blocks == 0) {
    return std::nullopt;  // some file systems keep no count
  }
  return static_cast<int64_t>(status.f_bavail * status.f_frsize);
}

int64_t disk_usage(const fs::path& folder) {
  int64_t bytes = 0;
  std::error_code error;
  for (auto at = fs::recursive_directory_iterator(folder, error);
       !error && at != fs::recursive_directory_iterator();
       at.increment(error)) {
    struct stat status {};
    if (lstat(at->path().c_str(), &status) == 0 && S_ISREG(status.st_mode)) {
      bytes += static_cast<int64_t>(status.st_blocks) * 512;
    }
  }
  return bytes;
}

std::string machine_name(const fs::path& root) {
  char host[256] = {};
  gethostname(host, sizeof host - 1);
  return text(host, ' ', first_word(root / "proc/sys/kernel/random/boot_id"));
}

}  // namespace braid
