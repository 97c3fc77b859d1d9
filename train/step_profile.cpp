#include "train/step_profile.h"

#include <algorithm>
#include <cstdio>

#include <ATen/Parallel.h>

#include "core/error.h"
#include "kernels/device.h"
#include "run/memory.h"

namespace braid {
namespace {

using nlohmann::ordered_json;

constexpr const char* kPhaseNames[kProfilePhases] = {
    "forward_seconds", "recomputed_seconds", "backward_seconds", "step_seconds"};

template <class... Values>
std::string formatted(const char* format, Values... values) {
  char buffer[200];
  std::snprintf(buffer, sizeof buffer, format, values...);
  return buffer;
}

const char* name_of(at::ScalarType dtype) {
  return dtype == at::kBFloat16 ? "bfloat16" : dtype == at::kDouble ? "float64" : "float32";
}

}  // namespace

StepProfile::StepProfile(at::ScalarType dtype, int64_t ranks, at::Device device)
    : dtype_(dtype),
      ranks_(ranks),
      device_(device),
      peak_(gemm_peak(dtype, device)),
      profile_(device.is_cpu() ? std::function<void()>() : [device] { wait_for(device); }) {
  peak_.flops *= static_cast<double>(ranks);
}

void StepProfile::begin_step() {
  profile_.begin_step();
}

void StepProfile::end_step(int64_t tokens, double model_flops) {
  const double seconds = profile_.end_step();
  if (++steps_ == 0) {
    profile_.clear();
    return;
  }
  tokens_ += tokens;
  model_flops_ += model_flops;
  seconds_ += seconds;
}

ordered_json StepProfile::to_json() const {
  const auto steps = static_cast<double>(std::max<int64_t>(1, steps_));
  const double seconds = std::max(seconds_, 1e-9);
  auto rows = ordered_json::array();
  // The model's parts as they first ran, then the step's, then what no scope encloses.
  auto parts = profile_.parts();
  std::stable_partition(parts.begin(), parts.end(), [](const Profile::Part& part) {
    return part.kind != ProfileKind::kStep;
  });
  const auto other = std::ranges::find(parts, "other", &Profile::Part::name);
  std::rotate(other, other + 1, parts.end());
  for (const auto& part : parts) {
    ordered_json row = {{"part", part.name}};
    Profile::Cell sum;
    for (std::size_t phase = 0; phase < kProfilePhases; ++phase) {
      row[kPhaseNames[phase]] = part.phases[phase].seconds / steps;
      sum.seconds += part.phases[phase].seconds;
      sum.flops += part.phases[phase].flops;
    }
    row["seconds"] = sum.seconds / steps;
    row["share"] = sum.seconds / seconds;
    row["flops"] = static_cast<double>(sum.flops) / steps;
    rows.push_back(std::move(row));
  }
  return {{"steps", std::max<int64_t>(0, steps_)},
          {"threads", at::get_num_threads()},
          {"ranks", ranks_},
          {"device", device_.str()},
          {"dtype", name_of(dtype_)},
          {"gemm_peak", {{"flops_per_second", peak_.flops}, {"kernel", peak_.kernel}}},
          {"step_seconds", seconds_ / steps},
          {"step_tokens", static_cast<double>(tokens_) / steps},
          {"step_model_flops", model_flops_ / steps},
          {"tokens_per_second", static_cast<double>(tokens_) / seconds},
          {"model_flops_utilisation", model_flops_ / seconds / peak_.flops},
          {"peak_memory_bytes", peak_resident_bytes()},
          {"parts", rows}};
}

std::string profile_table(const ordered_json& profile) {
  const auto number = [&](const char* key) { return profile.at(key).get<double>(); };
  const auto steps = profile.at("steps").get<int64_t>();
  if (steps == 0) {
    return "profile: no step was measured, as the first one is left out; take more steps";
  }
  std::string lines = formatted(
      "profile: ms per step, mean of %lld (the first left out)\n"
      "%-22s %9s %9s %9s %9s %9s %7s %9s\n",
      static_cast<long long>(steps),
      "part",
      "forward",
      "again",
      "backward",
      "step",
      "total",
      "share",
      "GFLOP/s");
  double accounted = 0, flops = 0;
  const auto row = [](const std::string& name,
                      const ordered_json& cells,
                      double seconds,
                      double share,
                      double row_flops) {
    std::string line = formatted("%-22s", name.c_str());
    for (const char* phase : kPhaseNames) {
      const double ms = cells.is_null() ? 0 : 1e3 * cells.at(phase).get<double>();
      line += ms > 0 ? formatted(" %9.2f", ms) : formatted(" %9s", "");
    }
    line += formatted(" %9.2f %6.1f%%", 1e3 * seconds, 100 * share);
    return line + (row_flops > 0 ? formatted(" %9.1f", row_flops / seconds / 1e9) : "") + "\n";
  };
  for (const auto& part : profile.at("parts")) {
    const auto of = [&](const char* key) { return part.at(key).get<double>(); };
    accounted += of("share");
    flops += of("flops");
    if (of("seconds") > 0) {
      lines += row(part.at("part"), part, of("seconds"), of("share"), of("flops"));
    }
  }
  lines += row("all", nullptr, number("step_seconds"), accounted, flops);
  const auto& peak = profile.at("gemm_peak");
  const auto device = profile.at("device").get<std::string>();
  const auto place =
      device == "cpu" ? text(profile.at("threads").get<int64_t>(), " threads") : device;
  lines += formatted(
      "%.0f tokens/s | model FLOPs %.1f GFLOP/s = %.1f%% of the GEMM peak, %.1f GFLOP/s (%s, %s, "
      "%s",
      number("tokens_per_second"),
      number("step_model_flops") / number("step_seconds") / 1e9,
      100 * number("model_flops_utilisation"),
      peak.at("flops_per_second").get<double>() / 1e9,
      peak.at("kernel").get<std::string>().c_str(),
      profile.at("dtype").get<std::string>().c_str(),
      place.c_str());
  if (profile.at("ranks").get<int64_t>() > 1) {
    lines += formatted(" on each of %lld ranks",
                       static_cast<long long>(profile.at("ranks").get<int64_t>()));
  }
  return lines + formatted(") | memory %s",
                           bytes_text(profile.at("peak_memory_bytes").get<int64_t>()).c_str());
}

}  // namespace braid
