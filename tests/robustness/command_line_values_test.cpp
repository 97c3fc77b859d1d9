// Values of options and keys that no command can use: refused with the option or key and the range.
#include "tests/commands/cli_test.h"

namespace braid {
namespace {

using testing::expect_error;
using Words = std::vector<std::string>;

class CommandLineValues : public testing::CliTest {
 protected:
  testing::Outcome planned(const Words& assignments) const {
    Words arguments = {"plan", "run.yaml"};
    for (const auto& assignment : assignments) {
      arguments.insert(arguments.end(), {"--set", assignment});
    }
    return braid(arguments);
  }
};

TEST_F(CommandLineValues, AnOptionSaysWhichValuesItTakes) {
  const Words synthesize = {"synthesize", "x", "--model", "run.yaml"};
  const Words generate = {"generate", "m"}, evaluate = {"evaluate", "m", "--data", "c"};
  const Words plan = {"plan", "run.yaml"}, train = {"train", "run.yaml"};
  const std::string seeds = "a whole number from 0 to 18446744073709551615";
  struct Wrong {
    Words command;
    std::string option, value, message;
  };
  const std::vector<Wrong> all = {
      {synthesize, "--seed", "-1", seeds},
      {synthesize, "--seed", "18446744073709551616", seeds},
      {synthesize, "--shard-gigabytes", "0", "a number from 1e-06 to 1e+06"},
      {synthesize, "--shard-gigabytes", "1e308", "a number from"},
      {synthesize, "--shard-gigabytes", "nan", "a number from"},
      {synthesize, "--layers", "0,-1", "a whole number from 0 to 9999, not '-1'"},
      {synthesize, "--expert-bytes", "x", "a whole number from 0 to 9999, not 'x'"},
      {generate, "--seed", "-1", seeds},
      {generate, "--seed", "1.5", seeds},
      {generate, "--temperature", "inf", "0 or a number from 1e-06 to 100"},
      {generate, "--top-p", "nan", "a number from 0 to 1"},
      {generate, "--top-k", "1x", "a whole number from 0 to"},
      {generate, "--max-tokens", "", "a whole number from 1 to"},
      {generate, "--device", "gpu", "cpu, cuda, or cuda:N with the number of a device, not 'gpu'"},
      {{"chat", "m"}, "--device", "cuda:", "cpu, cuda, or cuda:N"},
      {{"probe", "m", "--inputs", "i", "--outputs", "o"}, "--device", "cuda:x", "cuda:N"},
      {evaluate, "--device", "CPU", "not 'CPU'"},
      {evaluate, "--seq-len", "99999999999999999999", "a whole number from 2 to"},
      {evaluate, "--document-separator", "a\nb", "line break"},
      {evaluate, "--data", "", "empty"},
      {plan, "--ranks", "0", "a whole number from 1 to 1000000, not '0'"},
      {plan, "--ranks", "1.5", "a whole number from 1 to"},
      {train, "--stop-at-step", "0", "a whole number from 1 to 1000000000000000"},
  };
  for (const auto& [command, option, value, message] : all) {
    auto arguments = command;
    arguments.insert(arguments.end(), {option, value});
    const auto outcome = braid(arguments);
    EXPECT_EQ(outcome.status, 2) << outcome.out;
    testing::expect_mentions(outcome.err, {"braid: " + option + ":", message, "--help"});
  }
}

// No machine has so many.
TEST_F(CommandLineValues, ADeviceThatIsNotThereIsNamedWithTheKeyThatAskedForIt) {
  expect_error(planned({"train.device=gpu"}), {"train.device", "expected cpu, cuda, or cuda:N"});
  expect_error(braid({"train", "run.yaml", "--set", "train.device=cuda:99"}),
               {"train.device is cuda:99, but "});
}

TEST_F(CommandLineValues, AnOptionWithoutItsValueAndOneTooManyAreNamed) {
  const std::vector<std::pair<Words, Words>> all = {
      {{"plan", "run.yaml", "--set"}, {"--set: needs a value"}},
      {{"train", "run.yaml", "--resume"}, {"--resume: needs a value"}},
      {{"plan", "run.yaml", "--ranks", "1", "--ranks", "2"}, {"--ranks", "more than once"}},
      {{"inspect", "a", "b"}, {"unknown here: b"}},
      {{"plan", "run.yaml", "--rank", "2"}, {"unknown here: --rank"}},
  };
  for (const auto& [arguments, parts] : all) {
    const auto outcome = braid(arguments);
    EXPECT_EQ(outcome.status, 2) << outcome.out;
    testing::expect_mentions(outcome.err, parts);
    for (const std::string own : {"TEXT", "INT", "required"}) {
      EXPECT_EQ(outcome.err.find(own), std::string::npos) << outcome.err;
    }
  }
}

TEST_F(CommandLineValues, ExpertBytesNamesLayersThatAreMade) {
  expect_error(braid({"synthesize", "x", "--model", "run.yaml", "--expert-bytes", "1,9"}),
               {"--expert-bytes 9", "0 to 2"});
  expect_error(
      braid({"synthesize", "x", "--model", "run.yaml", "--layers", "0,2", "--expert-bytes", "1"}),
      {"--expert-bytes 1", "(0, 2)"});
  EXPECT_FALSE(std::filesystem::exists(folder_ / "x"));
}

TEST_F(CommandLineValues, NamesAreOneLineOfUtf8) {
  for (const std::string key : {"run.name", "run.output_dir", "data.text_key", "run.init_from"}) {
    expect_error(planned({key + "=\"a\\nb\""}), {key, "--set", "a line break"});
    expect_error(planned({key + "=\"a\\0b\""}), {key, "--set", "a NUL character"});
    expect_error(planned({key + "=a\xff"}), {key, "UTF-8"});
  }
  expect_error(planned({"data.train=[\"a\\rb\"]"}), {"data.train[0]", "a line break"});
  expect_error(planned({"optimizer.groups=[{match: \"\\e[2J\"}]"}),
               {"optimizer.groups[0].match", "control character"});
  write("latin1.yaml", "base: run.yaml\nrun: {name: caf\xe9}\n");
  expect_error(braid({"plan", "latin1.yaml"}), {"latin1.yaml:2", "UTF-8"});
}

TEST_F(CommandLineValues, NumbersThatNothingCanUseAreRefusedByKey) {
  for (const std::string key : {"data.pack_window",
                                "train.validate_every_steps",
                                "schedule.warmup_steps",
                                "optimizer.muon.newton_schulz_steps",
                                "model.vocab_size",
                                "model.head_dim",
                                "model.o_lora_rank",
                                "model.index_head_dim",
                                "model.n_routed_experts",
                                "model.hc_mult",
                                "model.hc_sinkhorn_iters"}) {
    const auto outcome = planned({key + "=4611686018427387904"});
    expect_error(outcome, {key, "--set", "4611686018427387904"});
    for (const std::string torch : {"SymInt", "overflow", "negative dimension", "max_size"}) {
      EXPECT_EQ(outcome.err.find(torch), std::string::npos) << outcome.err;
    }
  }
  expect_error(planned({"model.hidden_size=16000000", "model.n_routed_experts=16000000"}),
               {"model.moe_intermediate_size", "parameters"});
  expect_error(planned({"model.max_position_embeddings=1000000000000",
                        "data.seq_len=1000000000000",
                        "train.global_batch_size=1000000"}),
               {"train.global_batch_size", "1e12"});
  expect_error(planned({"loss.bias_update_speed=1e50"}), {"loss.bias_update_speed", "at most 1"});
  for (const std::string key :
       {"optimizer.learning_rate", "loss.bias_update_speed", "model.rms_norm_eps"}) {
    expect_error(planned({key + "=1e308"}), {key, "float32"});
    expect_error(planned({key + "=1e-300"}), {key, "float32"});
  }
  expect_error(planned({"run.seed=-1"}), {"run.seed", "[0, 9223372036854775807]"});
  expect_error(planned({"run.seed=9223372036854775808"}), {"run.seed", "9223372036854775807"});
  EXPECT_EQ(planned({"run.seed=9223372036854775807"}).status, 0);
}

TEST_F(CommandLineValues, AStageOfARampNeedsBothOfItsKeys) {
  expect_error(planned({"schedule.seq_len=[{value: 8}]"}),
               {"schedule.seq_len[0]", "until_step", "{value: 8}"});
  expect_error(planned({"schedule.global_batch_size=[{until_step: 8}]"}),
               {"schedule.global_batch_size[0]", "lacks the key 'value'"});
  expect_error(planned({"optimizer.groups=[{optimizer: none}]"}),
               {"optimizer.groups[0]", "lacks the key 'match'"});
  expect_error(planned({"data.train=[{weight: 1}]"}), {"data.train[0]", "lacks the key 'path'"});
  expect_error(planned({"data.train=['']"}), {"data.train[0]", "has an empty 'path'"});
}

TEST_F(CommandLineValues, SetTakesOneAssignmentAndAnySign) {
  EXPECT_EQ(planned({"data.document_separator=%", "run.name=@x"}).status, 0);
  expect_error(planned({"run.seed"}), {"--set run.seed", "--set a.b=c"});
  expect_error(planned({"=1"}), {"--set =1", "--set a.b=c"});
  expect_error(braid({"plan", "run.yaml", "--set", "run.seed=1", "train.max_steps=2"}),
               {"--set train.max_steps=2", "one --set for each key"});
  expect_error(planned({"run.name=a: b"}), {"run.name", "needs quotes"});
}

}  // namespace
}  // namespace braid
