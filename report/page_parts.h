#pragma once
// What the page of a run and that of a comparison have in common.
#include <string>
#include <vector>

#include "report/curve_lines.h"
#include "report/curves.h"
#include "report/page.h"

namespace braid {

/// "validation", of a named set "validation, code".
std::string validation_name(const std::string& set);

/// An id out of any text, unlike those made before.
class Ids {
 public:
  std::string of(const std::string& text);

 private:
  std::vector<std::string> made_;
};

struct NamedRun {
  std::string name;
  const RunCurves* run = nullptr;
};
/// A table of the first 50 events, if there are any; rollbacks are among them.
void add_events(Page& page, const std::vector<NamedRun>& runs);

/// The texts that runs generated, the newest first, at most 24; those of the last step are open.
void add_samples(Page& page, const std::vector<NamedRun>& runs);

}  // namespace braid
