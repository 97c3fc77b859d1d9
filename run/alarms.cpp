#include "run/alarms.h"

#include <variant>

namespace braid {
namespace {

// "above 100", "below 0.5", "above 1 or below 0"
std::string condition(const AlarmRule& rule) {
  std::string words;
  if (rule.above) {
    words = text("above ", *rule.above);
  }
  if (rule.below) {
    words += text(words.empty() ? "" : " or ", "below ", *rule.below);
  }
  return words;
}

// NaN is neither within the one nor the other.
bool is_beyond(const AlarmRule& rule, double value) {
  return (rule.above && !(value <= *rule.above)) || (rule.below && !(value >= *rule.below));
}

}  // namespace

std::vector<AlarmRule> default_alarms() {
  return {{.metric = "attention_logit_max", .above = 100},
          {.metric = "orthogonality_error", .above = 0.1},
          {.metric = "residual_gain", .above = 2, .reports = 2},
          {.metric = "swiglu_clamped", .above = 0.01, .reports = 2}};
}

bool AlarmRule::is_about(const std::string& key) const {
  return key.starts_with(metric) && (key.size() == metric.size() || key[metric.size()] == '.');
}

Alarms::Heard Alarms::hear(int64_t step, const std::vector<Metrics::Value>& record) {
  Heard heard;
  for (const auto& rule : rules_) {
    for (const auto& [key, any] : record) {
      const auto* value = std::get_if<double>(&any);
      if (value == nullptr || !rule.is_about(key)) {
        continue;
      }
      const auto what = condition(rule);
      auto& reports = reports_[key + " " + what];
      const bool was_on = reports >= rule.reports;
      reports = is_beyond(rule, *value) ? reports + 1 : 0;
      const bool is_on = reports >= rule.reports;
      const auto found = text(key, " is ", *value, " in step ", step);
      if (is_on && !was_on) {
        const bool stops = rule.action == AlarmAction::kStop;
        heard.lines.push_back(
            text("alarm: ",
                 found,
                 ", ",
                 what,
                 rule.reports > 1 ? text(" in ", rule.reports, " reports in a row") : "",
                 stops ? ": the run stops (stability.alarms). It is saved; the same command "
                         "continues"
                       : ""));
        if (stops) {
          heard.stops = true;
          reports = 0;
        }
      } else if (was_on && !is_on) {
        heard.lines.push_back(text("alarm over: ", found, ", no longer ", what));
      }
    }
  }
  return heard;
}

AlarmState Alarms::state() const {
  AlarmState state;
  for (const auto& [alarm, reports] : reports_) {
    if (reports > 0) {
      state.counts.push_back({alarm, reports});
    }
  }
  return state;
}

void Alarms::restore(const AlarmState& state) {
  reports_.clear();
  for (const auto& [alarm, reports] : state.counts) {
    const auto key = alarm.substr(0, alarm.find(' '));
    for (const auto& rule : rules_) {  // others may have been there before
      if (rule.is_about(key) && alarm == key + " " + condition(rule)) {
        reports_[alarm] = reports;
      }
    }
  }
}

}  // namespace braid
