#pragma once
// What `evaluate` prints.
#include <optional>
#include <string>
#include <vector>

#include <nlohmann/json.hpp>

#include "inference/answers.h"
#include "inference/evaluate.h"

namespace braid {

/// A model's figures on one text.
struct JudgedModel {
  std::string name;
  Evaluation evaluation;
  std::vector<GivenAnswer> answers = {};  ///< to the report's prompts
};

struct EvaluationReport {
  JudgedModel model;
  std::string adapters = {};             ///< that were added to it, "a, b"; empty = none
  std::optional<JudgedModel> base = {};  ///< what it is compared with
  std::vector<AnswerPrompt> prompts = {};
  int64_t seq_len = 0, documents = 0, text_bytes = 0;
};

/// For --json.
nlohmann::ordered_json json_of(const EvaluationReport& report);
/// For people: the answers, then the figures.
std::string text_of(const EvaluationReport& report);

}  // namespace braid
