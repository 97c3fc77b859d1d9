#pragma once
// An exchange and a gathering in which ranks have different numbers of rows, also none.
#include <cstdint>
#include <numeric>
#include <vector>

#include <ATen/ATen.h>

#include "core/error.h"
#include "parallel/communicator.h"
#include "tests/support/normal_tensor.h"

namespace braid::testing {

/// What a rank sends and receives. Rank r has r rows for itself and r + s + 1 for rank s, for rank
/// 1 none, and gives r % 3 rows to all. Rows are 5 numbers wide, float32, on the CPU.
struct UnevenExchange {
  explicit UnevenExchange(const Communicator& group) {
    const int64_t own = group.rank(), size = group.size();
    for (int64_t r = 0; r < size; ++r) {
      out.push_back(rows(own, r));
      in.push_back(rows(r, own));
      gathered.push_back(r % 3);
    }
    to_send = normal_tensor(text("send ", own), {total(out), 5}, at::kFloat);
    to_gather = normal_tensor(text("gather ", own), {own % 3, 5}, at::kFloat);
  }

  /// Room for what arrives.
  at::Tensor received(at::Device device) const { return room(in, device); }
  at::Tensor all(at::Device device) const { return room(gathered, device); }

  std::vector<int64_t> out, in, gathered;  ///< rows by rank
  at::Tensor to_send, to_gather;

 private:
  static int64_t rows(int64_t from, int64_t to) {
    return to == 1 ? 0 : to == from ? from : from + to + 1;
  }
  static int64_t total(const std::vector<int64_t>& rows) {
    return std::accumulate(rows.begin(), rows.end(), int64_t{0});
  }
  static at::Tensor room(const std::vector<int64_t>& rows, at::Device device) {
    return at::empty({total(rows), 5}, at::device(device).dtype(at::kFloat));
  }
};

}  // namespace braid::testing
