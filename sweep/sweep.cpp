#include "sweep/sweep.h"

#include <algorithm>
#include <cmath>
#include <csignal>
#include <fstream>
#include <thread>

#include <unistd.h>

#include "core/error.h"
#include "core/interruption.h"
#include "core/machine.h"
#include "core/own_folder.h"
#include "run/memory.h"
#include "run/run_folder.h"
#include "run/run_list.h"
#include "run/table.h"

namespace braid {
namespace {

namespace fs = std::filesystem;
using std::chrono::steady_clock;

constexpr const char* kOutputFile = "output.txt";  // in a run's folder, what its processes printed

double seconds_since(steady_clock::time_point then) {
  return std::chrono::duration<double>(steady_clock::now() - then).count();
}

std::string plural(int64_t count, const std::string& what) {
  return text(count, ' ', what, count == 1 ? "" : "s");
}

// The step of the last whole line of metrics.jsonl; 0 where there is none yet.
int64_t last_step_in(const fs::path& metrics) {
  constexpr std::streamoff kTail = 1 << 16;
  std::ifstream file(metrics, std::ios::ate);
  if (!file) {
    return 0;
  }
  const auto size = static_cast<std::streamoff>(file.tellg());
  file.seekg(std::max<std::streamoff>(0, size - kTail));
  const std::string tail((std::istreambuf_iterator<char>(file)), {});
  const std::string key = "{\"step\":";
  const auto end = tail.rfind('\n');
  const auto at = end == std::string::npos ? end : tail.rfind(key, end);
  return at == std::string::npos ? 0 : std::atoll(tail.c_str() + at + key.size());
}

// What a process said of its error behind this place of its output: "braid: MESSAGE", of a rank
// "braid: rank 1: MESSAGE".
std::string error_in(const fs::path& output, std::uintmax_t from, int status) {
  std::ifstream file(output);
  file.seekg(static_cast<std::streamoff>(from));
  const std::string sign = "braid: ";
  for (std::string line; std::getline(file, line);) {
    if (line.starts_with(sign)) {
      return line.substr(sign.size());
    }
  }
  return status == 128 + SIGKILL ? std::string(
                                       "was killed (SIGKILL), as the system does for want of "
                                       "memory")
         : status > 128 ? text("was ended by signal ", status - 128)
                        : text("ended with status ", status, "; see ", output.string());
}

}  // namespace

SweepBudget budget_of(const SweepConfig& config) {
  const auto cores = usable_cores();
  auto count = static_cast<double>(cores.numbers.size());
  count = cores.quota > 0 ? std::min(count, cores.quota) : count;
  SweepBudget budget{
      .cores = config.cores.value_or(std::max<int64_t>(1, static_cast<int64_t>(count))),
      .memory_bytes = static_cast<double>(config.memory.bytes.value_or(usable_memory().available))};
  budget.at_once = config.at_once.value_or(budget.cores);
  return budget;
}

Sweep::Sweep(SweepConfig config, const PlannedSpeed& speed)
    : config_(std::move(config)),
      budget_(budget_of(config_)),
      arms_(sweep_arms(config_)),
      chosen_(arms_.size()) {
  InputDigests inputs;
  for (auto& run : sweep_runs(config_, arms_, speed)) {
    auto& job = jobs_.emplace_back(Job{.run = std::move(run)});
    job.inputs = inputs.of(job.run.config);
    job.standing = standing_of(folder_of(job), job.run.config, job.inputs);
    job.state =
        job.standing.state == RunStanding::State::kFinished ? State::kFinished : State::kWaiting;
    if (job.standing.state == RunStanding::State::kBegun) {
      job.steps = last_step_in(RunPaths{folder_of(job)}.metrics());
    }
  }
  choose_all();
}

Sweep::~Sweep() = default;

fs::path Sweep::folder_of(const Job& job) const {
  return runs_folder(config_) / job.run.name;
}

bool Sweep::is_needed(const Job& job) const {
  const auto& arm = arms_[job.run.arm];
  const auto& chosen = chosen_[job.run.arm];
  return !job.run.value || job.run.tunes(arm) || (chosen && chosen->value == job.run.value);
}

// Whether nothing has to be known before it can start.
bool Sweep::is_ready(const Job& job) const {
  return job.state == State::kWaiting && is_needed(job);
}

bool Sweep::fits(const Job& job) const {
  int64_t running = 0, cores = job.run.cost.cores;
  double memory = job.run.cost.memory_bytes;
  for (const auto& other : jobs_) {
    if (other.state == State::kRunning) {
      ++running;
      cores += other.run.cost.cores;
      memory += other.run.cost.memory_bytes;
    }
  }
  return running == 0 || (running < budget_.at_once && cores <= budget_.cores &&
                          (budget_.memory_bytes == 0 || memory <= budget_.memory_bytes));
}

void Sweep::start(Job& job, const fs::path& program) {
  const auto folder = folder_of(job);
  begin_run(folder, fs::path(config_.output) / "earlier", job.run.config, job.inputs);
  std::vector<std::string> arguments;
  int stop_signal = SIGTERM;
  if (config_.ranks > 1) {
    arguments = {
        "mpirun", "--oversubscribe", "--bind-to", "none", "-n", std::to_string(config_.ranks)};
    stop_signal = SIGUSR1;  // mpirun hands it on to the ranks
  }
  arguments.insert(arguments.end(), {program, "train", RunPaths{folder}.config()});
  const auto output = folder / kOutputFile;
  std::error_code absent;
  const auto before = fs::file_size(output, absent);
  job.output_before = absent ? 0 : before;
  job.steps = job.steps_before = last_step_in(RunPaths{folder}.metrics());
  job.started = steady_clock::now();
  job.process = std::make_unique<ChildProcess>(std::move(arguments), output, stop_signal);
  job.state = State::kRunning;
}

// In order: a run that waits for room is not overtaken by smaller ones.
void Sweep::start_what_fits(const fs::path& program) {
  std::string held;
  for (auto& job : jobs_) {
    if (!is_ready(job)) {
      continue;
    }
    if (!fits(job)) {
      break;
    }
    if (FolderLock::is_held(folder_of(job))) {
      held = folder_of(job).string();  // a process of a sweep that was killed is still saving
      continue;
    }
    start(job, program);
  }
  if (!held.empty() && !waiting_told_ && seconds_since(began_) > 2) {
    console_->line(held + ": another process trains there; waiting for it");
    waiting_told_ = true;
  }
}

void Sweep::finish(Job& job, int status) {
  job.process.reset();
  job.steps = last_step_in(RunPaths{folder_of(job)}.metrics());
  // A process of a sweep that was killed may have taken the folder's lock before it did.
  if (status != 0 && (is_stopping_ || FolderLock::is_held(folder_of(job)))) {
    job.state = State::kWaiting;
    return;
  }
  job.state = status == 0 ? State::kFinished : State::kFailed;
  if (status != 0) {
    job.error = error_in(folder_of(job) / kOutputFile, job.output_before, status);
  }
  end_run(folder_of(job), job.inputs, job.error);
  console_->line(text(job.run.name,
                      status == 0 ? " finished" : " failed",
                      " after ",
                      duration_text(seconds_since(job.started)),
                      status == 0 ? "" : ": " + job.error,
                      " (",
                      counts(),
                      time_left(),
                      ")"));
  if (!is_stopping_) {
    choose(job.run.arm);
  }
}

void Sweep::reap() {
  bool any_ended = false;
  for (auto& job : jobs_) {
    if (job.state == State::kRunning) {
      if (const auto status = job.process->poll()) {
        finish(job, *status);
        any_ended = true;
      }
    }
  }
  if (any_ended && !is_stopping_ && !is_done()) {
    write_table_so_far();
  }
}

Comparison Sweep::values_compared(std::size_t arm) const {
  const auto& tune = arms_[arm].tune;
  std::vector<ArmRuns> values;
  for (std::size_t v = 0; v < tune.values().size(); ++v) {
    auto& value = values.emplace_back(ArmRuns{inline_yaml_text(tune.values()[v]), {}, ""});
    for (const auto& job : jobs_) {
      if (job.run.arm == arm && job.run.value == v && job.run.tunes(arms_[arm])) {
        value.runs.push_back(curves_of(job));
      }
    }
  }
  return compare(std::move(values), judge_of(config_.judge), "", "");
}

// The best value of an arm, once all its tuning runs have ended. A value counts whose runs all
// finished; of equal ones the first is taken.
void Sweep::choose(std::size_t arm) {
  const auto& tune = arms_[arm].tune;
  const auto is_open = [&](const Job& job) {
    return job.run.arm == arm && job.run.tunes(arms_[arm]) && job.state != State::kFinished &&
           job.state != State::kFailed;
  };
  if (!tune.is_on() || chosen_[arm] || std::ranges::any_of(jobs_, is_open)) {
    return;
  }
  const auto compared = values_compared(arm);
  Choice choice;
  std::vector<std::string> values;
  double best = 0;
  for (std::size_t v = 0; v < compared.arms.size(); ++v) {
    const auto& [n, mean, sd] = compared.arms[v].value;
    const bool counts = n == tune.seeds;
    char loss[32];
    std::snprintf(loss, sizeof loss, "%.4f", mean);
    values.push_back(compared.arms[v].name + " (" + (counts ? loss : "failed") + ")");
    if (counts && (!choice.value || compared.judge.is_better(mean, best))) {
      choice.value = v;
      best = mean;
    }
  }
  if (choice.value) {
    const bool first = *choice.value == 0, last = *choice.value + 1 == compared.arms.size();
    choice.note =
        text(tune.key,
             " = ",
             compared.arms[*choice.value].name,
             ", the best of ",
             joined(values),
             " over ",
             plural(tune.seeds, "seed"),
             first || last ? ", at the edge of these values: one beyond may be better" : "");
  } else {
    choice.note = text("no value of ", tune.key, " can be taken: ", joined(values));
  }
  chosen_[arm] = choice;
}

void Sweep::choose_all() {
  for (const auto& arm : arms_) {
    choose(arm.index);
  }
}

bool Sweep::is_done() const {
  return std::ranges::none_of(
      jobs_, [this](const Job& job) { return job.state == State::kRunning || is_ready(job); });
}

void Sweep::stop_all() {
  is_stopping_ = true;
  int64_t running = 0;
  for (auto& job : jobs_) {
    if (job.state == State::kRunning) {
      job.process->ask_to_stop();
      ++running;
    }
  }
  if (running > 0) {
    console_->line(text("stopping: ", plural(running, "run"), " will finish a step and save"));
  }
  while (std::ranges::any_of(jobs_, [](const Job& job) { return job.state == State::kRunning; })) {
    reap();
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
  }
}

void Sweep::run(const fs::path& program) {
  const fs::path output = config_.output;
  make_own_folder(output, "choose another `output`");
  lock_ = std::make_unique<FolderLock>(
      output, "another braid sweep is running here; wait for it or choose another `output`");
  console_ = std::make_unique<Console>(output / "log.txt");
  if (!lock_->warning().empty()) {
    console_->line(lock_->warning());
  }
  for (const auto& job : jobs_) {
    if (job.standing.state == RunStanding::State::kOther) {
      console_->line(text(job.run.name, " runs again: ", job.standing.why));
    }
  }
  write_sweep_record(output, record());
  began_ = steady_clock::now();
  flops_before_ = flops_left();
  try {
    while (!is_done()) {
      stop_if_interrupted();
      reap();
      start_what_fits(program);
      show_status();
      std::this_thread::sleep_for(std::chrono::milliseconds(20));
    }
  } catch (...) {
    stop_all();
    throw;
  }
  write_sweep_record(output, record());  // with the values that arms were tuned to
}

int64_t Sweep::failed() const {
  return std::ranges::count(jobs_, State::kFailed, &Job::state);
}

// ---- What is shown ----

double Sweep::flops_left() const {
  double flops = 0;
  for (const auto& job : jobs_) {
    if (job.state == State::kWaiting || job.state == State::kRunning) {
      const auto& cost = job.run.cost;
      const double share = static_cast<double>(job.steps) / static_cast<double>(cost.steps);
      // Of an arm that is still being tuned, one of the values will be run over all seeds.
      const auto values = job.run.value && !chosen_[job.run.arm] && !is_needed(job)
                              ? static_cast<double>(arms_[job.run.arm].tune.values().size())
                          : is_needed(job) ? 1.0
                                           : INFINITY;
      flops += cost.flops * std::max(0.0, 1 - share) / values;
    }
  }
  return flops;
}

std::string Sweep::counts() const {
  int64_t done = 0, total = 0;
  std::vector<bool> open(arms_.size());
  for (const auto& job : jobs_) {
    const bool counts = is_needed(job);
    const bool ended = job.state == State::kFinished || job.state == State::kFailed;
    done += counts && ended ? 1 : 0;
    total += counts ? 1 : 0;
    open[job.run.arm] = open[job.run.arm] || (counts && !ended);
  }
  for (std::size_t i = 0; i < arms_.size(); ++i) {
    open[i] = open[i] || (arms_[i].tune.is_on() && !chosen_[i]);
    total += arms_[i].tune.is_on() && !chosen_[i]
                 ? static_cast<int64_t>(config_.seeds.seeds.size()) - arms_[i].tune.seeds
                 : 0;
  }
  const auto arms = static_cast<int64_t>(arms_.size());
  return text(done,
              " of ",
              plural(total, "run"),
              ", ",
              arms - std::ranges::count(open, true),
              " of ",
              plural(arms, "arm"),
              " done");
}

// As fast as up to now in this process.
std::string Sweep::time_left() const {
  const double left = flops_left(), done = flops_before_ - left;
  return done > 0 && left > 0 ? ", " + duration_text(seconds_since(began_) * left / done) + " left"
                              : "";
}

void Sweep::show_status() {
  constexpr double kEvery = 0.5;
  if (seconds_since(shown_) < kEvery) {
    return;
  }
  shown_ = steady_clock::now();
  std::string running;
  for (auto& job : jobs_) {
    if (job.state == State::kRunning) {
      job.steps = last_step_in(RunPaths{folder_of(job)}.metrics());
      const auto percent = 100 * job.steps / std::max<int64_t>(1, job.run.cost.steps);
      running += text(running.empty() ? "" : ", ", job.run.name, " ", percent, " %");
    }
  }
  const auto failures = failed();
  console_->progress(text(counts(),
                          failures > 0 ? text(", ", failures, " failed") : "",
                          time_left(),
                          " | ",
                          running),
                     /*keep=*/false);
}

// Seconds that an operation of the model takes in the runs that are finished; nothing without any.
std::optional<double> Sweep::measured_seconds_per_flop() const {
  double flops = 0, seconds = 0;
  for (const auto& job : jobs_) {
    if (job.state == State::kFinished && is_run(folder_of(job))) {
      const auto curves = read_run(folder_of(job));
      if (!curves.flops.empty() && std::isfinite(curves.flops.back())) {
        flops += curves.flops.back();
        seconds += curves.seconds.back();
      }
    }
  }
  return flops > 0 ? std::optional(seconds / flops) : std::nullopt;
}

std::string Sweep::state_text(const Job& job) const {
  using Of = RunStanding::State;
  return job.state == State::kFinished      ? std::string("finished")
         : !is_needed(job)                  ? std::string("if this value is the best")
         : job.standing.state == Of::kOther ? "runs again: " + job.standing.why
         : job.standing.state == Of::kBegun ? text("continues after step ", job.steps)
                                            : std::string("to be run");
}

int64_t Sweep::at_once() const {
  int64_t count = 0, cores = 0;
  double memory = 0;
  for (const auto& job : jobs_) {
    const auto& cost = job.run.cost;
    const bool fits =
        cores + cost.cores <= budget_.cores &&
        (budget_.memory_bytes == 0 || memory + cost.memory_bytes <= budget_.memory_bytes);
    if (is_ready(job) && (count == 0 || (count < budget_.at_once && fits))) {
      ++count;
      cores += cost.cores;
      memory += cost.memory_bytes;
    }
  }
  return count;
}

std::string Sweep::plan_text() const {
  const auto measured = measured_seconds_per_flop();
  TextTable table({"run", ">steps", ">tokens", ">FLOPs", ">memory", ">time", "state"});
  double seconds_per_flop = 0;
  for (const auto& job : jobs_) {
    const auto& cost = job.run.cost;
    seconds_per_flop = measured.value_or(cost.seconds / cost.flops);
    table.add({job.run.name,
               std::to_string(cost.steps),
               scaled_text(static_cast<double>(cost.tokens)),
               scaled_text(cost.flops),
               bytes_text(cost.memory_bytes),
               duration_text(seconds_per_flop * cost.flops),
               state_text(job)});
  }
  const auto count = at_once();
  const double seconds =
      seconds_per_flop * flops_left() / static_cast<double>(std::max<int64_t>(1, count));
  return table.text() +
         text("\nin ",
              config_.output,
              "; ",
              plural(count, "run"),
              " at once on ",
              plural(budget_.cores, "core"),
              budget_.memory_bytes > 0 ? " and " + bytes_text(budget_.memory_bytes) : "",
              "; about ",
              duration_text(seconds),
              measured ? ", as fast as the runs that are finished\n"
                       : ", if runs reach half of the machine's peak; small models take several "
                         "times as long\n");
}

}  // namespace braid
