// tests/peers/tensorboard_events.py reads such files with the package tensorboard.
#include "run/tensorboard.h"

#include <cstring>

#include "core/file.h"
#include "tests/loading/corpus.h"

namespace braid {
namespace {

using namespace testing;

class EventFileTest : public CorpusTest {
 protected:
  std::filesystem::path events_ = folder_ / "tensorboard/events.out.tfevents.braid";
  std::filesystem::path metrics_ = folder_ / "metrics.jsonl";

  /// Where each record ends.
  std::vector<std::size_t> ends() const {
    const auto bytes = read_file(events_);
    std::vector<std::size_t> ends;
    for (std::size_t at = 0; at + 16 <= bytes.size();) {
      uint64_t length = 0;
      std::memcpy(&length, bytes.data() + at, sizeof length);
      ends.push_back(at += 16 + length);
    }
    return ends;
  }
  std::size_t count(const std::string& words) const {
    const auto bytes = read_file(events_);
    std::size_t found = 0;
    for (auto at = bytes.find(words); at != std::string::npos; at = bytes.find(words, at + 1)) {
      ++found;
    }
    return found;
  }
};

TEST(Crc32cTest, IsThatOfRfc3720) {
  EXPECT_EQ(crc32c(""), 0u);
  EXPECT_EQ(crc32c("123456789"), 0xe3069283u);
  EXPECT_EQ(crc32c(std::string(32, '\0')), 0x8a9136aau);
  EXPECT_EQ(crc32c(std::string(32, '\xff')), 0x62a8ab43u);
  EXPECT_EQ(masked_crc32c(""), 0xa282ead8u);
  EXPECT_EQ(masked_crc32c("123456789"), 0xc78ab0e5u);
}

TEST(ScalarTagTest, GroupsByTheFirstDotSplitAndSet) {
  EXPECT_EQ(scalar_tag("loss", "", ""), "loss");
  EXPECT_EQ(scalar_tag("attention_mass.csa.sink", "", ""), "attention_mass/csa.sink");
  EXPECT_EQ(scalar_tag("loss", "validation", ""), "validation/loss");
  EXPECT_EQ(scalar_tag("loss", "validation", "web"), "validation/web/loss");
}

TEST_F(EventFileTest, ARunThatContinuesHasEveryStepOnce) {
  EventFile first(events_, metrics_, 0);
  for (int64_t step = 1; step <= 4; ++step) {
    first.write(step, "", {{"loss", 1.0 / static_cast<double>(step)}, {"word", "no number"}});
    first.write(step, "validation", {{"loss", 2.0}});
    first.write_histogram(step, "expert_load/1", {1, 2, 3});
  }
  const auto whole = read_file(events_);
  ASSERT_EQ(ends().size(), 1u + 4 * 3);
  EventFile(events_, metrics_, 2);
  EXPECT_EQ(read_file(events_), whole.substr(0, ends()[6]));
  EXPECT_EQ(ends().size(), 1u + 2 * 3);
  EventFile(events_, metrics_, 2, /*validated=*/false);
  EXPECT_EQ(ends().size(), 1u + 2 * 3 - 1);
  EXPECT_EQ(count("validation/loss"), 1u);
  EXPECT_EQ(count("word"), 0u);
}

TEST_F(EventFileTest, WhatIsHalfWrittenOrDamagedComesFromTheMetrics) {
  std::string lines;
  EventFile first(events_, metrics_, 0);
  for (int64_t step = 1; step <= 4; ++step) {
    first.write(step, "", {{"loss", 1.0}});
    lines += text("{\"step\":", step, ",\"loss\":1}\n");
  }
  write("metrics.jsonl", lines);
  const auto whole = read_file(events_);
  for (const std::size_t cut :
       {whole.size() - 1, whole.size() - 20, std::size_t{40}, std::size_t{0}}) {
    SCOPED_TRACE(cut);
    write("tensorboard/events.out.tfevents.braid", whole.substr(0, cut));
    EventFile(events_, metrics_, 4);
    EXPECT_EQ(ends().size(), 5u);
  }
  auto damaged = whole;
  damaged[ends()[1] + 14] ^= 1;  // of step 2
  write("tensorboard/events.out.tfevents.braid", damaged);
  EventFile(events_, metrics_, 4);
  EXPECT_EQ(ends().size(), 5u);
  EXPECT_EQ(count("loss"), 4u);
}

TEST_F(EventFileTest, BeginsWithWhatTheRunHasDoneWithoutOne) {
  write("metrics.jsonl",
        "{\"step\":1,\"loss\":2,\"step_seconds\":0.5}\n"
        "{\"step\":1,\"split\":\"validation\",\"set\":\"web\",\"loss\":3}\n");
  EventFile(events_, metrics_, 1);
  EXPECT_EQ(ends().size(), 3u);
  EXPECT_EQ(count("validation/web/loss"), 1u);
}

TEST_F(EventFileTest, SamplesAreTextsAndOnceToo) {
  const auto write_sample = [](EventFile& file, int64_t step, double number) {
    file.write(
        step,
        "sample",
        {{"prompt", "The truth"}, {"number", number}, {"text", " is\nout"}, {"tokens", 7.0}});
  };
  const auto line = [](int64_t step, int number) {
    return text("{\"step\":",
                step,
                ",\"split\":\"sample\",\"prompt\":\"The truth\",\"number\":",
                number,
                ",\"text\":\" is\\nout\",\"tokens\":7}\n");
  };
  EventFile first(events_, metrics_, 0);
  write_sample(first, 2, 0);
  write_sample(first, 2, 1);
  write_sample(first, 4, 0);
  EXPECT_EQ(count("sample/The truth, 1"), 2u);
  EXPECT_EQ(count("    The truth is\n    out"), 3u);
  EXPECT_EQ(count("tokens"), 0u);
  write("metrics.jsonl", line(2, 0) + line(2, 1));
  EventFile(events_, metrics_, 3);  // killed after step 4, continues after 3
  EXPECT_EQ(count("sample/The truth, 1"), 1u);
  EXPECT_EQ(count("sample/The truth, 2"), 1u);
  std::filesystem::remove(events_);
  EventFile(events_, metrics_, 3);
  EXPECT_EQ(count("sample/The truth, 2"), 1u);
}

TEST_F(EventFileTest, ATextIsWrittenAgainWhenItChanged) {
  EventFile first(events_, metrics_, 0);
  first.write_changed_text(0, "config.yaml", "a: 1");
  first.write_changed_text(0, "config.yaml", "a: 1");
  EXPECT_EQ(count("a: 1"), 1u);
  EventFile again(events_, metrics_, 5);
  again.write_changed_text(5, "config.yaml", "a: 1");
  EXPECT_EQ(count("a: 1"), 1u);
  again.write_changed_text(5, "config.yaml", "a: 2");
  again.write_changed_text(5, "config.yaml", "a: 1");
  EXPECT_EQ(count("a: 1"), 2u);
}

}  // namespace
}  // namespace braid
