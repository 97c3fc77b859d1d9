#include "commands/evaluation_report.h"

#include <cmath>

#include "core/error.h"
#include "run/table.h"

namespace braid {
namespace {

using nlohmann::ordered_json;

ordered_json number_or_null(double value) {
  return std::isnan(value) ? ordered_json() : ordered_json(value);
}

ordered_json positions_of(const Evaluation& evaluation, const Evaluation* base) {
  auto rows = ordered_json::array();
  for (std::size_t i = 0; i < evaluation.positions.size(); ++i) {
    const auto& [begin, end, loss, tokens, weight] = evaluation.positions[i];
    if (tokens == 0) {
      continue;
    }
    ordered_json row = {{"from", begin}, {"to", end - 1}, {"tokens", tokens}};
    if (base == nullptr) {
      row.update({{"loss", loss}, {"perplexity", std::exp(loss)}});
    } else {
      const double before = base->positions[i].loss;
      row.update({{"base_loss", before}, {"tuned_loss", loss}, {"difference", loss - before}});
    }
    rows.push_back(row);
  }
  return rows;
}

ordered_json roles_of(const Evaluation& evaluation) {
  auto rows = ordered_json::array();
  for (const auto& [role, part, loss, tokens, weight] : evaluation.roles) {
    rows.push_back({{"role", role},
                    {"part", part},
                    {"tokens", tokens},
                    {"loss", loss},
                    {"perplexity", std::exp(loss)}});
  }
  return rows;
}

ordered_json accuracy_of(const AnswerAccuracy& accuracy) {
  auto groups = ordered_json::array();
  for (const auto& group : accuracy.groups) {
    groups.push_back(
        {{"group", group.name}, {"problems", group.answers}, {"accuracy", group.accuracy()}});
  }
  return {{"problems", accuracy.all.answers},
          {"accuracy", accuracy.all.accuracy()},
          {"accuracy_by_group", groups}};
}

ordered_json answers_of(const std::vector<AnswerPrompt>& prompts,
                        const std::vector<GivenAnswer>& answers) {
  const auto figures = answer_figures(prompts, answers);
  return {{"answers", figures.answers},
          {"equal", figures.equal},
          {"equal_share", number_or_null(figures.equal_share())},
          {"references_with_a_word", figures.with_word},
          {"same_first_word", figures.same_word},
          {"same_first_word_share", number_or_null(figures.same_word_share())},
          {"ended", figures.ended}};
}

ordered_json figures_of(const JudgedModel& judged, const std::vector<AnswerPrompt>& prompts) {
  const Evaluation& evaluation = judged.evaluation;
  ordered_json object = {{"tokens", evaluation.tokens},
                         {"loss", evaluation.loss},
                         {"perplexity", std::exp(evaluation.loss)},
                         {"bits_per_byte", evaluation.bits_per_byte}};
  if (evaluation.answers) {
    object.update(accuracy_of(*evaluation.answers));
  }
  if (!evaluation.roles.empty()) {
    object["roles"] = roles_of(evaluation);
  }
  object["positions"] = positions_of(evaluation, nullptr);
  if (!prompts.empty()) {
    object["answers"] = answers_of(prompts, judged.answers);
  }
  return object;
}

/// A figure of both models.
struct Compared {
  std::string figure, role, part;
  int64_t count;  // tokens, or answers
  double base, tuned;

  ordered_json json() const {
    return {{"figure", figure},
            {"role", role},
            {"part", part},
            {"count", count},
            {"base", number_or_null(base)},
            {"tuned", number_or_null(tuned)},
            {"difference", number_or_null(tuned - base)}};
  }

  ordered_json line(const char* count_of) const {
    const auto of_whom = part.empty() ? role : text(role, ", ", part);
    return {{"figure", role.empty() ? figure : text(figure, " of ", of_whom)},
            {count_of, count},
            {"base", number_or_null(base)},
            {"tuned", number_or_null(tuned)},
            {"difference", number_or_null(tuned - base)}};
  }
};

std::vector<Compared> compared_losses(const Evaluation& base, const Evaluation& tuned) {
  std::vector<Compared> rows = {
      {"loss", "", "", tuned.tokens, base.loss, tuned.loss},
      {"perplexity", "", "", tuned.tokens, std::exp(base.loss), std::exp(tuned.loss)},
      {"bits per byte", "", "", tuned.tokens, base.bits_per_byte, tuned.bits_per_byte}};
  if (base.answers && tuned.answers) {
    const auto add = [&](const std::string& figure, const auto& before, const auto& after) {
      rows.push_back({figure, "", "", after.answers, before.accuracy(), after.accuracy()});
    };
    add("accuracy", base.answers->all, tuned.answers->all);
    for (std::size_t i = 0; i < tuned.answers->groups.size(); ++i) {
      const auto& group = tuned.answers->groups[i];
      add("accuracy of " + group.name, base.answers->groups[i], group);
    }
  }
  for (std::size_t i = 0; i < tuned.roles.size(); ++i) {
    const auto& [role, part, loss, tokens, weight] = tuned.roles[i];
    const double before = base.roles[i].loss;
    rows.push_back({"loss", role, part, tokens, before, loss});
    rows.push_back({"perplexity", role, part, tokens, std::exp(before), std::exp(loss)});
  }
  return rows;
}

std::vector<Compared> compared_answers(const EvaluationReport& report) {
  if (report.prompts.empty()) {
    return {};
  }
  const auto base = answer_figures(report.prompts, report.base->answers),
             tuned = answer_figures(report.prompts, report.model.answers);
  const auto ended_share = [](const AnswerFigures& figures) {
    return static_cast<double>(figures.ended) / static_cast<double>(figures.answers);
  };
  return {
      {"equal", "", "", tuned.answers, base.equal_share(), tuned.equal_share()},
      {"same first word", "", "", tuned.with_word, base.same_word_share(), tuned.same_word_share()},
      {"ended", "", "", tuned.answers, ended_share(base), ended_share(tuned)}};
}

ordered_json head_of(const EvaluationReport& report) {
  ordered_json object = {{"model", report.model.name}};
  if (!report.adapters.empty()) {
    object["adapters"] = report.adapters;
  }
  object.update({{"seq_len", report.seq_len},
                 {"documents", report.documents},
                 {"text_bytes", report.text_bytes}});
  return object;
}

ordered_json answer_json(const GivenAnswer& answer) {
  return {{"text", answer.text},
          {"tokens", answer.tokens},
          {"ended", answer.ended},
          {"equal", answer.is_equal},
          {"same_first_word", answer.has_first_word}};
}

std::string answer_text(const char* whose, const GivenAnswer& answer) {
  const char* like = answer.is_equal         ? " (equal)"
                     : answer.has_first_word ? " (same first word)"
                                             : "";
  return text("--- ",
              whose,
              like,
              answer.ended ? std::string() : text(" (cut after ", answer.tokens, " tokens)"),
              "\n",
              answer.text,
              "\n");
}

std::string samples_text(const EvaluationReport& report) {
  std::string result;
  for (std::size_t i = 0; i < report.prompts.size(); ++i) {
    const auto& prompt = report.prompts[i];
    result += text("==> document ",
                   prompt.document + 1,
                   "\n",
                   prompt.prompt,
                   "\n--- reference\n",
                   prompt.reference,
                   "\n");
    if (report.base) {
      result += answer_text("base", report.base->answers[i]);
    }
    result += answer_text(report.base ? "tuned" : "answer", report.model.answers[i]) + "\n";
  }
  return result;
}

}  // namespace

ordered_json json_of(const EvaluationReport& report) {
  auto object = head_of(report);
  object.update(figures_of(report.model, report.prompts));
  if (report.base) {
    object["base"] = {{"model", report.base->name}};
    object["base"].update(figures_of(*report.base, report.prompts));
    auto rows = ordered_json::array();
    for (const auto& row : compared_losses(report.base->evaluation, report.model.evaluation)) {
      rows.push_back(row.json());
    }
    for (const auto& row : compared_answers(report)) {
      rows.push_back(row.json());
    }
    object["comparison"] = rows;
  }
  if (!report.prompts.empty()) {
    auto samples = ordered_json::array();
    for (std::size_t i = 0; i < report.prompts.size(); ++i) {
      const auto& prompt = report.prompts[i];
      samples.push_back({{"document", prompt.document + 1},
                         {"prompt", prompt.prompt},
                         {"reference", prompt.reference},
                         {"answer", answer_json(report.model.answers[i])}});
      if (report.base) {
        samples.back()["base_answer"] = answer_json(report.base->answers[i]);
      }
    }
    object["samples"] = samples;
  }
  return object;
}

std::string text_of(const EvaluationReport& report) {
  auto object = head_of(report);
  if (!report.base) {
    object.update(figures_of(report.model, report.prompts));
    return samples_text(report) + readable(object);
  }
  object["base"] = report.base->name;
  object["tokens"] = report.model.evaluation.tokens;
  auto losses = ordered_json::array(), answers = ordered_json::array();
  for (const auto& row : compared_losses(report.base->evaluation, report.model.evaluation)) {
    losses.push_back(row.line("tokens"));
  }
  for (const auto& row : compared_answers(report)) {
    answers.push_back(row.line("answers"));
  }
  object["losses"] = losses;
  object["positions"] = positions_of(report.model.evaluation, &report.base->evaluation);
  if (!answers.empty()) {
    object["answers, shares"] = answers;
  }
  return samples_text(report) + readable(object);
}

}  // namespace braid
