#include <cmath>
#include <fstream>
#include <limits>
#include <regex>

#include <gtest/gtest.h>

#include "core/error.h"
#include "report/comparison_page.h"
#include "report/metric_panels.h"
#include "report/page.h"
#include "report/run_page.h"
#include "tests/core/fresh_folder.h"
#include "tests/report/well_formed.h"

namespace braid {
namespace {

namespace fs = std::filesystem;

constexpr double kNaN = std::numeric_limits<double>::quiet_NaN();

void add_series(RunCurves& run, const std::string& key, double begin) {
  Series series{key, run.steps, {}};
  for (const auto step : run.steps) {
    series.values.push_back(begin + 1 / static_cast<double>(step));
  }
  run.training.push_back(series);
}

// A run with everything that a page can show.
RunCurves whole_run(int64_t seed = 1, int64_t steps = 40) {
  RunCurves run;
  run.folder = "runs/a";
  run.name = "a <b>bold</b> & \"quoted\" run";
  run.seed = seed;
  run.state = "finished";
  run.max_steps = steps;
  run.config = parse_yaml("run: {name: \"<b>\"}\noptimizer: {learning_rate: 4e-3}\n", "test");
  for (int64_t step = 1; step <= steps; ++step) {
    run.steps.push_back(step);
    run.tokens.push_back(512.0 * static_cast<double>(step));
    run.flops.push_back(1e9 * static_cast<double>(step));
    run.seconds.push_back(0.5 * static_cast<double>(step));
  }
  for (const char* key : {"tokens",
                          "loss",
                          "mtp_loss",
                          "learning_rate",
                          "gradient_norm",
                          "gradient_norm.router",
                          "expert_max_violation",
                          "residual_gain.forward",
                          "residual_gain.backward",
                          "indexer_recall",
                          "tokens_per_second",
                          "a_new_monitor.x</script>"}) {
    add_series(run, key, static_cast<double>(seed));
  }
  for (int layer = 0; layer < 8; ++layer) {
    add_series(run, "expert_entropy." + std::to_string(layer), layer);
  }
  run.training[1].values[5] = kNaN;
  run.validation = {{"", {{"loss", {20, 40}, {3.5, 3.25}}, {"bits_per_byte", {20, 40}, {5, 4.5}}}}};
  run.samples = {{20, "Once", " upon <i>a</i>\ntime"}, {40, "Once", " more \x01"}};
  run.events = {{6, "skipped", "loss"}};
  return run;
}

std::size_t count_of(const std::string& text, const std::string& what) {
  std::size_t count = 0;
  for (auto at = text.find(what); at != std::string::npos; at = text.find(what, at + 1)) {
    ++count;
  }
  return count;
}

std::vector<std::string> sections_of(const std::string& html) {
  std::vector<std::string> sections;
  const std::regex heading("<h2>([^<]*)</h2>");
  for (auto it = std::sregex_iterator(html.begin(), html.end(), heading);
       it != std::sregex_iterator();
       ++it) {
    sections.push_back((*it)[1]);
  }
  return sections;
}

// Nothing that a browser would fetch, and nothing but names of XML's that looks like an address.
void expect_self_contained(std::string html) {
  for (const char* name : {"http://www.w3.org/2000/svg", "http://www.w3.org/1999/xhtml"}) {
    for (auto at = html.find(name); at != std::string::npos; at = html.find(name)) {
      html.erase(at, std::string(name).size());
    }
  }
  for (const char* fetch :
       {"http:", "https:", "src=", "<link", "@import", "url(", "fetch(", "import("}) {
    EXPECT_EQ(html.find(fetch), std::string::npos) << fetch;
  }
}

TEST(RunPage, IsWellFormedAndFetchesNothing) {
  const auto html = run_page(whole_run());
  EXPECT_EQ(testing::problem_of_xml(html), "");
  expect_self_contained(html);
  EXPECT_EQ(html.find("<b>bold"), std::string::npos);
  EXPECT_NE(html.find("&lt;b&gt;bold&lt;/b&gt; &amp; &quot;quoted&quot;"), std::string::npos);
}

TEST(RunPage, ShowsWhatTheRunHas) {
  const auto html = run_page(whole_run());
  EXPECT_EQ(sections_of(html),
            (std::vector<std::string>{"Loss",
                                      "Optimization",
                                      "Experts",
                                      "Attention",
                                      "Residual streams",
                                      "Speed",
                                      "Other monitors",
                                      "Samples of text",
                                      "Events",
                                      "Configuration"}));
  for (const char* id : {"loss",
                         "loss-of-multi-token-prediction",
                         "bits-per-byte-of-validation-text",
                         "gradient-norms",
                         "entropy-of-the-expert-load",
                         "mhc-composite-gain",
                         "index-recall",
                         "a-new-monitor"}) {
    EXPECT_EQ(count_of(html, text("id=\"", id, "\"")), 1u) << id;
  }
  EXPECT_NE(html.find("finished, step 40 of 40, 20.48k tokens, 4e10 FLOPs"), std::string::npos);
}

TEST(RunPage, LeavesOutWhatTheRunHasNot) {
  RunCurves run;
  run.name = "new";
  run.state = "running";
  run.max_steps = 10;
  run.problem = "metrics.jsonl:3: is <cut off>";
  const auto html = run_page(run);
  EXPECT_EQ(testing::problem_of_xml(html), "");
  EXPECT_TRUE(sections_of(html).empty());
  EXPECT_EQ(html.find("<form"), std::string::npos);
  EXPECT_NE(html.find("is &lt;cut off&gt;"), std::string::npos);
}

TEST(RunPage, OfOneStepOrNoFiniteValueIsSound) {
  EXPECT_EQ(testing::problem_of_xml(run_page(whole_run(1, 1))), "");
  auto run = whole_run();
  for (auto& series : run.training) {
    std::fill(series.values.begin(), series.values.end(), kNaN);
  }
  std::fill(run.flops.begin(), run.flops.end(), kNaN);
  run.validation[0].series[0].values = {kNaN, kNaN};
  const auto html = run_page(run);
  EXPECT_EQ(testing::problem_of_xml(html), "");
  EXPECT_EQ(html.find(">FLOPs<"), std::string::npos);  // no such axis
}

TEST(RunPage, IsTheSameForTheSameRun) {
  EXPECT_EQ(run_page(whole_run()), run_page(whole_run()));
}

TEST(RunPage, LoadsAgainOnlyWhileItIsFollowed) {
  EXPECT_EQ(run_page(whole_run()).find("http-equiv"), std::string::npos);
  EXPECT_NE(run_page(whole_run(), 7).find("<meta http-equiv=\"refresh\" content=\"7\"/>"),
            std::string::npos);
}

// Two arms of two seeds, and one whose only run failed.
Comparison compared() {
  Comparison comparison;
  comparison.title = "Muon & AdamW";
  for (const char* name : {"<base>", "other"}) {
    Arm arm;
    arm.name = name;
    for (int64_t seed = 1; seed <= 2; ++seed) {
      arm.runs.push_back({whole_run(seed), "", 3.25});
    }
    arm.value = {2, 3.25, 0.1};
    comparison.arms.push_back(arm);
  }
  auto& other = comparison.arms[1];
  other.differences = {{"optimizer.kind", "<muon>", "adamw"}};
  other.difference = {.paired = true, .n = 2, .mean = -0.25, .t = Interval{-0.5, -0.125}};
  other.verdict = Verdict::kBetter;
  Arm failed;
  failed.name = "failed";
  RunCurves run;
  run.name = "failed-seed1";
  run.state = "failed";
  run.problem = "out of <memory>";
  failed.runs.push_back({run, "failed: out of <memory>"});
  comparison.arms.push_back(failed);
  return comparison;
}

TEST(ComparisonPage, IsWellFormedAndFetchesNothing) {
  const auto html = comparison_page(compared());
  EXPECT_EQ(testing::problem_of_xml(html), "");
  expect_self_contained(html);
  EXPECT_EQ(html, comparison_page(compared()));
}

TEST(ComparisonPage, BeginsWithVerdictsAndEndsWithWhatRunsWrote) {
  const auto html = comparison_page(compared());
  EXPECT_EQ(sections_of(html),
            (std::vector<std::string>{"Result",
                                      "Loss",
                                      "Optimization",
                                      "Experts",
                                      "Attention",
                                      "Residual streams",
                                      "Speed",
                                      "Other monitors",
                                      "Runs",
                                      "Configurations",
                                      "Samples of text",
                                      "Events"}));
  EXPECT_NE(html.find("<td class=\"better\">better</td>"), std::string::npos);
  EXPECT_NE(html.find("-0.25 [-0.5, -0.125], better"), std::string::npos);
  EXPECT_NE(html.find("not counted: failed: out of &lt;memory&gt;"), std::string::npos);
  EXPECT_NE(html.find("&lt;muon&gt;"), std::string::npos);
}

TEST(ComparisonPage, DrawsTheSpreadOfSeeds) {
  const auto html = comparison_page(compared());
  const auto loss = html.substr(html.find("id=\"loss-training\""));
  EXPECT_NE(loss.substr(0, loss.find("</figure>")).find("class=\"band\""), std::string::npos);
}

TEST(ComparisonPage, OfFailuresAloneIsSound) {
  auto comparison = compared();
  comparison.arms.erase(comparison.arms.begin(), comparison.arms.begin() + 2);
  const auto html = comparison_page(comparison);
  EXPECT_EQ(testing::problem_of_xml(html), "");
  EXPECT_EQ(sections_of(html), (std::vector<std::string>{"Result", "Runs"}));
}

TEST(MetricPanels, KnowNamesAndGroupTheRestByThem) {
  const auto panels = training_panels({"loss",
                                       "new.a",
                                       "gradient_norm",
                                       "gradient_norm.mhc",
                                       "new.b_c",
                                       "orthogonality_error",
                                       "orthogonality_rank",
                                       "newer"});
  ASSERT_EQ(panels.size(), 4u);
  EXPECT_EQ(panels[0].title, "Gradient norms");
  EXPECT_EQ(panels[0].members[0].name, "all");
  EXPECT_EQ(panels[0].members[1].name, "mhc");
  EXPECT_EQ(panels[1].members[1].name, "rank");
  EXPECT_EQ(panels[2].section, "Other monitors");
  EXPECT_EQ(panels[2].title, "New");
  EXPECT_EQ(panels[2].members[1].key, "new.b_c");
  EXPECT_EQ(panels[2].members[1].name, "b c");
  EXPECT_EQ(panels[3].title, "Newer");
}

TEST(MetricPanels, ShowTheValidationLossOfRolesInOnePlot) {
  const auto panels =
      validation_panels({"loss", "loss.assistant", "loss.assistant.text", "loss.user", "tokens"});
  ASSERT_EQ(panels.size(), 1u);
  EXPECT_EQ(panels[0].section, "Loss");
  EXPECT_EQ(panels[0].title, "Validation loss by role");
  ASSERT_EQ(panels[0].members.size(), 3u);
  EXPECT_EQ(panels[0].members[1].name, "assistant.text");
}

TEST(WritePage, ReplacesPagesAndNothingElse) {
  const auto folder = testing::fresh_folder();
  const auto path = folder / "page.html";
  write_page(path, run_page(whole_run()));
  write_page(path, run_page(whole_run(2)));
  std::ofstream(folder / "thesis.html") << "<!DOCTYPE html><p>years of work</p>";
  EXPECT_THROW(write_page(folder / "thesis.html", run_page(whole_run())), Error);
  EXPECT_EQ(fs::file_size(folder / "thesis.html"), 35u);
  fs::remove_all(folder);
}

// Another reader of XML, where there is one.
TEST(RunPage, IsXmlToPythonToo) {
  if (std::system("python3 -c '' >/dev/null 2>&1") != 0) {
    GTEST_SKIP() << "no python3";
  }
  const auto folder = testing::fresh_folder();
  write_page(folder / "run.html", run_page(whole_run()));
  write_page(folder / "comparison.html", comparison_page(compared()));
  for (const char* name : {"run.html", "comparison.html"}) {
    const auto command =
        text("python3 -c 'import sys, xml.dom.minidom as d; d.parse(sys.argv[1])' ",
             (folder / name).string());
    EXPECT_EQ(std::system(command.c_str()), 0) << name;
  }
  fs::remove_all(folder);
}

}  // namespace
}  // namespace braid
