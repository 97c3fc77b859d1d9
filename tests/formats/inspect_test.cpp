#include "formats/inspect.h"

#include <fstream>
#include <limits>

#include <ATen/ATen.h>

#include "checkpoint/hdf5.h"
#include "checkpoint/manifest.h"
#include "checkpoint/safetensors.h"
#include "core/random.h"
#include "tests/train/tiny_run.h"

namespace braid {
namespace {

namespace fs = std::filesystem;
using namespace testing;

/// The problem that verification reports of each file, by its place in the folder; "" = sound.
std::map<std::string, std::string> verdicts_of(const fs::path& path) {
  std::map<std::string, std::string> result;
  for (const auto& [file, problem] : inspect(path, /*verify=*/true).verdicts) {
    result[(file == path ? file.filename() : file.lexically_relative(path)).string()] = problem;
  }
  return result;
}

std::vector<std::string> bad_files(const fs::path& path) {
  std::vector<std::string> result;
  for (const auto& [file, problem] : verdicts_of(path)) {
    if (!problem.empty()) {
      result.push_back(file);
    }
  }
  return result;
}

void overwrite(const fs::path& path, const std::string& contents) {
  std::ofstream(path, std::ios::binary) << contents;
}

using Strings = std::vector<std::string>;

class InspectRun : public TinyRun {
 protected:
  InspectRun() {
    train(config("run"));
    run_ = config("run").run_dir();
    checkpoint_ = newest_checkpoint(config("run"));
  }

  /// Makes COMPLETE vouch for the files as they are.
  void seal(const Strings& files = {"shard-00000-of-00001.h5", "index.h5", "config.yaml"}) const {
    std::vector<FileRecord> records;
    for (const auto& file : files) {
      records.push_back(record_of(checkpoint_, file));
    }
    write_manifest(checkpoint_, records);
  }

  fs::path run_, checkpoint_;
};

TEST_F(InspectRun, TellsWhereTheRunIs) {
  const auto facts = inspect(run_, false).facts;
  EXPECT_EQ(facts.at("kind"), "run");
  EXPECT_EQ(facts.at("name"), "run");
  EXPECT_EQ(facts.at("step"), 6);
  EXPECT_EQ(facts.at("max_steps"), 6);
  EXPECT_EQ(facts.at("last_step").at("loss").get<double>(),
            metrics_of_step(config("run"), 6).at("loss").get<double>());
  EXPECT_EQ(facts.at("last_validation").at("split"), "validation");
  ASSERT_EQ(facts.at("checkpoints").size(), 1u);
  EXPECT_EQ(facts.at("checkpoints")[0].at("checkpoint"), "step-00000006");
  EXPECT_EQ(facts.at("checkpoints")[0].at("complete"), true);
  EXPECT_EQ(facts.at("token_stores").size(), 2u);
  EXPECT_EQ(facts.at("model").at("layers"), 3);
}

TEST_F(InspectRun, TellsWhatACheckpointHolds) {
  const auto facts = inspect(checkpoint_, false).facts;
  EXPECT_EQ(facts.at("kind"), "checkpoint");
  EXPECT_EQ(facts.at("format_version"), 1);
  EXPECT_EQ(facts.at("state").at("step"), 6);
  EXPECT_EQ(facts.at("training").at("max_steps"), 6);
  const auto tensors = load_checkpoint(checkpoint_).tensors;
  int64_t model = 0, elements = 0;
  for (const auto& [name, value] : tensors) {
    model += name.starts_with("model/");
    elements += name.starts_with("optimizer/") ? value.numel() : 0;
  }
  EXPECT_EQ(facts.at("totals")[0].at("tensors"), model);
  EXPECT_EQ(facts.at("totals")[1].at("elements"), elements);
  EXPECT_EQ(facts.at("totals")[1].at("bytes"), 4 * elements);
  const nlohmann::ordered_json experts = {{"name", "model/layers.1.ffn.experts.*.w1.weight"},
                                          {"count", 4},
                                          {"dtype", "F32"},
                                          {"shape", {16, 16}},
                                          {"bytes", 4096}};
  const auto& rows = facts.at("tensors");
  EXPECT_EQ(std::count(rows.begin(), rows.end(), experts), 1);
}

TEST_F(InspectRun, FindsEveryFileOfASoundRunSound) {
  EXPECT_EQ(bad_files(run_), Strings());
  EXPECT_EQ(verdicts_of(run_).size(),
            8u);  // configuration, metrics, two stores, four of a checkpoint
}

TEST_F(InspectRun, FindsEveryAlteredBitOfACheckpointAndNamesTheFile) {
  for (const Strings files = {"shard-00000-of-00001.h5", "index.h5", "config.yaml", "COMPLETE"};
       const auto& name : files) {
    const auto sound = read_file(checkpoint_ / name);
    for (uint64_t i = 0; i < 6; ++i) {
      auto altered = sound;
      const uint64_t bit = random_bits(random_key(1, name), i) % (8 * sound.size());
      altered[bit / 8] ^= static_cast<char>(1 << bit % 8);
      overwrite(checkpoint_ / name, altered);
      EXPECT_EQ(bad_files(checkpoint_), Strings{name}) << "bit " << bit;
    }
    expect_mentions(error_of([&] { inspect(checkpoint_, false); }), {name});
    overwrite(checkpoint_ / name, sound);
  }
}

TEST_F(InspectRun, FindsMissingShortenedAndUnknownFiles) {
  const auto shard = checkpoint_ / "shard-00000-of-00001.h5";
  const auto sound = read_file(shard);
  write("runs/run/checkpoints/step-00000006/notes.txt", "?");
  expect_mentions(verdicts_of(checkpoint_)["notes.txt"], {"COMPLETE does not name it"});
  fs::remove(checkpoint_ / "notes.txt");

  overwrite(shard, sound.substr(0, sound.size() - 1));
  expect_mentions(verdicts_of(checkpoint_)["shard-00000-of-00001.h5"], {"bytes", "COMPLETE says"});
  fs::remove(shard);
  expect_mentions(verdicts_of(checkpoint_)["shard-00000-of-00001.h5"], {"is missing"});
  const auto line = inspect(run_, false).facts.at("checkpoints")[0];
  EXPECT_EQ(line.at("complete"), false);
  expect_mentions(line.at("problem"), {"shard-00000-of-00001.h5 is missing"});
  overwrite(shard, sound);

  fs::remove(checkpoint_ / "COMPLETE");
  expect_mentions(verdicts_of(checkpoint_)["COMPLETE"], {"not a whole checkpoint"});
  expect_mentions(error_of([&] { inspect(checkpoint_, false); }), {"COMPLETE"});
}

TEST_F(InspectRun, FindsWeightsThatAreNotFinite) {
  auto saved = load_checkpoint(checkpoint_);
  for (auto& [name, value] : saved.tensors) {
    if (name == "model/layers.1.attn.wkv.weight") {
      value = value.clone();
      value.select(0, 1).select(0, 2).fill_(std::numeric_limits<float>::infinity());
    }
  }
  save_checkpoint(checkpoint_, saved, {{"config.yaml", read_file(checkpoint_ / "config.yaml")}});
  expect_mentions(verdicts_of(checkpoint_)["index.h5"],
                  {"model/layers.1.attn.wkv.weight", "1 of its 128 values"});
}

TEST_F(InspectRun, FindsAnIndexThatDoesNotFitItsShards) {
  const auto saved = load_checkpoint(checkpoint_);
  auto index = Hdf5File::create(checkpoint_ / "index.h5");
  for (std::size_t i = 1; i < saved.tensors.size(); ++i) {
    index.write_virtual(saved.tensors[i].name, saved.tensors[i].value, "shard-00000-of-00001.h5");
  }
  index.write_attributes("state", saved.state);
  index.close();
  seal();
  expect_mentions(verdicts_of(checkpoint_)["index.h5"], {"lacks 1", saved.tensors[0].name});
}

TEST_F(InspectRun, FindsTensorsOfAnotherModelThanTheConfigurations) {
  auto other = config("run");
  other.model.moe_intermediate_size = 24;
  overwrite(checkpoint_ / "config.yaml", dump_config(other));
  seal();
  expect_mentions(verdicts_of(checkpoint_)["index.h5"], {"experts.0.w1", "[16, 16]", "[24, 16]"});
}

TEST_F(InspectRun, FindsMetricsThatDoNotIncreaseOrAreCutOff) {
  const auto with = [&](const std::string& lines) {
    overwrite(run_ / "metrics.jsonl", lines);
    return verdicts_of(run_)["metrics.jsonl"];
  };
  EXPECT_EQ(with("{\"step\":1}\n{\"step\":1,\"split\":\"validation\"}\n{\"step\":3}\n"), "");
  expect_mentions(with("{\"step\":1}\n{\"step\":1}\n"), {"metrics.jsonl:2", "step 1 comes after"});
  expect_mentions(with("{\"step\":2}\n{\"step\":1,\"split\":\"validation\"}\n"),
                  {"metrics.jsonl:2", "step 1 comes after step 2"});
  expect_mentions(with("{\"step\":1}\n{\"ste"), {"metrics.jsonl:2", "cut off"});
  expect_mentions(with("{\"step\":1,}\n"), {"metrics.jsonl:1", "JSON"});
  expect_mentions(with("{\"step\":1.5}\n"), {"metrics.jsonl:1", "1.5"});
  expect_mentions(inspect(run_, false).facts.at("metrics_problem"), {"metrics.jsonl:1"});
  fs::remove(run_ / "metrics.jsonl");
  expect_mentions(verdicts_of(run_)["metrics.jsonl"], {"No such file"});
}

TEST_F(InspectRun, FindsADamagedTokenStoreAndConfiguration) {
  auto store = read_file(run_ / "data/train.tokens");
  store[store.size() / 2] ^= 4;
  overwrite(run_ / "data/train.tokens", store);
  overwrite(run_ / "config.yaml", "run: {nam: x}\n");
  EXPECT_EQ(bad_files(run_), Strings({"config.yaml", "data/train.tokens"}));
}

class InspectFiles : public CorpusTest {
 protected:
  /// A folder of two shards.
  fs::path sharded_model() const {
    fs::create_directories(folder_ / "model");
    write_safetensors(folder_ / "model/a.safetensors",
                      {{"layers.2.ffn.experts.0.w1.weight", at::ones({2, 3})},
                       {"layers.10.ffn.experts.1.w1.weight", at::ones({2, 3})}});
    write_safetensors(folder_ / "model/b.safetensors",
                      {{"layers.2.ffn.experts.1.w1.weight", at::ones({2, 3})}});
    write("model/model.safetensors.index.json",
          R"({"weight_map": {"layers.2.ffn.experts.0.w1.weight": "a.safetensors",
                             "layers.10.ffn.experts.1.w1.weight": "a.safetensors",
                             "layers.2.ffn.experts.1.w1.weight": "b.safetensors"}})");
    return folder_ / "model";
  }
};

TEST_F(InspectFiles, TellsWhatATokenStoreHolds) {
  const auto store = store_of({"abc", "longer \xc3\xa9"});
  const auto facts = inspect(store->path(), true).facts;
  EXPECT_EQ(facts.at("kind"), "token store");
  EXPECT_EQ(facts.at("documents"), 2);
  EXPECT_EQ(facts.at("tokens"), 12);
  EXPECT_EQ(facts.at("targets"), 12);
  EXPECT_EQ(facts.at("text_bytes"), 12);
  EXPECT_EQ(facts.at("tokenizer"), "bytes");
  EXPECT_EQ(facts.at("sources_digest"), store->sources_digest());
}

TEST_F(InspectFiles, NeedsNoTokenizerForATokenStore) {
  struct UnknownTokenizer : ByteTokenizer {
    std::string name() const override { return "v4-8f9f37ca57c8633c"; }
  };
  TokenStoreWriter writer(training_store(), UnknownTokenizer(), std::string(32, '0'));
  writer.add({.ids = {3, 4, 5}, .targets = {{1, 3}}});
  writer.commit();
  const auto report = inspect(training_store(), true);
  EXPECT_EQ(report.facts.at("tokenizer"), "v4-8f9f37ca57c8633c");
  EXPECT_EQ(report.facts.at("tokens"), 3);
  EXPECT_EQ(report.facts.at("targets"), 2);
  EXPECT_EQ(bad_files(training_store()), Strings());
}

TEST_F(InspectFiles, FindsEveryAlteredBitOfATokenStore) {
  const auto path = store_of({"abc", "longer"})->path();
  const auto sound = read_file(path);
  for (std::size_t byte = 0; byte < sound.size(); ++byte) {
    auto altered = sound;
    altered[byte] ^= 1;
    overwrite(path, altered);
    ASSERT_EQ(bad_files(path), Strings{"training.tokens"}) << "byte " << byte;
    ASSERT_NE(error_of([&] { inspect(path, false); }), "");
  }
}

TEST_F(InspectFiles, TellsWhatSafetensorsHoldWithExpertsTogetherAndLayersInOrder) {
  const auto facts = inspect(sharded_model(), true).facts;
  EXPECT_EQ(facts.at("kind"), "safetensors");
  EXPECT_EQ(facts.at("files").size(), 2u);
  ASSERT_EQ(facts.at("tensors").size(), 2u);
  EXPECT_EQ(facts.at("tensors")[0],
            nlohmann::ordered_json({{"name", "layers.2.ffn.experts.*.w1.weight"},
                                    {"count", 2},
                                    {"dtype", "F32"},
                                    {"shape", {2, 3}},
                                    {"bytes", 48}}));
  EXPECT_EQ(facts.at("tensors")[1].at("name"), "layers.10.ffn.experts.*.w1.weight");
  EXPECT_EQ(facts.at("total").at("elements"), 18);
}

TEST_F(InspectFiles, FindsDamagedSafetensors) {
  const auto model = sharded_model();
  EXPECT_EQ(bad_files(model), Strings());
  EXPECT_EQ(verdicts_of(model).size(), 3u);
  write_safetensors(model / "b.safetensors", {{"another", at::ones({2, 3})}});
  EXPECT_EQ(bad_files(model), Strings{"model.safetensors.index.json"});
  fs::resize_file(model / "b.safetensors", 100);
  EXPECT_EQ(bad_files(model), Strings{"b.safetensors"});
  fs::remove(model / "b.safetensors");
  EXPECT_EQ(bad_files(model), Strings{"b.safetensors"});
  expect_mentions(error_of([&] { inspect(model, false); }), {"b.safetensors"});
  const auto broken = folder_ / "broken.safetensors";
  write_safetensors(broken, {{"x", at::full({3}, std::nan(""), at::kBFloat16)}});
  expect_mentions(verdicts_of(broken)["broken.safetensors"], {"'x'", "3 of its 3 values"});
}

TEST_F(InspectFiles, RefusesWhatItDoesNotKnow) {
  const auto error = [](const fs::path& path) { return error_of([&] { inspect(path, true); }); };
  expect_mentions(error(folder_ / "absent"), {"absent", "no such file"});
  expect_mentions(error(write("text.txt", "BRAID")), {"text.txt", "nothing to inspect"});
  expect_mentions(error(folder_), {"nothing to inspect", "COMPLETE"});
}

}  // namespace
}  // namespace braid
