// Tiles of a few queries whose set is a stretch of entries, or of one query that lists its own.
// Rows of a product are keys, columns are heads and queries: keys are read as they lie.
#include "kernels/indexer_kl.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>

#include "core/sizes.h"
#include "kernels/autograd.h"
#include "kernels/cpu/each.h"
#include "kernels/cpu/indexer_kl_loops.h"
#include "kernels/cpu/running_selection.h"
#include "kernels/cpu/tile_products.h"
#include "kernels/precision.h"

namespace braid {
namespace {

constexpr int64_t kKeys = 256;  // of a block
constexpr int64_t kStep = 16;  // blocks of other lengths are padded: divergence() takes whole lanes
// The gradient of the keys is summed in this many fixed parts, whatever the threads.
constexpr int64_t kParts = 16;

// As few queries as keep the products efficient; lists differ from query to query.
int64_t tile_queries(int64_t heads, bool lists) {
  constexpr int64_t kColumns = 128, kMost = 16, kLeast = 4;
  int64_t queries = lists ? 1 : kMost;
  while (queries > kLeast && queries * heads > kColumns) {
    queries /= 2;
  }
  return queries;
}

// All tensors contiguous and of type T; I heads of h channels are the index's.
template <class T>
struct Problem {
  const T *index_q, *index_keys, *weight;
  const T *q, *kv, *compressed, *sink;
  const int64_t *window_first, *window_end, *entry_first, *entry_end;  // [B, S]
  const int64_t* chosen;                                               // [B, S, K], or null
  int64_t B, S, I, h, N, H, U, C, K, recalled;
  T scale;

  int64_t Q() const { return tile_queries(N, chosen != nullptr); }
  int64_t tiles_per_row() const { return blocks(S, Q()); }
};

// Where results go; gradients are null where none are wanted, dkeys is that of the tile's part.
template <class T>
struct Results {
  T *kl, *found;  // [B, S]
  T *dq, *dkeys, *dweight;
};

/// One thread's tile.
template <class T>
class Tile {
  static constexpr T kNever = static_cast<T>(-1e30);

  // Of the columns of several blocks.
  struct LogSums {
    std::vector<T> largest, sum;

    explicit LogSums(int64_t columns) : largest(columns), sum(columns) {}
    void clear() {
      std::fill(largest.begin(), largest.end(), kNever);
      std::fill(sum.begin(), sum.end(), T{0});
    }
    void add(const std::vector<T>& z, int64_t rows) {
      BRAID_CPU(add_to_log_sums<T>)
      (z.data(), largest.data(), sum.data(), rows, static_cast<int64_t>(sum.size()));
    }
    T sum_below(int64_t column, T top) const {
      return sum[column] * std::exp(largest[column] - top);
    }
  };

 public:
  explicit Tile(const Problem<T>& problem)
      : p_(problem),
        Q_(p_.Q()),
        q_(p_.N * Q_ * p_.H),
        index_q_(p_.I * Q_ * p_.h),
        weight_(p_.I * Q_),
        window_(p_.N * Q_),
        set_(p_.N * Q_),
        shift_(p_.N * Q_),
        kl_(Q_),
        dweight_(p_.I * Q_),
        dq_(p_.I * Q_ * p_.h),
        keys_(kKeys * std::max(p_.H, p_.h)),
        dkeys_(kKeys * p_.h),
        z_(kKeys * p_.N * Q_),
        products_(kKeys * p_.I * Q_),
        selection_(std::max<int64_t>(1, p_.recalled)),
        top_(Q_ * p_.recalled) {}

  void run(int64_t tile, const Results<T>& results) {
    b_ = tile / p_.tiles_per_row();
    const int64_t s = tile % p_.tiles_per_row() * Q_;
    count_ = std::min(Q_, p_.S - s);
    row_ = b_ * p_.S + s;
    load_queries();
    find_entries();
    find_mass();
    find_scores();
    choose_top();
    BRAID_CPU(divergence<T>)
    (mass_.data(), scores_.data(), seen_.data(), kl_.data(), J_, Q_);
    std::copy_n(kl_.data(), count_, results.kl + row_);
    write_recall(results.found);
    if (results.dq != nullptr) {
      write_gradients(results);
    }
  }

 private:
  // Row head * Q + t of the queries is query t's; missing queries are zero.
  void load_queries() {
    std::fill(q_.begin(), q_.end(), T{0});
    std::fill(index_q_.begin(), index_q_.end(), T{0});
    std::fill(weight_.begin(), weight_.end(), T{0});
    const int64_t columns = p_.N * Q_, index_columns = p_.I * Q_;
    for (int64_t t = 0; t < count_; ++t) {
      for (int64_t n = 0; n < p_.N; ++n) {
        const T* from = p_.q + ((row_ + t) * p_.N + n) * p_.H;
        T* to = q_.data() + (n * Q_ + t) * p_.H;
        for (int64_t i = 0; i < p_.H; ++i) {
          to[i] = from[i] * p_.scale;
        }
      }
      for (int64_t n = 0; n < p_.I; ++n) {
        std::copy_n(p_.index_q + ((row_ + t) * p_.I + n) * p_.h,
                    p_.h,
                    index_q_.data() + (n * Q_ + t) * p_.h);
        weight_[n * Q_ + t] = p_.weight[(row_ + t) * p_.I + n];
      }
    }
    tiles_.pack(by_columns(q_.data(), p_.H), p_.H, columns, q_Hc_);
    tiles_.pack(by_columns(index_q_.data(), p_.h), p_.h, index_columns, index_q_hc_);
  }

  // entries_: the set, or the stretch that holds the sets of all queries.
  void find_entries() {
    entries_.clear();
    if (p_.chosen != nullptr) {
      const int64_t* list = p_.chosen + row_ * p_.K;
      entries_.assign(list, std::find(list, list + p_.K, -1));
    } else {
      int64_t begin = p_.C, end = 0;
      for (int64_t t = 0; t < count_; ++t) {
        if (p_.entry_first[row_ + t] < p_.entry_end[row_ + t]) {
          begin = std::min(begin, p_.entry_first[row_ + t]);
          end = std::max(end, p_.entry_end[row_ + t]);
        }
      }
      for (int64_t entry = begin; entry < end; ++entry) {
        entries_.push_back(entry);
      }
    }
    J_ = padded(static_cast<int64_t>(entries_.size()));
    mass_.resize(J_ * Q_);
    scores_.resize(J_ * Q_);
    seen_.assign(J_ * Q_, 0);
    for (std::size_t j = 0; j < entries_.size(); ++j) {
      for (int64_t t = 0; t < count_; ++t) {
        seen_[j * Q_ + t] = p_.chosen != nullptr || (p_.entry_first[row_ + t] <= entries_[j] &&
                                                     entries_[j] < p_.entry_end[row_ + t]);
      }
    }
  }

  static GemmOperand by_rows(const T* data, int64_t stride) {
    return TileProducts<T>::operand(data, stride, /*by_columns=*/false);
  }
  static GemmOperand by_columns(const T* data, int64_t stride) {
    return TileProducts<T>::operand(data, stride, /*by_columns=*/true);
  }

  static int64_t padded(int64_t keys) { return blocks(keys, kStep) * kStep; }

  // Rows [first, first + rows) of the set, out of those of the batch's row b.
  void load_keys(const T* from, int64_t width, int64_t first, int64_t rows) {
    const int64_t there = std::min(rows, static_cast<int64_t>(entries_.size()) - first);
    T* key = keys_.data();
    for (int64_t j = first; j < first + there; ++j) {
      key = std::copy_n(from + (b_ * p_.C + entries_[j]) * width, width, key);
    }
    std::fill_n(key, (rows - there) * width, T{0});
  }

  template <class F>
  void for_each_block(const F& f) {
    for (int64_t first = 0; first < J_; first += kKeys) {
      f(first, std::min(kKeys, J_ - first));
    }
  }

  // z_ = logits of the keys that are loaded, of all queries and heads; unseen ones never count.
  void logits(int64_t rows, const uint8_t* seen) {
    const int64_t columns = p_.N * Q_;
    tiles_.multiply(by_rows(keys_.data(), p_.H), q_Hc_, z_.data(), columns, rows);
    for (int64_t i = 0; i < rows * Q_; ++i) {
      if (seen[i] == 0) {
        T* z = z_.data() + i / Q_ * columns + i % Q_;
        for (int64_t n = 0; n < p_.N; ++n) {
          z[n * Q_] = kNever;
        }
      }
    }
  }

  void entry_logits(int64_t first, int64_t rows) {
    load_keys(p_.compressed, p_.H, first, rows);
    logits(rows, seen_.data() + first * Q_);
  }

  void add_window(LogSums& sums) {
    const int64_t *begins = p_.window_first + row_, *ends = p_.window_end + row_;
    int64_t begin = p_.U, end = 0;
    for (int64_t t = 0; t < count_; ++t) {
      if (begins[t] < ends[t]) {
        begin = std::min(begin, begins[t]);
        end = std::max(end, ends[t]);
      }
    }
    for (int64_t first = begin; first < end; first += kKeys) {
      const int64_t there = std::min(kKeys, end - first), rows = padded(there);
      T* key = std::copy_n(p_.kv + (b_ * p_.U + first) * p_.H, there * p_.H, keys_.data());
      std::fill_n(key, (rows - there) * p_.H, T{0});
      window_seen_.assign(rows * Q_, 0);
      for (int64_t j = first; j < first + there; ++j) {
        for (int64_t t = 0; t < count_; ++t) {
          window_seen_[(j - first) * Q_ + t] = begins[t] <= j && j < ends[t];
        }
      }
      logits(rows, window_seen_.data());
      sums.add(z_, rows);
    }
  }

  // mass_ = the heads' shares of the entries, up to a factor of each query that keeps the largest
  // from underflowing.
  void find_mass() {
    window_.clear();
    set_.clear();
    add_window(window_);
    for_each_block([&](int64_t first, int64_t rows) {
      entry_logits(first, rows);
      set_.add(z_, rows);
    });
    for (int64_t t = 0; t < Q_; ++t) {
      T share = kNever;  // the largest, as a logarithm
      for (int64_t n = 0; n < p_.N; ++n) {
        const int64_t column = n * Q_ + t;
        const T sink = p_.sink[n],
                top = std::max({window_.largest[column], set_.largest[column], sink});
        shift_[column] = top + std::log(window_.sum_below(column, top) +
                                        set_.sum_below(column, top) + std::exp(sink - top));
        share = std::max(share, set_.largest[column] - shift_[column]);
      }
      for (int64_t n = 0; n < p_.N; ++n) {
        shift_[n * Q_ + t] += share;
      }
    }
    for_each_block([&](int64_t first, int64_t rows) {
      if (J_ > kKeys) {  // else they are still there
        entry_logits(first, rows);
      }
      BRAID_CPU(sum_of_heads<T>)
      (z_.data(), shift_.data(), mass_.data() + first * Q_, rows, p_.N, Q_);
    });
  }

  void index_products(int64_t first, int64_t rows) {
    const int64_t columns = p_.I * Q_;
    load_keys(p_.index_keys, p_.h, first, rows);
    tiles_.multiply(by_rows(keys_.data(), p_.h), index_q_hc_, products_.data(), columns, rows);
  }

  void find_scores() {
    for_each_block([&](int64_t first, int64_t rows) {
      index_products(first, rows);
      BRAID_CPU(weighted_relu_columns<T>)
      (products_.data(), weight_.data(), scores_.data() + first * Q_, rows, p_.I, Q_);
    });
  }

  // The entries of the highest scores, of queries that have more than `recalled`.
  void choose_top() {
    for (int64_t t = 0; t < count_ && p_.recalled > 0; ++t) {
      offered_.clear();
      for (std::size_t j = 0; j < entries_.size(); ++j) {
        if (seen_[j * Q_ + t] != 0) {
          offered_.push_back(scores_[j * Q_ + t]);
        }
      }
      int64_t* top = top_.data() + t * p_.recalled;
      top[0] = -1;
      const auto size = static_cast<int64_t>(offered_.size());
      if (size > p_.recalled) {
        selection_.clear();
        selection_.offer(offered_.data(), first_seen(t), 0, size);
        selection_.write(top);
      }
    }
  }

  int64_t first_seen(int64_t t) const {
    int64_t j = 0;
    while (seen_[j * Q_ + t] == 0) {
      ++j;
    }
    return j;
  }

  void write_recall(T* found) const {
    for (int64_t t = 0; t < count_ && p_.recalled > 0; ++t) {
      const int64_t* top = top_.data() + t * p_.recalled;
      T mass = top[0] < 0 ? T{-1} : T{0};
      for (int64_t i = 0; i < p_.recalled && top[0] >= 0; ++i) {
        mass += mass_[top[i] * Q_ + t];
      }
      found[row_ + t] = mass;
    }
  }

  // scores_ holds the scores' gradients.
  void write_gradients(const Results<T>& results) {
    const int64_t columns = p_.I * Q_;
    std::fill(dweight_.begin(), dweight_.end(), T{0});
    std::fill(dq_.begin(), dq_.end(), T{0});
    tiles_.pack(by_rows(index_q_.data(), p_.h), columns, p_.h, index_q_ch_);
    for_each_block([&](int64_t first, int64_t rows) {
      if (J_ > kKeys) {
        index_products(first, rows);
      }
      BRAID_CPU(weighted_relu_columns_backward<T>)
      (products_.data(),
       weight_.data(),
       scores_.data() + first * Q_,
       dweight_.data(),
       rows,
       p_.I,
       Q_);
      tiles_.pack(by_rows(keys_.data(), p_.h), rows, p_.h, packed_keys_);
      tiles_.multiply(by_columns(products_.data(), columns),
                      packed_keys_,
                      dq_.data(),
                      p_.h,
                      columns,
                      /*accumulate=*/true);
      tiles_.multiply(by_rows(products_.data(), columns), index_q_ch_, dkeys_.data(), p_.h, rows);
      add_keys_gradient(results.dkeys, first, rows);
    });
    for (int64_t t = 0; t < count_; ++t) {
      for (int64_t n = 0; n < p_.I; ++n) {
        const int64_t head = (row_ + t) * p_.I + n, column = n * Q_ + t;
        results.dweight[head] = dweight_[column];
        std::copy_n(dq_.data() + column * p_.h, p_.h, results.dq + head * p_.h);
      }
    }
  }

  void add_keys_gradient(T* dkeys, int64_t first, int64_t rows) {
    const int64_t end = std::min(first + rows, static_cast<int64_t>(entries_.size()));
    const T* from = dkeys_.data();
    for (int64_t j = first; j < end; ++j, from += p_.h) {
      T* into = dkeys + (b_ * p_.C + entries_[j]) * p_.h;
      for (int64_t i = 0; i < p_.h; ++i) {
        into[i] += from[i];
      }
    }
  }

  const Problem<T>& p_;
  int64_t Q_, b_ = 0, row_ = 0, count_ = 0;  // queries [row_, row_ + count_) of all rows
  int64_t J_ = 0;                            // keys of the set, padded
  TileProducts<T> tiles_;
  std::vector<T> q_, index_q_, weight_;                              // [columns, channels]
  typename TileProducts<T>::Packed q_Hc_, index_q_hc_, index_q_ch_;  // right operands
  LogSums window_, set_;
  std::vector<T> shift_, kl_, dweight_, dq_;
  std::vector<T> keys_, dkeys_, z_, products_;  // of a block
  typename TileProducts<T>::Packed packed_keys_;
  std::vector<int64_t> entries_;
  std::vector<T> mass_, scores_;  // [J, Q]
  std::vector<uint8_t> seen_, window_seen_;
  RunningSelection<T> selection_;
  std::vector<int64_t> top_;  // [Q, recalled]
  std::vector<T> offered_;
};

enum Input {
  kIndexQ,
  kIndexKeys,
  kWeight,
  kQ,
  kKv,
  kCompressed,
  kSink,
  kWindowFirst,
  kWindowEnd,
  kEntryFirst,
  kEntryEnd,
  kChosen
};

template <class T>
Problem<T> problem(const std::vector<at::Tensor>& in, double scale, int64_t recalled) {
  const auto values = [&](Input which) { return in[which].template const_data_ptr<T>(); };
  const auto ids = [&](Input which) { return in[which].template const_data_ptr<int64_t>(); };
  const bool lists = in[kChosen].defined();
  return {values(kIndexQ),
          values(kIndexKeys),
          values(kWeight),
          values(kQ),
          values(kKv),
          values(kCompressed),
          values(kSink),
          ids(kWindowFirst),
          ids(kWindowEnd),
          ids(kEntryFirst),
          ids(kEntryEnd),
          lists ? ids(kChosen) : nullptr,
          in[kQ].size(0),
          in[kQ].size(1),
          in[kIndexQ].size(2),
          in[kIndexQ].size(3),
          in[kQ].size(2),
          in[kQ].size(3),
          in[kKv].size(1),
          in[kCompressed].size(1),
          lists ? in[kChosen].size(2) : 0,
          recalled,
          static_cast<T>(scale)};
}

// What has no gradient.
struct Constants {
  std::vector<at::Tensor> tensors;  // from kQ on
  double scale;
  int64_t recalled;
  bool gradients;  // of the rest are wanted
};

class IndexerKlFunction : public Function<IndexerKlFunction> {
 public:
  static variable_list forward(AutogradContext* ctx,
                               const at::Tensor& q,
                               const at::Tensor& keys,
                               const at::Tensor& weight,
                               const Constants& constants) {
    const bool gradients = constants.gradients;
    std::vector<at::Tensor> in = {q.contiguous(), keys.contiguous(), weight.contiguous()};
    in.insert(in.end(), constants.tensors.begin(), constants.tensors.end());
    const auto like = [&](const at::Tensor& t) {
      return gradients ? at::empty_like(t) : at::Tensor();
    };
    const auto dq = like(in[kIndexQ]), dweight = like(in[kWeight]);
    const auto options = in[kIndexQ].options();
    const auto dkeys_parts =
        gradients ? at::zeros({kParts, in[kIndexKeys].numel()}, options) : at::Tensor();
    const auto kl = at::empty({q.size(0), q.size(1)}, options), found = at::empty_like(kl);
    with_wide_type(q.scalar_type(), [&](auto zero) {
      using T = decltype(zero);
      const auto data = [](const at::Tensor& t) {
        return t.defined() ? t.template data_ptr<T>() : nullptr;
      };
      const auto p = problem<T>(in, constants.scale, constants.recalled);
      const int64_t tiles = p.B * p.tiles_per_row();
      on_each_thread(kParts, [&](const auto& for_each) {
        Tile<T> tile(p);
        for_each([&](int64_t part) {
          const Results<T> results{
              data(kl),
              data(found),
              data(dq),
              gradients ? data(dkeys_parts) + part * in[kIndexKeys].numel() : nullptr,
              data(dweight)};
          for (int64_t i = part; i < tiles; i += kParts) {  // later queries have longer sets
            tile.run(i, results);
          }
        });
      });
    });
    ctx->saved_data["dq"] = dq;
    ctx->saved_data["dkeys"] =
        gradients ? dkeys_parts.sum(0).view(in[kIndexKeys].sizes()) : at::Tensor();
    ctx->saved_data["dweight"] = dweight;
    auto recall = at::zeros({2}, options);
    if (constants.recalled > 0) {
      recall = at::stack({found.clamp_min(0).sum(at::kDouble), (found >= 0).sum().to(at::kDouble)})
                   .to(kl.scalar_type());
    }
    ctx->mark_non_differentiable({recall});
    return {kl.sum(at::kDouble).to(kl.scalar_type()), recall};
  }

  static variable_list backward(AutogradContext* ctx, variable_list gradients) {
    require(ctx->saved_data.count("dq") == 1,
            "[indexer_kl] the backward pass ran a second time; its gradients are gone");
    variable_list result;
    for (const char* name : {"dq", "dkeys", "dweight"}) {
      auto gradient = ctx->saved_data[name].toTensor();
      result.push_back(gradient.defined() ? gradient.mul_(gradients[0]) : gradient);
    }
    ctx->saved_data.clear();
    result.emplace_back();  // the constants have none
    return result;
  }
};

// The kernel reads what it is told to.
void require_within(const KeyRange& range, int64_t keys, const char* what) {
  require(range.first_BS.numel() == 0 || (range.first_BS.min().item<int64_t>() >= 0 &&
                                          range.end_BS.max().item<int64_t>() <= keys),
          "[indexer_kl] queries see ",
          what,
          " that do not exist; there are ",
          keys);
}

}  // namespace

IndexerKl indexer_kl(const IndexParts& index,
                     const AttentionTeacher& teacher,
                     const SeenEntries& seen,
                     int64_t recalled) {
  const auto [B, S, N, H] = sizes<4>(teacher.q_BSNH);
  const auto [B1, U, H1] = sizes<3>(teacher.kv_BUH);
  const auto [B2, C, H2] = sizes<3>(teacher.compressed_BCH);
  const auto [B3, S3, I, h] = sizes<4>(index.q_BSIH);
  const auto& chosen = seen.chosen_BSK;
  const std::vector<int64_t> queries = {B, S};
  require(
      B1 == B && B2 == B && B3 == B && S3 == S && H1 == H && H2 == H &&
          index.keys_BCH.sizes() == at::IntArrayRef({B, C, h}) &&
          index.weight_BSI.sizes() == at::IntArrayRef({B, S, I}) &&
          teacher.sink_N.sizes() == at::IntArrayRef({N}) && recalled >= 0 &&
          teacher.window.first_BS.sizes() == queries && teacher.window.end_BS.sizes() == queries &&
          seen.range.first_BS.sizes() == queries && seen.range.end_BS.sizes() == queries &&
          (!chosen.defined() || (chosen.dim() == 3 && chosen.size(0) == B && chosen.size(1) == S)),
      "[indexer_kl] shapes do not fit: index q ",
      index.q_BSIH.sizes(),
      ", keys ",
      index.keys_BCH.sizes(),
      ", weights ",
      index.weight_BSI.sizes(),
      ", attention q ",
      teacher.q_BSNH.sizes(),
      ", kv ",
      teacher.kv_BUH.sizes(),
      ", compressed ",
      teacher.compressed_BCH.sizes(),
      ", sink ",
      teacher.sink_N.sizes(),
      ", window ",
      teacher.window.first_BS.sizes(),
      ", entries ",
      chosen.defined() ? chosen.sizes() : seen.range.first_BS.sizes());
  require_within(teacher.window, U, "raw keys");
  require_within(seen.range, C, "entries");
  require(!chosen.defined() || chosen.numel() == 0 || chosen.max().item<int64_t>() < C,
          "[indexer_kl] queries chose entries that do not exist; there are ",
          C);
  const auto type = wide_type(index.q_BSIH);
  const auto constant = [type](const at::Tensor& t) { return t.detach().to(type).contiguous(); };
  const std::vector<at::Tensor> constants = {constant(teacher.q_BSNH),
                                             constant(teacher.kv_BUH),
                                             constant(teacher.compressed_BCH),
                                             constant(teacher.sink_N),
                                             teacher.window.first_BS.contiguous(),
                                             teacher.window.end_BS.contiguous(),
                                             seen.range.first_BS.contiguous(),
                                             seen.range.end_BS.contiguous(),
                                             chosen.defined() ? chosen.contiguous() : chosen};
  const auto q = index.q_BSIH.to(type), keys = index.keys_BCH.to(type),
             weight = index.weight_BSI.to(type);
  const bool gradients = at::GradMode::is_enabled() &&
                         (q.requires_grad() || keys.requires_grad() || weight.requires_grad());
  const auto result = IndexerKlFunction::apply(
      q, keys, weight, Constants{constants, teacher.scale, recalled, gradients});
  return {result[0], result[1]};
}

}  // namespace braid
