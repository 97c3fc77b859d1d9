#include "plan/plan.h"

#include <algorithm>
#include <map>
#include <tuple>

#include "core/parameter_names.h"
#include "run/grouped_parameters.h"
#include "tests/train/tiny_run.h"

namespace braid {
namespace {

using namespace testing;

const std::string kModels = std::string(BRAID_TEST_DATA) + "/../../configs/models/";

std::map<std::string, PartPlan> by_part(const Plan& plan) {
  std::map<std::string, PartPlan> result;
  for (const auto& part : plan.parts) {
    result[part.part] = part;
  }
  return result;
}

// One layer each of window, CSA and HCA, small enough to count by hand.
RunConfig small_run() {
  RunConfig config;
  auto& model = config.model;
  model.vocab_size = 10;
  model.hidden_size = 8;
  model.num_hidden_layers = 3;
  model.num_attention_heads = 2;
  model.head_dim = 4;
  model.qk_rope_head_dim = 2;
  model.q_lora_rank = 6;
  model.o_groups = 2;
  model.o_lora_rank = 3;
  model.sliding_window = 4;
  model.compress_ratios = {0, 4, 8};
  model.index_n_heads = 2;
  model.index_head_dim = 4;
  model.index_topk = 2;
  model.n_routed_experts = 4;
  model.num_experts_per_tok = 2;
  model.moe_intermediate_size = 5;
  model.num_hash_layers = 1;
  model.hc_mult = 2;
  config.data.seq_len = 8;
  config.train.max_steps = 10;
  config.train.global_batch_size = 6;
  config.train.micro_batch_size = 2;
  return config;
}

TEST(Plan, CountsParametersAndOperationsByPart) {
  const auto plan = plan_training(small_run());
  struct Want {
    int64_t parameters, active;
    double forward, backward;
  };
  const std::map<std::string, Want> want = {
      {"embedding", {80, 8, 0, 0}},
      {"attention", {606, 606, 1200, 2400}},
      {"attention_scores", {0, 0, 340, 680}},
      {"norms", {86, 86, 0, 0}},
      {"compressor", {264, 264, 384, 768}},
      {"indexer", {228, 228, 384, 0}},
      {"indexer_scores", {0, 0, 12, 0}},
      {"router", {104, 104, 192, 384}},
      {"experts", {1440, 720, 1440, 2880}},
      {"shared_experts", {360, 360, 720, 1440}},
      {"residual", {869, 869, 2368, 4736}},
      {"head", {80, 80, 160, 320}},
  };
  const auto parts = by_part(plan);
  ASSERT_EQ(parts.size(), want.size());
  for (const auto& [name, numbers] : want) {
    ASSERT_TRUE(parts.contains(name)) << name;
    const auto& got = parts.at(name);
    EXPECT_EQ(got.parameters, numbers.parameters) << name;
    EXPECT_EQ(got.active, numbers.active) << name;
    EXPECT_EQ(got.forward_flops, numbers.forward) << name;
    EXPECT_EQ(got.backward_flops, numbers.backward) << name;
  }
  EXPECT_EQ(plan.total().parameters, 4117);
  EXPECT_EQ(plan.total().active, 3325);
  ASSERT_EQ(plan.stages.size(), 1u);
  const auto& stage = plan.stages[0];
  EXPECT_EQ(stage.steps, 10);
  EXPECT_EQ(stage.tokens(), 480);
  EXPECT_EQ(stage.flops(), 480.0 * (7200 + 13608) + 10 * stage.newton_schulz_flops);
}

// Frozen matrices have one product backward, adapters two; what is trained and saved are adapters.
TEST(Plan, CountsAdaptersAndWhatAFrozenBaseSaves) {
  auto config = small_run();
  const auto full = by_part(plan_training(config));
  config.run.init_from = "base";
  config.train.parameters.kind = TrainedParameters::Kind::kLora;
  config.adapter.rank = 2;
  config.adapter.targets.items = {"attention", "experts"};
  const auto plan = plan_training(config);
  const auto parts = by_part(plan);
  // Of 3 layers: in + out of each matrix, twice; of 4 experts 3 A and 3 B, w1 and w3 sharing one.
  const auto& model = config.model;
  const int64_t D = model.hidden_size, L = model.q_lora_rank, H = model.head_dim,
                NH = model.num_attention_heads * H, GO = model.o_groups * model.o_lora_rank,
                F = model.moe_intermediate_size, layers = model.num_hidden_layers;
  const int64_t attention = 2 * layers * ((D + L) + (L + NH) + (D + H) + (GO + D)),
                expert = 2 * (D + 2 * F + F + D), experts = 4 * layers * expert;
  EXPECT_EQ(parts.at("attention").parameters, full.at("attention").parameters + attention);
  EXPECT_EQ(parts.at("experts").parameters, full.at("experts").parameters + experts);
  EXPECT_EQ(parts.at("experts").active, full.at("experts").active + experts / 2);
  const auto forward = [&](const char* part, int64_t adapters) {
    EXPECT_EQ(parts.at(part).forward_flops,
              full.at(part).forward_flops + 2 * static_cast<double>(adapters))
        << part;
    EXPECT_EQ(parts.at(part).backward_flops,
              full.at(part).forward_flops + 4 * static_cast<double>(adapters))
        << part;
  };
  forward("attention", attention);
  forward("experts", experts / 2);
  forward("head", 0);
  const auto trained = static_cast<double>(4 * (attention + experts));
  EXPECT_EQ(plan.memory.gradients_bytes, trained);
  EXPECT_EQ(plan.memory.optimizer_bytes, 2 * trained);
  EXPECT_EQ(plan.memory.saved_weights_bytes, trained);
  EXPECT_EQ(plan.checkpoint_bytes, 3 * trained);
  expect_mentions(plan.adapters, {"layers.*.ffn.experts.*.w2.weight  experts"});
  config.adapter.targets.items = {"all"};
  EXPECT_GT(plan_training(config).memory.activations_bytes, plan.memory.activations_bytes);
}

// It takes time, and is none of the model's operations.
TEST(Plan, TimesWhatIsComputedAgain) {
  auto config = small_run();
  config.train.recompute_sublayers.reset();
  const auto kept = plan_training(config);
  config.train.recompute_sublayers = 2;
  const auto again = plan_training(config);
  EXPECT_EQ(kept.stages.back().recomputed_flops, 0);
  EXPECT_EQ(again.stages.back().flops(), kept.stages.back().flops());
  const auto parts = by_part(kept);
  const auto heads = static_cast<double>(1 + config.model.num_nextn_predict_layers);
  const auto of_layers = kept.total().forward_flops - heads * parts.at("head").forward_flops;
  EXPECT_NEAR(again.stages.back().recomputed_flops, of_layers, 1e-9 * of_layers);
  const PlannedSpeed speed{.peak_flops = 1e9, .measured = "given", .share = 1};
  const auto& regime = kept.stages.back().regime;
  const auto tokens = static_cast<double>(regime.sequences * regime.seq_len);
  EXPECT_NEAR(planned_time(again, speed).step - planned_time(kept, speed).step,
              of_layers * tokens / 1e9,
              1e-6);
}

TEST(Plan, CountsThePassThatChoosesExpertsAhead) {
  auto config = small_run();
  config.model.num_nextn_predict_layers = 0;
  config.model.compress_ratios.resize(static_cast<std::size_t>(config.model.num_hidden_layers));
  const auto sync = plan_training(config);
  config.model.routing_mode = RoutingMode::kAnticipatory;
  const auto ahead = plan_training(config);
  const auto parts = by_part(sync);
  const auto forward = sync.total().forward_flops - parts.at("head").forward_flops;
  EXPECT_DOUBLE_EQ(ahead.stages.back().look_ahead_flops, forward);
  EXPECT_DOUBLE_EQ(ahead.stages.back().flops() - sync.stages.back().flops(),
                   forward * static_cast<double>(sync.stages.back().tokens()));
  const PlannedSpeed speed{.peak_flops = 1e9, .measured = "given"};
  EXPECT_GT(planned_time(ahead, speed).run, planned_time(sync, speed).run);
  // The model's own operations, which the share of the peak goes by, are as they were.
  EXPECT_EQ(ahead.stages.back().forward_backward_flops, sync.stages.back().forward_backward_flops);
}

TEST(Plan, FollowsRampsAndTheStagesOfAttention) {
  auto config = small_run();
  config.data.seq_len = 16;
  config.loss.indexer_mode = IndexerMode::kSparse;
  config.schedule.dense_steps = 3;
  config.schedule.indexer_warmup_steps = 2;
  config.schedule.global_batch_size = {{.until_step = 7, .value = 2}};
  const auto plan = plan_training(config);
  ASSERT_EQ(plan.stages.size(), 4u);
  const auto& [dense, warmup, small, whole] =
      std::tie(plan.stages[0], plan.stages[1], plan.stages[2], plan.stages[3]);
  EXPECT_EQ(dense.tokens(), 3 * 2 * 16);
  EXPECT_EQ(warmup.tokens(), 2 * 2 * 16);
  EXPECT_EQ(small.tokens(), 2 * 2 * 16);
  EXPECT_EQ(whole.tokens(), 3 * 6 * 16);
  EXPECT_EQ(small.forward_backward_flops, whole.forward_backward_flops);
  // The warm-up runs all forward and only the indexer backward, on matrices of its own.
  EXPECT_LT(warmup.forward_backward_flops, dense.forward_backward_flops);
  EXPECT_GT(warmup.newton_schulz_flops, 0);
  EXPECT_NEAR(warmup.newton_schulz_flops + dense.newton_schulz_flops,
              whole.newton_schulz_flops,
              1e-9 * whole.newton_schulz_flops);
  // One product backward for each indexer projection, whose input takes no gradient; two for
  // scores.
  const auto parts = by_part(plan);
  EXPECT_EQ(parts.at("indexer").backward_flops, parts.at("indexer").forward_flops);
  EXPECT_EQ(parts.at("indexer_scores").backward_flops,
            2 * parts.at("indexer_scores").forward_flops);
}

TEST(Plan, RecomputationKeepsStreamsAndOneSegment) {
  auto config = small_run();
  config.model.num_hidden_layers = 8;
  config.model.compress_ratios = std::vector<int64_t>(8, 0);
  config.model.num_hash_layers = 0;
  const double kept = plan_training(config).memory.activations_bytes;
  config.train.recompute_sublayers = 4;
  const double after = 4 * (16 + 8 + 6), visibility = 8 * 2;  // all layers have one window
  const double layers = kept - 16 * (visibility + after);
  EXPECT_DOUBLE_EQ(plan_training(config).memory.activations_bytes,
                   16 * (visibility + after) + layers * 2 / 8 + 16 * 4 * (4 * 16.0));
}

TEST(Plan, EstimatesMemoryAsItsFormulaSays) {
  const auto memory = plan_training(small_run()).memory;
  EXPECT_EQ(memory.weights_bytes, 4 * 4117 + 8 * 10 * 2);         // and one hash table
  EXPECT_EQ(memory.gradients_bytes, 4 * (4117 - 8 - 228));        // no routing bias, no indexer
  EXPECT_EQ(memory.optimizer_bytes, 4 * (4117 - 8 - 228 + 393));  // 393 elements on AdamW
  const double narrow_layer = 2 * (16 + 16) + 2 * 6 + 3 * 8 + 6 + 2 * 4 + 2 * (8 + 15) + 15;
  const double mixing = (8 + 2 + 2) + 2 + 4, layer = 4 * (narrow_layer + 2 * mixing + 2 * 4);
  const double compressors = 4 * (2 * 8 + 2 * 4), visibility = 8 * (2 + 2 * 4),
               after = 4 * (16 + 8 + 6);
  EXPECT_EQ(memory.activations_bytes, 16 * (3 * layer + compressors + visibility + after));

  auto narrow = small_run();
  narrow.train.dtype = ComputeType::kBfloat16;
  // Wide copies, in the layers (two of which compress) and after them; what is narrow takes half.
  const double copies = 4 * (3 * 8 + 2 * 8) + 4 * 8;
  const double narrow_elements = 3 * narrow_layer + (16 + 8);
  EXPECT_EQ(plan_training(narrow).memory.activations_bytes,
            memory.activations_bytes + 16 * (copies - 2 * narrow_elements));

  auto wide = small_run();
  wide.train.dtype = ComputeType::kFloat64;
  EXPECT_EQ(plan_training(wide).memory.gradients_bytes, 2 * memory.gradients_bytes);
}

// Of what the release quantizes, and of the one matrix of bfloat16 that is multiplied by
// activations of it: 2 bytes each.
TEST(Plan, CountsTheWorkingCopiesOfAGpu) {
  auto config = small_run();
  config.train.device = {DeviceChoice::Kind::kCuda};
  config.train.global_batch_size = 8;
  config.train.dtype = ComputeType::kBfloat16;
  double elements = 0;
  const auto model = model_without_values(config);
  for (const auto& parameter : model.parameters().all()) {
    const bool is_rounded = kind_of(parameter.name)->may_be_quantized() ||
                            parameter.name.ends_with("indexer.weights_proj.weight");
    elements += is_rounded ? static_cast<double>(parameter.value.numel()) : 0;
  }
  const auto memory = plan_training(config).memory;
  EXPECT_EQ(memory.working_copies_bytes, 2 * elements);
  const auto copies_of = [](const RunConfig& run, int64_t ranks = 1) {
    return plan_training(run, ranks).memory.working_copies_bytes;
  };
  auto other = config;
  other.parallel.expert = 4;
  EXPECT_EQ(copies_of(other, 4), 2 * (elements - 1440.0 * 3 / 4));
  other = config;
  other.train.working_copies = false;
  EXPECT_EQ(copies_of(other), 0);
  EXPECT_EQ(plan_training(other).memory.device_bytes(), memory.device_bytes() - 2 * elements);
  other = config;
  other.train.device = {};
  EXPECT_EQ(copies_of(other), 0);
  other = config;
  other.train.dtype = ComputeType::kFloat32;
  EXPECT_EQ(copies_of(other), 0);
}

TEST(Plan, OfTheReleasedModelsHasThePublishedSizes) {
  const auto flash = plan_training(load_run_config(kModels + "flash.yaml", {}));
  const auto flash_mtp = by_part(flash).at("mtp");
  EXPECT_EQ(flash.total().parameters, 290'942'289'362);
  EXPECT_EQ(flash_mtp.parameters, 6'610'048'891);
  EXPECT_NEAR(static_cast<double>(flash.total().active - flash_mtp.active), 13.27e9, 0.005e9);

  const auto pro = plan_training(load_run_config(kModels + "pro.yaml", {}));
  const auto pro_mtp = by_part(pro).at("mtp");
  EXPECT_EQ(pro.total().parameters, 1'598'837'347'742);
  EXPECT_EQ(pro_mtp.parameters, 25'840'145'979);
  EXPECT_NEAR(static_cast<double>(pro.total().active - pro_mtp.active), 48.85e9, 0.005e9);
}

// Of Flash, one of whose matrices has more Newton-Schulz work than a 512th of all.
TEST(Plan, BalancesNewtonSchulzOfFlashOnAnyNumberOfRanks) {
  for (const int64_t ranks : {8, 64, 512}) {
    SCOPED_TRACE(ranks);
    auto config = load_run_config(kModels + "flash.yaml", {});
    config.train.global_batch_size = 512;
    config.parallel.expert = std::min<int64_t>(ranks, 64);
    const auto plan = plan_training(config, ranks);
    EXPECT_LT(plan.ranks.newton_schulz_imbalance, ranks == 512 ? 1.1 : 1.005);
    EXPECT_LT(plan.ranks.experts_imbalance, 1.02);
    if (ranks == 512) {
      EXPECT_LT(plan.ranks.zero_group, 512);
    } else {
      EXPECT_EQ(plan.ranks.zero_group, ranks);
    }
    config.optimizer.zero_group = ranks;
    if (ranks == 512) {  // as one group it is not
      EXPECT_GT(plan_training(config, ranks).ranks.newton_schulz_imbalance, 1.1);
    }
  }
}

TEST(Plan, DividesMemoryAndWorkAmongRanks) {
  auto config = small_run();
  config.train.global_batch_size = 8;
  const auto one = plan_training(config), dp = plan_training(config, 4);
  // Data-parallel ranks have all weights and gradients, and their share of the states.
  EXPECT_EQ(dp.memory.weights_bytes, one.memory.weights_bytes);
  EXPECT_EQ(dp.memory.gradients_bytes, one.memory.gradients_bytes);
  EXPECT_LT(dp.memory.optimizer_bytes, one.memory.optimizer_bytes / 2);
  EXPECT_GE(dp.memory.optimizer_bytes, one.memory.optimizer_bytes / 4);
  EXPECT_DOUBLE_EQ(dp.memory.optimizer_bytes * 4,
                   one.memory.optimizer_bytes * (1 + dp.ranks.state_padding));
  EXPECT_DOUBLE_EQ(dp.ranks.forward_backward_flops * 4, one.ranks.forward_backward_flops);

  // Experts are 1440 elements, of 3881 that learn.
  config.parallel.expert = 4;
  const auto ep = plan_training(config, 4);
  EXPECT_EQ(ep.memory.weights_bytes, one.memory.weights_bytes - 4 * 1440 * 3 / 4);
  EXPECT_EQ(ep.memory.gradients_bytes, one.memory.gradients_bytes - 4 * 1440 * 3 / 4);
}

TEST(Plan, CountsTheBytesThatTravel) {
  auto config = small_run();
  config.train.global_batch_size = 8;
  config.optimizer.zero_group = 1;
  const double learn = 4 * (4117 - 8 - 228), experts = 4 * 1440, dense = learn - experts;
  auto plan = plan_training(config, 4).ranks;
  // Every rank owns all dense weights, whose gradients it sends to the three others, and a quarter
  // of the experts'.
  EXPECT_NEAR(plan.gradients_sent_bytes, 3 * dense + experts * 3 / 4, experts / 4);
  EXPECT_NEAR(plan.weights_sent_bytes, 3 * experts / 4, experts / 4);
  EXPECT_EQ(plan.experts_sent_bytes, 0);
  EXPECT_EQ(plan.newton_schulz_imbalance, 1);

  config.optimizer.zero_group = 4;
  config.parallel.expert = 4;
  plan = plan_training(config, 4).ranks;
  // Experts stay where they are; of the dense gradients a rank keeps those it owns.
  EXPECT_LT(plan.gradients_sent_bytes, dense);
  EXPECT_GT(plan.gradients_sent_bytes, dense * 3 / 4);
  EXPECT_GE(plan.weights_sent_bytes, dense * 3 / 4);
  // 3 layers; 16 tokens with 2 choices, of which 3/4 leave; 8 elements out and back and a weight,
  // forward and backward.
  EXPECT_EQ(plan.experts_sent_bytes, 3 * (16 * 2 * 3 / 4) * 2 * (2 * 8 * 4 + 4));
  config.train.recompute_sublayers = 2;
  EXPECT_EQ(plan_training(config, 4).ranks.experts_sent_bytes, plan.experts_sent_bytes * 3 / 2);

  config.parallel.reduce_dtype = ReduceType::kBfloat16;
  EXPECT_EQ(plan_training(config, 4).ranks.gradients_sent_bytes, plan.gradients_sent_bytes / 2);
}

TEST(Plan, RefusesGridsThatCannotBe) {
  auto config = small_run();
  config.parallel.expert = 3;
  expect_mentions(error_of([&] { plan_training(config, 6); }), {"parallel.expert"});
  config.parallel.expert = 1;
  expect_mentions(error_of([&] { plan_training(config, 4); }), {"train.global_batch_size", "8"});
}

TEST(Plan, LeavesOutPartsThatTheModelLacks) {
  auto config = small_run();
  config.model.layer_types = {AttentionKind::kFull, AttentionKind::kFull, AttentionKind::kFull};
  config.model.residual = ResidualKind::kPlain;
  config.model.n_shared_experts = 0;
  const auto parts = by_part(plan_training(config));
  for (const auto* name : {"compressor", "indexer", "residual", "shared_experts", "mtp"}) {
    EXPECT_FALSE(parts.contains(name)) << name;
  }
}

TEST(Plan, HasTheGroupsOfTheTraining) {
  auto config = small_run();
  config.optimizer.groups = {
      {.match = "layers.*.attn.wkv.weight", .optimizer = OptimizerKind::kNone}};
  expect_mentions(plan_training(config).groups,
                  {"layers.{0-2}.attn.wkv.weight", "none", "embed.weight", "adamw", "muon"});
  config.optimizer.groups = {{.match = "nothing.like.that"}};
  expect_mentions(error_of([&] { plan_training(config); }), {"optimizer.groups[0].match"});
}

// One object a stage, found without going through the steps.
TEST(Plan, OfABillionStepsHasTheStagesOfTheirRegimes) {
  auto config = small_run();
  config.loss.indexer_mode = IndexerMode::kSparse;
  config.schedule.dense_steps = 3;
  config.schedule.indexer_warmup_steps = 4;
  config.schedule.seq_len = {{.until_step = 5, .value = 8}, {.until_step = 12, .value = 16}};
  for (const int64_t max_steps : {1, 3, 4, 12, 13, 1'000'000'000}) {
    config.train.max_steps = max_steps;
    const auto stages = plan_training(config).stages;
    int64_t step = 0;
    for (const auto& stage : stages) {
      for (const int64_t its : {step, step + stage.steps - 1}) {  // the first and the last
        const auto regime = regime_at(config, its);
        EXPECT_EQ(stage.regime.seq_len, regime.seq_len) << its << " of " << max_steps;
        EXPECT_EQ(stage.regime.trained, regime.trained) << its << " of " << max_steps;
        EXPECT_EQ(stage.regime.options.dense_attention, regime.options.dense_attention);
      }
      step += stage.steps;
    }
    EXPECT_EQ(step, max_steps);
    EXPECT_LE(stages.size(), 5);
  }
}

TEST(Plan, OfAMillionRanksIsThatOfAFew) {
  auto config = small_run();
  config.train.global_batch_size = 1'000'000;
  config.train.micro_batch_size = 1;
  config.optimizer.zero_group = 2;
  const auto few = plan_training(config, 1000).ranks, many = plan_training(config, 1'000'000).ranks;
  EXPECT_EQ(many.optimizer_bytes, few.optimizer_bytes);
  EXPECT_EQ(many.newton_schulz_flops, few.newton_schulz_flops);
  EXPECT_DOUBLE_EQ(many.forward_backward_flops * 1000, few.forward_backward_flops);
}

TEST(Plan, TellsTimeFromOperationsAndSpeed) {
  auto config = small_run();
  config.train.max_steps = 10;
  const auto plan = plan_training(config);
  const PlannedSpeed speed{.peak_flops = 1e9, .measured = "given", .share = 0.25};
  const auto time = planned_time(plan, speed);
  double flops = 0;
  for (const auto& stage : plan.stages) {
    flops += stage.flops();
  }
  EXPECT_DOUBLE_EQ(time.run, flops / 0.25e9);
  EXPECT_DOUBLE_EQ(time.step, flops / 10 / 0.25e9);
  const auto told = report(plan, speed).at("time, estimated");
  EXPECT_EQ(told.at("step_seconds"), time.step);
  EXPECT_EQ(told.at("assumed_share_of_peak"), 0.25);
  EXPECT_EQ(told.at("peak_is"), "given");
  // Ranks divide the tokens.
  config.train.global_batch_size = 8;
  EXPECT_LT(planned_time(plan_training(config, 4), speed).step,
            planned_time(plan_training(config), speed).step / 2);
}

TEST(Plan, ACheckpointHoldsWeightsAndStateOnceOnAnyNumberOfRanks) {
  auto config = small_run();
  config.train.global_batch_size = 8;
  const auto one = plan_training(config);
  EXPECT_EQ(one.checkpoint_bytes, one.memory.weights_bytes + one.memory.optimizer_bytes);
  config.parallel.expert = 2;
  EXPECT_EQ(plan_training(config, 4).checkpoint_bytes, one.checkpoint_bytes);
}

}  // namespace
}  // namespace braid
