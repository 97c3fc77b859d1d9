#pragma once
#include <vector>

#include "data/prepare.h"
#include "inference/token_losses.h"
#include "parallel/grid.h"
#include "run/run_folder.h"

namespace braid {

/// How a run's first model (first_model(): the reference of preferences) scores its documents.
struct ReferenceScores {
  std::vector<DocumentScore> training;                 ///< of all stores, one after another
  std::vector<std::vector<DocumentScore>> validation;  ///< of each set
};

/// Kept beside the token stores in the run's folder, NAME.reference of NAME.tokens; where one is
/// missing or of other documents or of another first model, that model is made once more, on
/// `device`, and scores them. Every rank calls this.
ReferenceScores reference_scores(const RunConfig& config,
                                 const ProcessGrid& grid,
                                 RunFolder& folder,
                                 const PreparedData& data,
                                 at::Device device);

}  // namespace braid
