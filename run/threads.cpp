#include "run/threads.h"

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <set>
#include <sstream>

#include <ATen/Parallel.h>

#include "core/error.h"
#include "parallel/mpi_world.h"

namespace braid {
namespace {

// "4" or, for nested regions, "4,2"; nothing where it is no number above 0, as for OpenMP.
std::optional<int64_t> threads_in(const std::optional<std::string>& environment) {
  if (environment) {
    char* end = nullptr;
    const long long number = std::strtoll(environment->c_str(), &end, 10);
    if (end != environment->c_str() && (*end == '\0' || *end == ',') && number > 0) {
      return std::min<long long>(number, kMostThreads);
    }
  }
  return std::nullopt;
}

std::optional<std::string> environment_threads() {
  const char* value = std::getenv("OMP_NUM_THREADS");
  return value == nullptr ? std::nullopt : std::optional<std::string>(value);
}

// What this process has of the cores: of each one that n may use, 1 / n.
double share_of_cores(const std::vector<Cores>& here, std::size_t own) {
  double share = 0;
  for (const int64_t core : here[own].numbers) {
    const auto users = std::ranges::count_if(here, [core](const Cores& cores) {
      return std::ranges::binary_search(cores.numbers, core);
    });
    share += 1.0 / static_cast<double>(users);
  }
  return share + 1e-6;  // thirds that add up to one
}

double cores_of_all(const std::vector<Cores>& here, std::size_t own) {
  std::set<int64_t> all;
  for (const auto& cores : here) {
    all.insert(cores.numbers.begin(), cores.numbers.end());
  }
  const auto count = static_cast<double>(all.size());
  return here[own].quota > 0 ? std::min(count, here[own].quota) : count;
}

std::string plural(int64_t count, const char* what) {
  return text(count, ' ', what, count == 1 ? "" : "s");
}

std::string warning_of(const Threads& threads, double cores) {
  const double rounded = std::round(cores * 10) / 10;
  const auto number = text(rounded, rounded == 1 ? " core" : " cores");
  if (threads.ranks_here > 1) {
    return text("warning: ",
                threads.ranks_here,
                " ranks with ",
                plural(threads.count, "thread"),
                " each share ",
                number,
                " of this machine: they wait for each other. Start fewer ranks",
                threads.count > 1 ? ", or set train.threads lower" : "");
  }
  return text("warning: ",
              plural(threads.count, "thread"),
              " (",
              threads.decided_by,
              ") on ",
              number,
              ": many times slower than one thread a core. ",
              threads.decided_by == "train.threads" ? "Leave it at 0 to use the cores there are"
                                                    : "Unset it to use the cores there are");
}

Threads applied(const Threads& threads) {
  at::set_num_threads(static_cast<int>(threads.count));
  return threads;
}

}  // namespace

std::string Threads::text() const {
  return braid::text(plural(count, "thread"), ranks_here > 1 ? " each (" : " (", decided_by, ")");
}

Threads chosen_threads(int64_t configured,
                       const std::optional<std::string>& environment,
                       const std::vector<Cores>& here,
                       std::size_t own) {
  if (configured > kMostThreads) {
    throw ConfigError("train.threads", text("is ", configured, "; at most ", kMostThreads));
  }
  const auto& cores = here[own];
  const auto ranks = static_cast<int64_t>(here.size());
  double share = share_of_cores(here, own);
  const bool by_quota = cores.quota > 0 && cores.quota / static_cast<double>(ranks) < share;
  if (by_quota) {
    share = cores.quota / static_cast<double>(ranks) + 1e-6;
  }
  Threads threads;
  threads.ranks_here = ranks;
  if (configured > 0) {
    threads.count = configured;
    threads.decided_by = "train.threads";
  } else if (const auto given = threads_in(environment)) {
    threads.count = *given;
    threads.decided_by = "OMP_NUM_THREADS";
  } else {
    threads.count = std::max<int64_t>(1, static_cast<int64_t>(share));
    const auto own_cores = static_cast<int64_t>(cores.numbers.size());
    threads.decided_by = by_quota                       ? "cgroup quota"
                         : own_cores < cores.of_machine ? "affinity"
                                                        : "all cores";
  }
  // One thread of one process cannot be fewer, whatever the quota.
  if (static_cast<double>(threads.count) > share && threads.count * ranks > 1) {
    threads.warning = warning_of(threads, ranks > 1 ? cores_of_all(here, own) : share);
  }
  return threads;
}

Threads use_threads(int64_t configured) {
  const auto here = static_cast<std::size_t>(std::max<int64_t>(1, launched_as().on_this_machine));
  return applied(
      chosen_threads(configured, environment_threads(), std::vector(here, usable_cores())));
}

Threads use_threads(int64_t configured, Communicator& ranks) {
  const auto cores = usable_cores();
  // The quota, then the cores.
  std::vector<double> numbers(cores.numbers.begin(), cores.numbers.end());
  numbers.insert(numbers.begin(), cores.quota);
  const auto machines = ranks.all_gather(machine_name(), "machines");
  const auto all = ranks.all_gather(numbers, "cores");
  const auto rank = static_cast<std::size_t>(ranks.rank());
  std::vector<Cores> here;
  std::size_t own = 0;
  for (std::size_t r = 0; r < all.size(); ++r) {
    if (machines[r] == machines[rank]) {
      own = r == rank ? here.size() : own;
      here.push_back({.numbers = {all[r].begin() + 1, all[r].end()},
                      .of_machine = cores.of_machine,
                      .quota = all[r][0]});
    }
  }
  return applied(chosen_threads(configured, environment_threads(), here, own));
}

}  // namespace braid
