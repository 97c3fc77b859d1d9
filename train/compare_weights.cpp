#include "train/compare_weights.h"

#include <ATen/ATen.h>

#include "core/file.h"

namespace braid {
namespace {

std::string digest_of(const Transformer& model, bool experts) {
  std::string digests;
  for (const auto& parameter : model.parameters().all()) {
    if (parameter.quantized.empty() && is_stack(parameter.name) == experts) {
      const auto value = parameter.value.detach().cpu().contiguous();
      digests += xxh3_128({static_cast<const char*>(value.const_data_ptr()), value.nbytes()});
    }
  }
  return xxh3_128(digests);
}

void require_same(Communicator& group, const std::string& own, const char* which, int64_t step) {
  const auto digests = group.all_gather(own, "weight checksums");
  for (std::size_t r = 0; r < digests.size(); ++r) {
    require(digests[r] == digests[0],
            "step ",
            step,
            ": ",
            which,
            " of rank ",
            r,
            " of their group differ from rank 0's, although each step gives them the same: a "
            "fault of memory, network or program; restart from the last checkpoint");
  }
}

}  // namespace

void compare_weights(const Transformer& model, const ProcessGrid& grid, int64_t step) {
  if (grid.place.ranks == 1) {
    return;
  }
  require_same(*grid.world, digest_of(model, /*experts=*/false), "the weights", step);
  require_same(*grid.replicas, digest_of(model, /*experts=*/true), "the experts' weights", step);
}

}  // namespace braid
