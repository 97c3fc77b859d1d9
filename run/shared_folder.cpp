#include "run/shared_folder.h"

#include <chrono>
#include <fstream>
#include <memory>
#include <random>
#include <thread>

#include "core/error.h"
#include "core/machine.h"

namespace braid {
namespace {

namespace fs = std::filesystem;

constexpr const char* kPrefix = ".ranks-";

// A file that is there for as long as the object. A name that never was before: no cache of another
// machine can know it.
class Sign {
 public:
  explicit Sign(const fs::path& folder) {
    std::error_code error;
    for (const auto& entry : fs::directory_iterator(folder, error)) {  // of a killed start
      if (entry.path().filename().string().starts_with(kPrefix)) {
        fs::remove(entry.path(), error);
      }
    }
    std::random_device random;
    path_ = folder / text(kPrefix, std::hex, random(), random());
    require(static_cast<bool>(std::ofstream(path_).flush()), path_.string(), ": cannot be written");
  }
  ~Sign() {
    std::error_code error;
    fs::remove(path_, error);
  }
  Sign(const Sign&) = delete;
  Sign& operator=(const Sign&) = delete;

  std::string name() const { return path_.filename().string(); }

 private:
  fs::path path_;
};

bool appears(const fs::path& path, double seconds) {
  using Clock = std::chrono::steady_clock;
  const auto end = Clock::now() + std::chrono::duration<double>(seconds);
  constexpr std::chrono::milliseconds kFirst(10), kLongest(500);
  for (std::chrono::milliseconds pause = kFirst;; pause = std::min(2 * pause, kLongest)) {
    std::error_code error;
    if (fs::exists(path, error)) {
      return true;
    }
    if (Clock::now() > end) {
      return false;
    }
    std::this_thread::sleep_for(pause);
    // Reading a folder has a network file system look again.
    static_cast<void>(fs::directory_iterator(path.parent_path(), error));
  }
}

std::string host_of(const std::string& machine) {
  return machine.substr(0, machine.find(' '));
}

}  // namespace

void require_shared_folder(const fs::path& folder, Communicator& ranks, double seconds) {
  if (ranks.size() == 1) {
    return;
  }
  constexpr const char* kWhat = "whether all ranks share the run's folder";
  std::unique_ptr<Sign> sign;
  ranks.first_alone([&] { sign = std::make_unique<Sign>(folder); }, kWhat);
  const auto name = ranks.from_first(sign ? sign->name() : "", kWhat);
  const auto machine = machine_name(), first = ranks.from_first(machine, kWhat);
  ranks.all_or_none(
      [&] {
        require(appears(folder / name, seconds),
                folder.string(),
                ": on machine ",
                host_of(machine),
                " (rank ",
                ranks.rank(),
                ") this is not the folder that rank 0 has on machine ",
                host_of(first),
                ": a file that rank 0 wrote is not in it. Give run.output_dir a folder of a file "
                "system that all ranks see, by its absolute path");
      },
      kWhat);
}

}  // namespace braid
