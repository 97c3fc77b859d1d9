#include "parallel/context_exchange.h"

#include <algorithm>
#include <numeric>

#include <ATen/ATen.h>
#include <torch/csrc/autograd/custom_function.h>
#include <torch/custom_class.h>

#include "core/sizes.h"

namespace braid {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::Function;
using torch::autograd::variable_list;

constexpr const char* kBefore = "rows of the neighbors to the left";
constexpr const char* kOfAll = "rows of all context ranks";

int64_t total(const std::vector<int64_t>& numbers) {
  return std::accumulate(numbers.begin(), numbers.end(), int64_t{0});
}

// What the backward pass of an exchange needs to know.
struct RowExchange : torch::CustomClassHolder {
  RowExchange(Communicator& its_group, const std::vector<int64_t>& by_rank)
      : group(its_group), rows(by_rank) {}
  Communicator& group;
  std::vector<int64_t> rows;
};

void keep_rows(AutogradContext* ctx, Communicator& group, const std::vector<int64_t>& rows) {
  ctx->saved_data["exchange"] =
      c10::IValue::make_capsule(c10::make_intrusive<RowExchange>(group, rows));
}

const RowExchange& kept_rows(AutogradContext* ctx) {
  return static_cast<const RowExchange&>(*ctx->saved_data["exchange"].toCapsule());
}

/// Which of its own rows a rank has for another one: [first, first + count).
struct Stretch {
  int64_t first = 0, count = 0;
};

// What rank `from` has of the rows before rank `to`'s share; a share has S rows.
Stretch stretch(int64_t from, int64_t to, int64_t S, const std::vector<int64_t>& rows_before) {
  if (from >= to) {
    return {};
  }
  const int64_t needed = to * S - rows_before[static_cast<std::size_t>(to)];
  const int64_t first = std::clamp(needed - from * S, int64_t{0}, S);
  return {first, S - first};
}

// What this rank has for the others, and what it needs of them.
struct Neighbors {
  std::vector<Stretch> for_others;
  std::vector<int64_t> of_others;

  Neighbors(const Communicator& group, int64_t S, const std::vector<int64_t>& rows_before) {
    for (int64_t r = 0; r < group.size(); ++r) {
      for_others.push_back(stretch(group.rank(), r, S, rows_before));
      of_others.push_back(stretch(r, group.rank(), S, rows_before).count);
    }
  }

  std::vector<int64_t> counts_for_others() const {
    std::vector<int64_t> counts;
    for (const auto& each : for_others) {
      counts.push_back(each.count);
    }
    return counts;
  }
};

std::vector<int64_t> times(std::vector<int64_t> counts, int64_t B) {
  for (auto& count : counts) {
    count *= B;
  }
  return counts;
}

// Pieces [B, n, X] one behind the other as rows [sum of B n, X].
at::Tensor stacked(const std::vector<at::Tensor>& pieces_BnX, const at::Tensor& like_BSX) {
  std::vector<at::Tensor> rows;
  for (const auto& piece : pieces_BnX) {
    rows.push_back(piece.reshape({-1, like_BSX.size(2)}));
  }
  return at::cat(rows);
}

// The other way round.
std::vector<at::Tensor> unstacked(const at::Tensor& rows,
                                  const std::vector<int64_t>& counts,
                                  int64_t B) {
  std::vector<at::Tensor> pieces;
  int64_t first = 0;
  for (const int64_t count : counts) {
    pieces.push_back(rows.narrow(0, first, B * count).view({B, count, rows.size(1)}));
    first += B * count;
  }
  return pieces;
}

class RowsBeforeFunction : public Function<RowsBeforeFunction> {
 public:
  static at::Tensor forward(AutogradContext* ctx,
                            const at::Tensor& x_BSX,
                            Communicator& group,
                            const std::vector<int64_t>& rows_before) {
    keep_rows(ctx, group, rows_before);
    const auto [B, S, X] = sizes<3>(x_BSX);
    const Neighbors neighbors(group, S, rows_before);
    std::vector<at::Tensor> pieces;
    for (const auto& [first, count] : neighbors.for_others) {
      pieces.push_back(x_BSX.narrow(1, first, count));
    }
    const auto received = at::empty({B * total(neighbors.of_others), X}, x_BSX.options());
    group
        .start_all_to_all(stacked(pieces, x_BSX),
                          times(neighbors.counts_for_others(), B),
                          received,
                          times(neighbors.of_others, B),
                          kBefore)
        ->wait();
    auto result = unstacked(received, neighbors.of_others, B);
    result.push_back(x_BSX);
    return at::cat(result, 1);
  }

  static variable_list backward(AutogradContext* ctx, variable_list gradients) {
    auto& group = kept_rows(ctx).group;
    const auto& rows_before = kept_rows(ctx).rows;
    const auto& dy_BUX = gradients[0];
    const auto [B, U, X] = sizes<3>(dy_BUX);
    const int64_t S = U - rows_before[static_cast<std::size_t>(group.rank())];
    const Neighbors neighbors(group, S, rows_before);
    std::vector<at::Tensor> pieces;
    int64_t next = 0;
    for (const int64_t count : neighbors.of_others) {
      pieces.push_back(dy_BUX.narrow(1, next, count));
      next += count;
    }
    const auto counts = neighbors.counts_for_others();
    const auto received = at::empty({B * total(counts), X}, dy_BUX.options());
    group
        .start_all_to_all(stacked(pieces, dy_BUX),
                          times(neighbors.of_others, B),
                          received,
                          times(counts, B),
                          kBefore)
        ->wait();
    const auto dx_BSX = dy_BUX.narrow(1, next, S).clone();
    const auto returned = unstacked(received, counts, B);
    for (std::size_t r = 0; r < returned.size(); ++r) {
      dx_BSX.narrow(1, neighbors.for_others[r].first, counts[r]).add_(returned[r]);
    }
    return {dx_BSX, at::Tensor(), at::Tensor()};
  }
};

class RowsOfAllFunction : public Function<RowsOfAllFunction> {
 public:
  static at::Tensor forward(AutogradContext* ctx,
                            const at::Tensor& own,
                            Communicator& group,
                            const std::vector<int64_t>& rows) {
    keep_rows(ctx, group, rows);
    const auto all = at::empty({total(rows), own.size(1)}, own.options());
    group.start_all_gather(own.contiguous(), all, rows, kOfAll)->wait();
    return all;
  }

  static variable_list backward(AutogradContext* ctx, variable_list gradients) {
    auto& group = kept_rows(ctx).group;
    const auto& rows = kept_rows(ctx).rows;
    const int64_t own = rows[static_cast<std::size_t>(group.rank())];
    const auto dy = gradients[0].contiguous();
    const auto received = at::empty({group.size() * own, dy.size(1)}, dy.options());
    const std::vector<int64_t> from_each(rows.size(), own);
    group.start_all_to_all(dy, rows, received, from_each, kOfAll)->wait();
    return {tree_sum(received.split_with_sizes(from_each)), at::Tensor(), at::Tensor()};
  }
};

}  // namespace

at::Tensor ContextRanks::own_share(const at::Tensor& whole) const {
  if (group == nullptr) {
    return whole;
  }
  const int64_t length = whole.size(1) / size();
  return whole.narrow(1, rank() * length, length);
}

at::Tensor with_rows_before(const ContextRanks& ranks,
                            const at::Tensor& x_BSX,
                            const std::vector<int64_t>& rows_before) {
  if (std::ranges::all_of(rows_before, [](int64_t rows) { return rows == 0; })) {
    return x_BSX;
  }
  return RowsBeforeFunction::apply(x_BSX, *ranks.group, rows_before);
}

std::vector<int64_t> rows_sent_before(int64_t share, const std::vector<int64_t>& rows_before) {
  // Of the ranks before it, a rank needs all rows of the nearest and some of the farthest.
  std::vector<int64_t> some(rows_before.size(), 0), all_begin(rows_before.size() + 1, 0);
  for (std::size_t to = 1; to < rows_before.size(); ++to) {
    const auto whole = std::min(to, static_cast<std::size_t>(rows_before[to] / share));
    ++all_begin[to - whole];
    --all_begin[to];
    if (whole < to) {
      some[to - whole - 1] += rows_before[to] % share;
    }
  }
  std::vector<int64_t> sent;
  int64_t all = 0;
  for (std::size_t from = 0; from < rows_before.size(); ++from) {
    all += all_begin[from];
    sent.push_back(some[from] + all * share);
  }
  return sent;
}

at::Tensor rows_of_all(const ContextRanks& ranks,
                       const at::Tensor& own,
                       const std::vector<int64_t>& rows) {
  return ranks.group == nullptr ? own : RowsOfAllFunction::apply(own, *ranks.group, rows);
}

at::Tensor sum_over(const ContextRanks& ranks, const at::Tensor& own) {
  if (ranks.group == nullptr) {
    return own;
  }
  auto sizes = own.sizes().vec();
  sizes.insert(sizes.begin(), ranks.size());
  const auto all = at::empty(sizes, own.options().requires_grad(false));
  const std::vector<int64_t> one_row(static_cast<std::size_t>(ranks.size()), 1);
  ranks.group->start_all_gather(own.detach().contiguous().unsqueeze(0), all, one_row, "sums")
      ->wait();
  return tree_sum(all.unbind(0));
}

}  // namespace braid
