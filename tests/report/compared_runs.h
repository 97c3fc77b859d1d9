#pragma once
// Runs as a comparison takes them, without folders.
#include <cstdint>
#include <string>
#include <vector>

#include "report/comparison.h"

namespace braid::testing {

/// A finished run of four validations whose last loss is `loss`; each step reads 100 tokens.
inline RunCurves simulated_run(int64_t seed,
                               double loss,
                               const std::string& yaml = "model: {width: 1}") {
  RunCurves run;
  run.name = "run-seed" + std::to_string(seed);
  run.seed = seed;
  run.state = "finished";
  run.max_steps = 4;
  run.config = parse_yaml(yaml, "test");
  Series losses{"loss", {}, {}};
  for (int64_t step = 1; step <= 4; ++step) {
    run.steps.push_back(step);
    run.tokens.push_back(100.0 * static_cast<double>(step));
    run.flops.push_back(1e6 * static_cast<double>(step));
    run.seconds.push_back(static_cast<double>(step));
    losses.steps.push_back(step);
    losses.values.push_back(loss + static_cast<double>(4 - step));
  }
  run.validation = {{"", {losses}}};
  return run;
}

/// Runs with these last losses, of seeds from 1 on.
inline ArmRuns arm(const std::string& name, const std::vector<double>& losses) {
  ArmRuns result{name, {}, ""};
  for (std::size_t i = 0; i < losses.size(); ++i) {
    result.runs.push_back(simulated_run(static_cast<int64_t>(i) + 1, losses[i]));
  }
  return result;
}

}  // namespace braid::testing
