#include "core/machine.h"

#include <fstream>

#include <gtest/gtest.h>

#include "core/temporary_folder.h"
#include "tests/core/fresh_folder.h"

namespace braid {
namespace {

namespace fs = std::filesystem;

// A system as /proc and /sys show it, in a folder.
class Machine : public ::testing::Test {
 protected:
  void has(const std::string& path, const std::string& contents) const {
    fs::create_directories((root() / path).parent_path());
    std::ofstream(root() / path) << contents;
  }
  fs::path root() const { return folder_.path(); }

  // A machine of 8 GB of which 6 are available, with a GB of swap.
  void has_memory() const {
    has("proc/meminfo",
        "MemTotal:        8000000 kB\nMemFree:  100 kB\nMemAvailable:    6000000 kB\n"
        "SwapTotal:       1000000 kB\n");
  }
  void has_cgroup_2(const std::string& group, const std::string& mount_root = "/") const {
    has("proc/self/cgroup", "0::" + group + "\n");
    has("proc/self/mountinfo",
        "25 1 0:22 / /proc rw - proc proc rw\n30 25 0:26 " + mount_root +
            " /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw\n");
  }
  void has_cgroup_1(const std::string& group, const std::string& mount_root = "/") const {
    has("proc/self/cgroup", "5:cpu,cpuacct:" + group + "\n4:memory:" + group + "\n0::/\n");
    has("proc/self/mountinfo",
        "31 25 0:27 " + mount_root + " /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu,cpuacct\n" +
            "32 25 0:28 " + mount_root + " /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n");
  }

 private:
  TemporaryFolder folder_{testing::fresh_folder()};
};

constexpr int64_t kKilo = 1024;

TEST_F(Machine, WithoutACgroupHasWhatTheSystemSays) {
  has_memory();
  const auto memory = usable_memory(root());
  EXPECT_EQ(memory.total, 9'000'000 * kKilo);
  EXPECT_EQ(memory.available, 6'000'000 * kKilo);
  EXPECT_FALSE(memory.by_cgroup);
  EXPECT_EQ(usable_cores(root()).quota, 0);
  EXPECT_FALSE(usable_cores(root()).numbers.empty());
}

TEST_F(Machine, ThatSaysNothingHasNoMemoryToCompareWith) {
  EXPECT_EQ(usable_memory(root()).total, 0);
}

TEST_F(Machine, CgroupsOfVersion2LimitItWhereverTheLimitIs) {
  has_memory();
  has_cgroup_2("/user/job");
  has("sys/fs/cgroup/user/cpu.max", "150000 100000\n");
  has("sys/fs/cgroup/user/job/cpu.max", "max 100000\n");
  has("sys/fs/cgroup/user/job/memory.max", "max\n");
  has("sys/fs/cgroup/user/memory.max", "4000000000\n");
  has("sys/fs/cgroup/user/memory.current", "3000000000\n");
  has("sys/fs/cgroup/user/memory.stat", "anon 5\ninactive_file 500000000\nactive_file 200000000\n");
  EXPECT_EQ(usable_cores(root()).quota, 1.5);
  const auto memory = usable_memory(root());
  EXPECT_EQ(memory.total, 4'000'000'000 + 1'000'000 * kKilo);
  EXPECT_EQ(memory.available, 1'700'000'000);  // what files take is given back
  EXPECT_TRUE(memory.by_cgroup);
}

TEST_F(Machine, CgroupsOfVersion1LimitIt) {
  has_memory();
  has_cgroup_1("/job");
  has("sys/fs/cgroup/cpu/job/cpu.cfs_quota_us", "300000\n");
  has("sys/fs/cgroup/cpu/job/cpu.cfs_period_us", "100000\n");
  has("sys/fs/cgroup/cpu/cpu.cfs_quota_us", "-1\n");
  has("sys/fs/cgroup/cpu/cpu.cfs_period_us", "100000\n");
  has("sys/fs/cgroup/memory/memory.limit_in_bytes", "9223372036854771712\n");
  has("sys/fs/cgroup/memory/job/memory.limit_in_bytes", "2000000000\n");
  has("sys/fs/cgroup/memory/job/memory.usage_in_bytes", "1500000000\n");
  has("sys/fs/cgroup/memory/job/memory.stat", "total_inactive_file 100000000\ninactive_file 7\n");
  EXPECT_EQ(usable_cores(root()).quota, 3);
  EXPECT_EQ(usable_memory(root()).available, 600'000'000);
}

TEST_F(Machine, AContainerSeesItsLimitsAtTheTopOfWhatIsMounted) {
  has_memory();
  has_cgroup_1("/docker/abc", "/docker/abc");
  has("sys/fs/cgroup/cpu/cpu.cfs_quota_us", "200000\n");
  has("sys/fs/cgroup/cpu/cpu.cfs_period_us", "100000\n");
  has("sys/fs/cgroup/memory/memory.limit_in_bytes", "1000000000\n");
  EXPECT_EQ(usable_cores(root()).quota, 2);
  EXPECT_EQ(usable_memory(root()).available, 1'000'000'000);

  has_cgroup_2("/not/to/be/seen/here");
  has("sys/fs/cgroup/cpu.max", "50000 100000\n");
  EXPECT_EQ(usable_cores(root()).quota, 0.5);
}

TEST_F(Machine, KnowsTheRoomOfADiskBelowFoldersThatAreNotThereYet) {
  const auto free = free_disk(root() / "not" / "yet");
  ASSERT_TRUE(free.has_value());
  EXPECT_GT(*free, 0);
  has("a/b", std::string(10'000, 'x'));
  EXPECT_GE(disk_usage(root() / "a"), 10'000);
  EXPECT_EQ(disk_usage(root() / "nothing"), 0);
}

TEST_F(Machine, IsToldFromOthersByItsBoot) {
  has("proc/sys/kernel/random/boot_id", "first\n");
  const auto before = machine_name(root());
  has("proc/sys/kernel/random/boot_id", "second\n");
  EXPECT_NE(machine_name(root()), before);
}

}  // namespace
}  // namespace braid
