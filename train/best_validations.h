#pragma once
#include <cstdint>
#include <string>
#include <vector>

#include "core/config.h"

namespace braid {

/// The best validations of a run, those with the lowest losses, and for how many in a row none was
/// better: what checkpoint.keep_best and train.stop_when_worse_for go by. A part of the state that
/// checkpoints hold.
struct BestValidations {
  struct One {
    int64_t step = 0;
    double loss = 0;  ///< by accuracy (run/config.h, BestBy) the share of wrong answers

    template <class Visitor>
    static void fields(Visitor& v) {
      v("step", &One::step, "after which it was", at_least(0));
      v("loss", &One::loss, "nats per target, or the share of wrong answers");
    }
  };

  std::string set;  ///< the name and digest of what is judged, and by what; others do not compare
  std::vector<One> best;  ///< the lowest loss first; of equal ones the earlier
  int64_t worse_for = 0;  ///< validations since the best one

  /// Enters a validation, of which `keep` are remembered, at least the best. Returns whether it is
  /// among those `keep`.
  bool add(int64_t step, double loss, int64_t keep);
  std::vector<int64_t> steps() const;

  template <class Visitor>
  static void fields(Visitor& v) {
    using B = BestValidations;
    v("set", &B::set, "what was judged");
    v("best", &B::best, "lowest loss first");
    v("worse_for", &B::worse_for, "validations since the best one", at_least(0));
  }
};

}  // namespace braid
