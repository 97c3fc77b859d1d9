#include "kernels/index_topk.h"

#include <algorithm>
#include <vector>

#include <ATen/ATen.h>

#include "core/profile.h"
#include "core/sizes.h"
#include "kernels/autograd.h"
#include "kernels/cpu/each.h"
#include "kernels/cpu/index_topk_loops.h"
#include "kernels/cpu/matrix_loops.h"
#include "kernels/cpu/running_selection.h"

namespace braid {
namespace {

constexpr int64_t kQueries = 16;  // of a tile

template <class T>
struct Problem {
  const T *q, *panels, *weight;  // [B, S, I, H], [B, panels, H, kPanelEntries], [B, S, I]
  const int64_t *first, *end;
  int64_t B, S, I, H, C, k;
  int64_t* chosen;

  int64_t tiles_per_row() const { return blocks(S, kQueries); }
  int64_t groups() const { return blocks(I, kPanelHeads); }
};

/// One thread's tile.
template <class T>
class Tile {
 public:
  explicit Tile(const Problem<T>& problem)
      : p_(problem),
        heads_(p_.groups() * kPanelHeads),
        q_(kQueries * heads_ * p_.H),
        weight_(kQueries * heads_),
        scores_(kQueries * kPanelEntries),
        selections_(kQueries, RunningSelection<T>(p_.k)) {}

  void choose(int64_t tile) {
    const int64_t b = tile / p_.tiles_per_row(), s = tile % p_.tiles_per_row() * kQueries;
    const int64_t queries = std::min(kQueries, p_.S - s), row = b * p_.S + s;
    load_queries(row, queries);
    int64_t begin = p_.C, end = 0;
    for (int64_t t = 0; t < queries; ++t) {
      selections_[t].clear();
      if (p_.end[row + t] > p_.first[row + t]) {
        begin = std::min(begin, p_.first[row + t]);
        end = std::max(end, p_.end[row + t]);
      }
    }
    const T* panels = p_.panels + b * blocks(p_.C, kPanelEntries) * p_.H * kPanelEntries;
    for (int64_t c = begin / kPanelEntries * kPanelEntries; c < end; c += kPanelEntries) {
      count_flops(2 * queries * p_.I * p_.H * kPanelEntries);
      BRAID_CPU(score_panel<T>)
      (q_.data(), weight_.data(), panels + c * p_.H, scores_.data(), queries, p_.groups(), p_.H);
      for (int64_t t = 0; t < queries; ++t) {
        const int64_t from = std::max<int64_t>(0, p_.first[row + t] - c),
                      to = std::min(kPanelEntries, p_.end[row + t] - c);
        if (from < to) {
          selections_[t].offer(scores_.data() + t * kPanelEntries, c, from, to);
        }
      }
    }
    for (int64_t t = 0; t < queries; ++t) {
      selections_[t].write(p_.chosen + (row + t) * p_.k);
    }
  }

 private:
  // By groups of heads, channel by channel; heads that are missing in the last group stay zero.
  void load_queries(int64_t row, int64_t queries) {
    for (int64_t t = 0; t < queries; ++t) {
      for (int64_t head = 0; head < p_.I; ++head) {
        const T* from = p_.q + ((row + t) * p_.I + head) * p_.H;
        T* to =
            q_.data() + (t * heads_ + head / kPanelHeads * kPanelHeads) * p_.H + head % kPanelHeads;
        for (int64_t i = 0; i < p_.H; ++i) {
          to[i * kPanelHeads] = from[i];
        }
        weight_[t * heads_ + head] = p_.weight[(row + t) * p_.I + head];
      }
    }
  }

  const Problem<T>& p_;
  int64_t heads_;
  std::vector<T> q_, weight_, scores_;
  std::vector<RunningSelection<T>> selections_;
};

// [B, C, H] -> blocks of entries side by side, channel by channel: a panel lies in one piece, where
// rows of all entries would be a power of two apart and share a few lines of the cache.
template <class T>
std::vector<T> panels_of(const at::Tensor& keys_BCH) {
  const auto [B, C, H] = sizes<3>(keys_BCH);
  const int64_t panels = blocks(C, kPanelEntries), size = H * kPanelEntries;
  std::vector<T> result(B * panels * size);
  for_each_of(B * panels, [&, C = C, H = H](int64_t i) {
    const int64_t c = i % panels * kPanelEntries;
    BRAID_CPU(transpose<T>)
    (keys_BCH.const_data_ptr<T>() + (i / panels * C + c) * H,
     H,
     result.data() + i * size,
     kPanelEntries,
     std::min(kPanelEntries, C - c),
     H);
  });
  return result;
}

}  // namespace

at::Tensor index_topk(const at::Tensor& q_BSIH,
                      const at::Tensor& keys_BCH,
                      const at::Tensor& weight_BSI,
                      const KeyRange& visible,
                      int64_t k) {
  const auto [B, S, I, H] = sizes<4>(q_BSIH);
  const auto [B1, C, H1] = sizes<3>(keys_BCH);
  require(B1 == B && H1 == H && weight_BSI.sizes() == at::IntArrayRef({B, S, I}) && k >= 1 &&
              visible.first_BS.sizes() == at::IntArrayRef({B, S}) &&
              visible.end_BS.sizes() == at::IntArrayRef({B, S}),
          "[index_topk] shapes do not fit: q ",
          q_BSIH.sizes(),
          ", keys ",
          keys_BCH.sizes(),
          ", weights ",
          weight_BSI.sizes(),
          ", visible ",
          visible.first_BS.sizes());
  const auto q = q_BSIH.detach().contiguous(), weight = weight_BSI.detach().contiguous();
  const auto keys = keys_BCH.detach().contiguous();
  const auto first = visible.first_BS.contiguous(), end = visible.end_BS.contiguous();
  auto chosen = at::empty({B, S, k}, at::kLong);
  with_wide_type(q.scalar_type(), [&, S = S, B = B, I = I, H = H, C = C](auto zero) {
    using T = decltype(zero);
    const auto panels = panels_of<T>(keys);
    const Problem<T> p{q.const_data_ptr<T>(),
                       panels.data(),
                       weight.const_data_ptr<T>(),
                       first.const_data_ptr<int64_t>(),
                       end.const_data_ptr<int64_t>(),
                       B,
                       S,
                       I,
                       H,
                       C,
                       k,
                       chosen.data_ptr<int64_t>()};
    on_each_thread(B * p.tiles_per_row(), [&](const auto& for_each) {
      Tile<T> tile(p);
      // Early queries see fewer entries: what is done last takes least.
      for_each([&](int64_t i) { tile.choose(B * p.tiles_per_row() - 1 - i); });
    });
  });
  return chosen;
}

}  // namespace braid
