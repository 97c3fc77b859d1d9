#include "report/page_parts.h"

#include <algorithm>
#include <cctype>
#include <set>

#include "core/error.h"

namespace braid {
namespace {

constexpr std::size_t kMostEvents = 50, kMostSamples = 24;

struct NamedEvent {
  std::string run;
  int64_t step = 0;
  std::string what, text;
};

// Rollbacks are numbers: the step that was gone back from, and the loss there.
std::vector<NamedEvent> events_of(const NamedRun& named) {
  std::vector<NamedEvent> events;
  for (const auto& event : named.run->events) {
    events.push_back({named.name, event.step, event.key, event.text});
  }
  const auto* from = named.run->training_series("rollback.from_step");
  const auto* loss = named.run->training_series("rollback.spike_loss");
  for (std::size_t i = 0; from != nullptr && i < from->steps.size(); ++i) {
    events.push_back({named.name,
                      from->steps[i],
                      "rollback",
                      text("from step ",
                           number_text(from->values[i], NumberStyle::kPlain, 15),
                           loss == nullptr || i >= loss->values.size()
                               ? std::string()
                               : text(", loss ", number_text(loss->values[i])))});
  }
  std::stable_sort(events.begin(), events.end(), [](const NamedEvent& a, const NamedEvent& b) {
    return a.step < b.step;
  });
  return events;
}

}  // namespace

std::string validation_name(const std::string& set) {
  return set.empty() ? "validation" : "validation, " + set;
}

std::string Ids::of(const std::string& text) {
  std::string id;
  for (const unsigned char c : text) {
    if (std::isalnum(c) != 0 && c < 0x80) {
      id += static_cast<char>(std::tolower(c));
    } else if (!id.empty() && id.back() != '-') {
      id += '-';
    }
  }
  if (id.empty() || std::isalpha(static_cast<unsigned char>(id.front())) == 0) {
    id.insert(0, "plot-");
  }
  std::string unlike = id;
  for (int i = 2; std::find(made_.begin(), made_.end(), unlike) != made_.end(); ++i) {
    unlike = braid::text(id, "-", i);
  }
  made_.push_back(unlike);
  return unlike;
}

void add_events(Page& page, const std::vector<NamedRun>& runs) {
  const bool has_names = runs.size() > 1;
  PageTable table;
  if (has_names) {
    table.titles.emplace_back("run");
  }
  table.titles.insert(table.titles.end(), {">step", "what", "details"});
  std::size_t count = 0;
  for (const auto& run : runs) {
    for (const auto& [name, step, what, details] : events_of(run)) {
      if (++count > kMostEvents) {
        continue;
      }
      std::vector<TableCell> row;
      if (has_names) {
        row.push_back({name});
      }
      row.insert(row.end(), {{std::to_string(step)}, {what}, {details}});
      table.rows.push_back(row);
    }
  }
  if (count == 0) {
    return;
  }
  page.section("Events");
  if (count > kMostEvents) {
    table.caption = text("The first ", kMostEvents, " of ", count, ".");
  }
  page.table(table);
}

void add_samples(Page& page, const std::vector<NamedRun>& runs) {
  struct Shown {
    const NamedRun* run;
    const TextSample* sample;
  };
  std::vector<Shown> shown;
  for (const auto& run : runs) {
    for (const auto& sample : run.run->samples) {
      shown.push_back({&run, &sample});
    }
  }
  if (shown.empty()) {
    return;
  }
  std::stable_sort(shown.begin(), shown.end(), [](const Shown& a, const Shown& b) {
    return a.sample->step > b.sample->step;
  });
  page.section("Samples of text");
  page.paragraph(text("Generated at validations, the newest first; prompts are bold.",
                      shown.size() > kMostSamples
                          ? text(" The last ", kMostSamples, " of ", shown.size(), ".")
                          : std::string()));
  const auto newest = shown.front().sample->step;
  for (std::size_t i = 0; i < std::min(shown.size(), kMostSamples); ++i) {
    const auto& [run, sample] = shown[i];
    const auto title = text(runs.size() > 1 ? run->name + ", " : "", "step ", sample->step);
    page.preformatted(title, sample->text, /*is_open=*/sample->step == newest, sample->prompt);
  }
}

}  // namespace braid
