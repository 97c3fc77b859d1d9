#include <iostream>
#include <memory>

#include "commands/command_options.h"
#include "commands/commands.h"
#include "commands/counted_epochs.h"
#include "commands/planned_speed.h"
#include "core/error.h"
#include "formats/base_sizes.h"
#include "plan/decode_cost.h"
#include "plan/plan.h"
#include "run/table.h"

namespace braid {
Command plan_command(CLI::App& app) {
  struct Arguments {
    RunConfigOptions run;
    int64_t ranks = 1;
    double flops_per_second = 0;
    double link_gb_per_second = PlannedSpeed().link_bytes / kGigabyte;
    double disk_gb_per_second = PlannedSpeed().disk_bytes / kGigabyte;
    bool decode = false, json = false;
  };
  auto arguments = std::make_shared<Arguments>();
  auto* command = app.add_subcommand(
      "plan",
      "What a run would be on any number of ranks: parameters, operations, memory, traffic");
  add_run_config(*command, arguments->run)->required();
  command->add_option("--ranks", arguments->ranks, "processes that mpirun would start")
      ->check(whole_number(1, 1'000'000))
      ->capture_default_str();
  command
      ->add_option("--flops-per-second",
                   arguments->flops_per_second,
                   "operations that one rank could do at its peak, for the estimate of time; "
                   "without it this machine's matrix products are measured")
      ->check(real_number(1, 1e30));
  command
      ->add_option("--link-gb-per-second",
                   arguments->link_gb_per_second,
                   "10^9 bytes per second that the host copies to a GPU, for experts that do not "
                   "stay there (train.resident_gb)")
      ->check(real_number(1e-3, 1e6))
      ->capture_default_str();
  command
      ->add_option("--disk-gb-per-second",
                   arguments->disk_gb_per_second,
                   "the same of what is read from the base's files (train.pinned_gb)")
      ->check(real_number(1e-3, 1e6))
      ->capture_default_str();
  command->add_flag("--decode",
                    arguments->decode,
                    "instead: operations and KV cache of one generated token by context, beside a "
                    "model of DeepSeek-V3.2's shape");
  command->add_flag("--json", arguments->json, "one JSON object");
  command->footer(
      "Allocates no weights, and reads data only to count the steps of train.epochs. Times assume "
      "half of the peak, which is typical of\n"
      "models that are not tiny; each rank is taken to have a machine like this one of its own.\n\n"
      "Example:\n"
      "  braid plan configs/quickstart.yaml\n"
      "  braid plan configs/models/pro.yaml --decode\n"
      "  braid plan configs/models/flash.yaml --ranks 512 --set train.global_batch_size=1024 \\\n"
      "    --set data.seq_len=4096 --set parallel.expert=64");
  return [arguments] {
    auto config = arguments->run.load();
    if (arguments->decode) {
      const auto costs = decode_costs(config.model);
      std::cout << (arguments->json ? json_text(costs) + "\n" : readable(costs)) << std::flush;
      return 0;
    }
    config = with_counted_epochs(std::move(config));
    const auto plan = plan_training(config, arguments->ranks, bytes_of_codes(config.run.init_from));
    auto speed = arguments->flops_per_second > 0
                     ? PlannedSpeed{.peak_flops = arguments->flops_per_second,
                                    .measured = "given by --flops-per-second"}
                     : measured_speed(config);
    speed.link_bytes = arguments->link_gb_per_second * kGigabyte;
    speed.disk_bytes = arguments->disk_gb_per_second * kGigabyte;
    if (arguments->json) {
      std::cout << json_text(report(plan, speed)) << std::endl;
    } else {
      print_plan(plan, speed);
    }
    return 0;
  };
}

}  // namespace braid
