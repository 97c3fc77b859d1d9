#include "data/config.h"

#include "core/error.h"

namespace braid {

void DataSection::validate() const {
  for (std::size_t i = 0; i < train.size(); ++i) {
    const bool has_weight = train[i].weight.has_value();
    if (has_weight != train[0].weight.has_value()) {
      throw ConfigError(
          text("data.train[", i, "]"),
          text(has_weight ? "has a weight, but '" : "has no weight, but '",
               train[0].path,
               has_weight ? "' has none" : "' has one",
               "; give a weight to every source (shares of the samples), or to none (all "
               "documents are shuffled together)"));
    }
  }
}

}  // namespace braid
