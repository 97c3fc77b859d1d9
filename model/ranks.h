#pragma once
#include "parallel/context_exchange.h"
#include "parallel/expert_exchange.h"

namespace braid {

/// The ranks that run one model together. Each of them calls the same passes in the same order.
struct ModelRanks {
  ExpertRanks experts;
  ContextRanks context;
};

}  // namespace braid
