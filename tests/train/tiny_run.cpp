#include "tests/train/tiny_run.h"

#include <algorithm>
#include <cmath>
#include <iostream>
#include <sstream>

#include "checkpoint/history.h"
#include "core/random.h"
#include "tests/support/compare.h"

namespace braid::testing {
namespace {

/// Documents of words drawn in a fixed order, parted by lines of "%".
std::string corpus_text() {
  const std::vector<std::string> words = {"the ", "quick ", "brown ", "fox ", "jumps ", "over "};
  std::string text;
  for (uint64_t document = 0; document < 60; ++document) {
    const uint64_t key = random_key(document, "corpus");
    for (uint64_t i = 0; i < 2 + document % 9; ++i) {
      text += words[random_bits(key, i) % words.size()];
    }
    text += "\n%\n";
  }
  return text;
}

/// Keeps standard output while it lives.
class CapturedOutput {
 public:
  CapturedOutput() : old_(std::cout.rdbuf(text_.rdbuf())) {}
  ~CapturedOutput() { std::cout.rdbuf(old_); }
  CapturedOutput(const CapturedOutput&) = delete;
  CapturedOutput& operator=(const CapturedOutput&) = delete;
  std::string text() const { return text_.str(); }

 private:
  std::ostringstream text_;
  std::streambuf* old_;
};

}  // namespace

ModelConfig tiny_model() {
  ModelConfig model;
  model.hidden_size = 16;
  model.num_hidden_layers = 3;
  model.num_attention_heads = 2;
  model.head_dim = 8;
  model.qk_rope_head_dim = 4;
  model.q_lora_rank = 8;
  model.o_lora_rank = 4;
  model.sliding_window = 4;
  model.compress_ratios = {0, 4, 8};
  model.index_n_heads = 2;
  model.index_head_dim = 8;
  model.index_topk = 2;
  model.n_routed_experts = 4;
  model.moe_intermediate_size = 16;
  model.num_hash_layers = 1;
  model.num_nextn_predict_layers = 1;
  model.hc_mult = 2;
  return model;
}

TinyRun::TinyRun() : corpus_(write("corpus.txt", corpus_text())) {}

RunConfig TinyRun::config(const std::string& name) const {
  RunConfig config;
  config.run.name = name;
  config.run.output_dir = (folder_ / "runs").string();
  config.model = tiny_model();
  config.data.train = {corpus_.string()};
  config.data.validation_fraction = 0.1;
  config.data.document_separator = "%";
  config.data.seq_len = 32;
  config.data.validation_seq_len = 32;
  config.data.pack_window = 16;
  config.train.max_steps = 6;
  config.train.global_batch_size = 4;
  config.train.micro_batch_size = 2;
  config.train.threads = 1;
  config.train.validate_every_steps = 2;
  config.optimizer.learning_rate = 2e-3;
  config.schedule.warmup_steps = 2;
  config.checkpoint.every_steps = 4;
  config.checkpoint.keep_last = 1;
  return config;
}

Trained train(const RunConfig& config, int64_t steps, const ResumeFrom& from, at::Device device) {
  const CapturedOutput output;
  Trainer trainer(config, from, alone(), device);
  const auto end = trainer.run([&steps] { return steps-- <= 0; });
  return {end, output.text()};
}

std::vector<nlohmann::json> metrics_but_timings(const RunConfig& config) {
  std::vector<nlohmann::json> records;
  std::ifstream file(config.run_dir() / "metrics.jsonl");
  for (std::string line; std::getline(file, line);) {
    records.push_back(nlohmann::json::parse(line));
    records.back().erase("tokens_per_second");
    records.back().erase("step_seconds");
    for (const auto* what : {"context", "experts", "updates"}) {
      records.back().erase(std::string("sent_bytes.") + what);
    }
  }
  return records;
}

nlohmann::json metrics_of_step(const RunConfig& config, int64_t step) {
  for (const auto& record : metrics_but_timings(config)) {
    if (record.at("step") == step && !record.contains("split")) {
      return record;
    }
  }
  ADD_FAILURE() << "metrics.jsonl has no step " << step;
  return {};
}

std::filesystem::path newest_checkpoint(const RunConfig& config) {
  return newest_complete_checkpoint(config.run_dir() / "checkpoints").value();
}

void expect_same_run(const RunConfig& got, const RunConfig& want) {
  EXPECT_EQ(metrics_but_timings(got), metrics_but_timings(want));
  const auto got_checkpoint = load_checkpoint(newest_checkpoint(got));
  const auto want_checkpoint = load_checkpoint(newest_checkpoint(want));
  EXPECT_EQ(got_checkpoint.state, want_checkpoint.state);
  ASSERT_EQ(got_checkpoint.tensors.size(), want_checkpoint.tensors.size());
  for (std::size_t i = 0; i < got_checkpoint.tensors.size(); ++i) {
    EXPECT_EQ(got_checkpoint.tensors[i].name, want_checkpoint.tensors[i].name);
    expect_bitwise_equal(want_checkpoint.tensors[i].name,
                         got_checkpoint.tensors[i].value,
                         want_checkpoint.tensors[i].value);
  }
}

void expect_close_run(const RunConfig& got, const RunConfig& want, RunTolerance tolerance) {
  const auto records = metrics_but_timings(got), wanted = metrics_but_timings(want);
  ASSERT_EQ(records.size(), wanted.size());
  for (std::size_t i = 0; i < records.size(); ++i) {
    EXPECT_EQ(records[i].size(), wanted[i].size()) << records[i] << wanted[i];
    for (const auto& [key, value] : wanted[i].items()) {
      const auto& its = records[i].at(key);
      if (!value.is_number()) {
        EXPECT_EQ(its, value) << "step " << wanted[i].at("step") << ", " << key;
        continue;
      }
      const double a = its, b = value;
      EXPECT_LE(std::abs(a - b), tolerance.metrics * std::max(1e-3, std::abs(b)))
          << "step " << wanted[i].at("step") << ", " << key << ": " << a << " and " << b;
    }
  }
  const auto checkpoint = load_checkpoint(newest_checkpoint(got)),
             wanted_checkpoint = load_checkpoint(newest_checkpoint(want));
  ASSERT_EQ(checkpoint.tensors.size(), wanted_checkpoint.tensors.size());
  for (std::size_t i = 0; i < checkpoint.tensors.size(); ++i) {
    const auto& [name, value] = wanted_checkpoint.tensors[i];
    EXPECT_EQ(checkpoint.tensors[i].name, name);
    expect_close(name,
                 checkpoint.tensors[i].value.to(at::kDouble),
                 value.to(at::kDouble),
                 {.absolute = tolerance.tensors * 1e-3, .relative = tolerance.tensors});
  }
}

}  // namespace braid::testing
