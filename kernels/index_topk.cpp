#include "kernels/index_topk.h"

#include <algorithm>
#include <limits>
#include <vector>

#include <ATen/ATen.h>
#include <ATen/Parallel.h>

#include "core/sizes.h"
#include "kernels/autograd.h"
#include "kernels/index_topk_cpu.h"
#include "kernels/small_product.h"

namespace braid {
namespace {

constexpr int64_t kQueries = 16, kEntries = 512;

template <class T>
struct Candidate {
  T score;
  int64_t entry;

  bool operator<(const Candidate& other) const {
    return score != other.score ? score > other.score : entry < other.entry;
  }
};

/// The k best of what it is offered, entries in ascending order.
template <class T>
class Selection {
 public:
  explicit Selection(int64_t k) : k_(static_cast<std::size_t>(k)) { candidates_.reserve(2 * k_); }

  void clear() {
    candidates_.clear();
    threshold_ = -std::numeric_limits<T>::infinity();
    full_ = false;
  }

  /// scores[c] is that of entry first + c.
  void offer(const T* scores, int64_t first, int64_t begin, int64_t end) {
    for (int64_t c = begin; c < end; ++c) {
      if (full_) {
        c = BRAID_CPU(next_above<T>)(scores, c, end, threshold_);
        if (c == end) {
          return;
        }
      }
      const bool is_number = scores[c] == scores[c];  // a step that went wrong must not sort NaN
      candidates_.push_back(
          {is_number ? scores[c] : -std::numeric_limits<T>::infinity(), first + c});
      if (candidates_.size() == (full_ ? 2 * k_ : k_)) {
        prune();
      }
    }
  }

  /// Writes k entries, -1 behind the last.
  void write(int64_t* entries) {
    prune();
    std::sort(candidates_.begin(), candidates_.end(), [](const auto& a, const auto& b) {
      return a.entry < b.entry;
    });
    for (std::size_t i = 0; i < k_; ++i) {
      entries[i] = i < candidates_.size() ? candidates_[i].entry : -1;
    }
  }

 private:
  // An entry that comes later must beat the worst of k strictly: of equal scores the lower one
  // stays.
  void prune() {
    if (candidates_.size() < k_) {
      return;
    }
    std::nth_element(candidates_.begin(), candidates_.begin() + k_ - 1, candidates_.end());
    candidates_.resize(k_);
    threshold_ = candidates_[k_ - 1].score;
    full_ = true;
  }

  std::size_t k_;
  std::vector<Candidate<T>> candidates_;
  T threshold_ = 0;
  bool full_ = false;
};

template <class T>
struct Problem {
  const T *q, *keys_t, *weight;  // keys_t [B, H, C]
  const int64_t *first, *end;
  int64_t B, S, I, H, C, k;
  int64_t* chosen;

  int64_t tiles_per_row() const { return (S + kQueries - 1) / kQueries; }
};

template <class T>
void choose(const Problem<T>& p,
            int64_t tile,
            std::vector<T>& products,
            std::vector<T>& scores,
            std::vector<Selection<T>>& selections) {
  const int64_t b = tile / p.tiles_per_row(), s0 = tile % p.tiles_per_row() * kQueries;
  const int64_t queries = std::min(kQueries, p.S - s0), row = b * p.S + s0;
  int64_t begin = p.C, end = 0;
  for (int64_t t = 0; t < queries; ++t) {
    selections[t].clear();
    if (p.end[row + t] > p.first[row + t]) {
      begin = std::min(begin, p.first[row + t]);
      end = std::max(end, p.end[row + t]);
    }
  }
  for (int64_t c0 = begin; c0 < end; c0 += kEntries) {
    const int64_t count = std::min(kEntries, end - c0);
    small_product(p.q + row * p.I * p.H,
                  p.keys_t + b * p.H * p.C + c0,
                  products.data(),
                  queries * p.I,
                  count,
                  p.H,
                  p.C,
                  kEntries);
    for (int64_t t = 0; t < queries; ++t) {
      const int64_t from = std::max<int64_t>(0, p.first[row + t] - c0);
      const int64_t to = std::min(count, p.end[row + t] - c0);
      if (from < to) {
        BRAID_CPU(weighted_relu_sum<T>)
        (products.data() + t * p.I * kEntries,
         p.weight + (row + t) * p.I,
         scores.data(),
         p.I,
         to,
         kEntries);
        selections[t].offer(scores.data(), c0, from, to);
      }
    }
  }
  for (int64_t t = 0; t < queries; ++t) {
    selections[t].write(p.chosen + (row + t) * p.k);
  }
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
  const auto keys_t = keys_BCH.detach().transpose(1, 2).contiguous();
  const auto first = visible.first_BS.contiguous(), end = visible.end_BS.contiguous();
  auto chosen = at::empty({B, S, k}, at::kLong);
  with_wide_type(q.scalar_type(), [&, S = S, B = B, I = I, H = H, C = C](auto zero) {
    using T = decltype(zero);
    const Problem<T> p{q.const_data_ptr<T>(),
                       keys_t.const_data_ptr<T>(),
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
    at::parallel_for(0, B * p.tiles_per_row(), 1, [&](int64_t from, int64_t to) {
      std::vector<T> products(kQueries * I * kEntries), scores(kEntries);
      std::vector<Selection<T>> selections(kQueries, Selection<T>(k));
      for (int64_t tile = from; tile < to; ++tile) {
        choose(p, tile, products, scores, selections);
      }
      at::native::cpublas::brgemm_release();
    });
  });
  return chosen;
}

}  // namespace braid
