// Local letters: R rows that arrive at one wave of experts, N ranks, P (token, choice) pairs.
#include "parallel/expert_exchange.h"

#include <algorithm>
#include <numeric>
#include <utility>

#include <ATen/ATen.h>
#include <torch/csrc/autograd/custom_function.h>
#include <torch/custom_class.h>

#include "core/sizes.h"

namespace braid {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::Function;
using torch::autograd::variable_list;

// One exchange of rows and its mirror image in the backward pass.
struct Exchange : torch::CustomClassHolder {
  Communicator* group = nullptr;
  std::vector<int64_t> send_rows, received_rows;
  const char* what = "";
  std::unique_ptr<Pending> forward, backward;
  at::Tensor gradient;  // of the rows sent, on its way back

  at::Tensor start(const at::Tensor& rows, bool back) {
    const auto& out = back ? received_rows : send_rows;
    const auto& in = back ? send_rows : received_rows;
    auto sizes = rows.sizes().vec();
    sizes[0] = std::accumulate(in.begin(), in.end(), int64_t{0});
    auto received = at::empty(sizes, rows.options().requires_grad(false));
    (back ? backward : forward) =
        group->start_all_to_all(rows.detach().contiguous(), out, received, in, what);
    return received;
  }
};
using ExchangePtr = c10::intrusive_ptr<Exchange>;

void keep(AutogradContext* ctx, const ExchangePtr& exchange) {
  ctx->saved_data["exchange"] = c10::IValue::make_capsule(exchange);
}

Exchange& kept(AutogradContext* ctx) {
  return static_cast<Exchange&>(*ctx->saved_data["exchange"].toCapsule());
}

// The exchange begins here and ends in EndFunction. What autograd runs in between, backwards too,
// computes while rows travel.
class BeginFunction : public Function<BeginFunction> {
 public:
  static at::Tensor forward(AutogradContext* ctx,
                            const at::Tensor& rows,
                            const ExchangePtr& exchange) {
    keep(ctx, exchange);
    return exchange->start(rows, /*back=*/false);
  }
  static variable_list backward(AutogradContext* ctx, variable_list) {
    auto& exchange = kept(ctx);
    exchange.backward->wait();
    return {std::move(exchange.gradient), at::Tensor()};
  }
};

class EndFunction : public Function<EndFunction> {
 public:
  static at::Tensor forward(AutogradContext* ctx,
                            const at::Tensor& received,
                            const ExchangePtr& exchange) {
    keep(ctx, exchange);
    exchange->forward->wait();
    return received.detach();
  }
  static variable_list backward(AutogradContext* ctx, variable_list gradients) {
    auto& exchange = kept(ctx);
    exchange.gradient = exchange.start(gradients[0], /*back=*/true);
    return {gradients[0], at::Tensor()};  // BeginFunction has the one that counts
  }
};

// Rows on their way.
struct Travelling {
  ExchangePtr exchange;
  at::Tensor rows;

  at::Tensor arrived() const { return EndFunction::apply(rows, exchange); }
};

Travelling sent(Communicator& group,
                const at::Tensor& rows,
                const std::vector<int64_t>& send_rows,
                const std::vector<int64_t>& received_rows,
                const char* what) {
  auto exchange = c10::make_intrusive<Exchange>();
  exchange->group = &group;
  exchange->send_rows = send_rows;
  exchange->received_rows = received_rows;
  exchange->what = what;
  auto received = BeginFunction::apply(rows, exchange);
  return {std::move(exchange), std::move(received)};
}

// What one wave sends and receives.
struct Wave {
  std::vector<int64_t> send_rows, received_rows;  // by rank
  at::Tensor expert_R;                            // of the rows received, from the wave's first on
};

int64_t sum(const std::vector<int64_t>& numbers) {
  return std::accumulate(numbers.begin(), numbers.end(), int64_t{0});
}

// `sent_NE` and `received_NE`: rows by (rank, its local expert), on the host; `device` is that of
// the rows.
std::vector<Wave> waves_of(const at::Tensor& sent_NE,
                           const at::Tensor& received_NE,
                           const std::vector<int64_t>& bounds,
                           at::Device device) {
  std::vector<Wave> waves;
  for (std::size_t w = 0; w + 1 < bounds.size(); ++w) {
    const int64_t first = bounds[w], count = bounds[w + 1] - first;
    const auto numbers = [&](const at::Tensor& rows_NE) {
      const auto sums = rows_NE.narrow(1, first, count).sum(1);
      return std::vector<int64_t>(sums.const_data_ptr<int64_t>(),
                                  sums.const_data_ptr<int64_t>() + sums.numel());
    };
    const auto counts = received_NE.narrow(1, first, count).reshape(-1);
    const auto ids = at::arange(count, received_NE.options()).repeat({received_NE.size(0)});
    waves.push_back({numbers(sent_NE),
                     numbers(received_NE),
                     at::repeat_interleave(ids, counts).to(device, /*non_blocking=*/true)});
  }
  return waves;
}

}  // namespace

std::vector<int64_t> wave_bounds(int64_t count, int64_t waves) {
  std::vector<int64_t> bounds = {0};
  const int64_t number = std::max<int64_t>(1, std::min(count, waves));
  for (int64_t w = 1; w <= number; ++w) {
    bounds.push_back(count * w / number);
  }
  return bounds;
}

at::Tensor exchanged_experts(const ExpertRanks& ranks,
                             int64_t num_experts,
                             const at::Tensor& x_TD,
                             const at::Tensor& experts_TK,
                             const at::Tensor& weights_TK,
                             at::ScalarType wide,
                             const WaveOfExperts& experts) {
  auto& group = *ranks.group;
  const auto [T, K] = sizes<2>(experts_TK);
  const int64_t N = group.size(), local = num_experts / N;
  const auto bounds = wave_bounds(local, ranks.waves);
  const auto num_waves = static_cast<int64_t>(bounds.size()) - 1;

  // 1. The (token, choice) pairs by wave, rank, expert and token, and how many go where.
  const auto expert_P = experts_TK.reshape(-1);
  const auto integers = expert_P.options();
  const auto device = expert_P.device();
  const auto wave_E =
      at::repeat_interleave(at::arange(num_waves, at::kLong), at::tensor(bounds, at::kLong).diff())
          .to(device, /*non_blocking=*/true);
  const auto of_rank_P = expert_P.div(local, "floor"), within_P = expert_P.remainder(local);
  const auto key_P = (wave_E.index_select(0, within_P) * N + of_rank_P) * local + within_P;
  const auto pair_P = std::get<1>(at::sort(key_P, /*stable=*/true, 0, /*descending=*/false));
  const auto row_P = at::empty_like(pair_P).scatter_(0, pair_P, at::arange(T * K, integers));
  // The host has to know how many; of a device this is what it waits for.
  const auto sent_NE = at::zeros({num_experts}, integers)
                           .scatter_add_(0, expert_P, at::ones_like(expert_P))
                           .view({N, local})
                           .cpu();
  const auto received_NE = at::empty_like(sent_NE);
  const std::vector<int64_t> one_row(static_cast<std::size_t>(N), 1);
  group.start_all_to_all(sent_NE, one_row, received_NE, one_row, "the experts' token counts")
      ->wait();
  const auto waves = waves_of(sent_NE, received_NE, bounds, device);

  // 2. Tokens out, through the experts, and results back, wave after wave.
  const auto x_PD = x_TD.index_select(0, pair_P.div(K, "floor"));
  const auto weight_P1 = weights_TK.reshape({-1, 1}).index_select(0, pair_P);
  std::vector<int64_t> wave_rows;
  for (const auto& wave : waves) {
    wave_rows.push_back(sum(wave.send_rows));
  }
  const auto xs = x_PD.split_with_sizes(wave_rows, 0);
  const auto weights = weight_P1.split_with_sizes(wave_rows, 0);
  const auto dispatched = [&](std::size_t w) {
    const auto& wave = waves[w];
    return std::pair(
        sent(group, xs[w], wave.send_rows, wave.received_rows, "tokens for the experts"),
        sent(group, weights[w], wave.send_rows, wave.received_rows, "routing weights"));
  };
  std::vector<Travelling> results;
  auto next = dispatched(0);
  for (std::size_t w = 0; w < waves.size(); ++w) {
    const auto [rows, row_weights] = std::move(next);
    if (w + 1 < waves.size()) {
      next = dispatched(w + 1);
    }
    const auto y_RD = experts(static_cast<int64_t>(w),
                              rows.arrived(),
                              waves[w].expert_R,
                              row_weights.arrived().squeeze(1));
    results.push_back(
        sent(group, y_RD, waves[w].received_rows, waves[w].send_rows, "the experts' results"));
  }
  std::vector<at::Tensor> arrived;
  for (const auto& result : results) {
    arrived.push_back(result.arrived());
  }

  // 3. Each token's results, in the order of its choices.
  const auto y_PD = at::cat(arrived).index_select(0, row_P);
  return y_PD.to(wide).view({T, K, x_TD.size(1)}).sum(1);
}

}  // namespace braid
