#include "kernels/indexer_kl_cpu.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include "core/aligned.h"
#include "core/sizes.h"
#include "kernels/cpu/indexer_kl_loops.h"
#include "kernels/cpu/running_selection.h"
#include "kernels/cpu/threads.h"
#include "kernels/cpu/tile_products.h"

namespace braid {
namespace {

constexpr int64_t kKeys = 256;  // of a block
constexpr int64_t kStep = 16;  // blocks of other lengths are padded: divergence() takes whole lanes

// As few queries as keep the products efficient; lists differ from query to query.
template <class T>
int64_t queries_of_tile(const IndexerKlProblem<T>& p) {
  constexpr int64_t kColumns = 128, kMost = 16, kLeast = 4;
  int64_t queries = p.chosen != nullptr ? 1 : kMost;
  while (queries > kLeast && queries * p.N > kColumns) {
    queries /= 2;
  }
  return queries;
}

template <class T>
int64_t tiles_per_row(const IndexerKlProblem<T>& p) {
  return blocks(p.S, queries_of_tile(p));
}

/// One thread's tile.
template <class T>
class KlTile {
  static constexpr T kNever = static_cast<T>(-1e30);

  // Of the columns of several blocks.
  struct LogSums {
    AlignedVector<T> largest, sum;

    explicit LogSums(int64_t columns) : largest(columns), sum(columns) {}
    void clear() {
      std::fill(largest.begin(), largest.end(), kNever);
      std::fill(sum.begin(), sum.end(), T{0});
    }
    void add(const AlignedVector<T>& z, int64_t rows) {
      BRAID_CPU(add_to_log_sums<T>)
      (z.data(), largest.data(), sum.data(), rows, static_cast<int64_t>(sum.size()));
    }
    T sum_below(int64_t column, T top) const {
      return sum[column] * std::exp(largest[column] - top);
    }
  };

 public:
  explicit KlTile(const IndexerKlProblem<T>& problem)
      : p_(problem),
        Q_(queries_of_tile(p_)),
        tiles_(p_.in_bf16),
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

  void run(int64_t tile, const IndexerKlResults<T>& results, T* dkeys) {
    b_ = tile / tiles_per_row(p_);
    const int64_t s = tile % tiles_per_row(p_) * Q_;
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
    write_recall(results.recall);
    if (results.dq != nullptr) {
      write_gradients(results, dkeys);
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
        std::copy_n(p_.q + ((row_ + t) * p_.N + n) * p_.H, p_.H, q_.data() + (n * Q_ + t) * p_.H);
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
    for (int64_t i = 0; i < rows * columns; ++i) {
      z_[i] *= p_.scale;  // here, where queries may be rounded to bfloat16
    }
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

  void write_recall(T* recall) const {
    for (int64_t t = 0; t < count_ && p_.recalled > 0; ++t) {
      const int64_t* top = top_.data() + t * p_.recalled;
      T mass = top[0] < 0 ? T{-1} : T{0};
      for (int64_t i = 0; i < p_.recalled && top[0] >= 0; ++i) {
        mass += mass_[top[i] * Q_ + t];
      }
      recall[row_ + t] = mass;
    }
  }

  // scores_ holds the scores' gradients.
  void write_gradients(const IndexerKlResults<T>& results, T* dkeys) {
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
      add_keys_gradient(dkeys, first, rows);
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

  const IndexerKlProblem<T>& p_;
  int64_t Q_, b_ = 0, row_ = 0, count_ = 0;  // queries [row_, row_ + count_) of all rows
  int64_t J_ = 0;                            // keys of the set, padded
  TileProducts<T> tiles_;
  AlignedVector<T> q_, index_q_, weight_;                            // [columns, channels]
  typename TileProducts<T>::Packed q_Hc_, index_q_hc_, index_q_ch_;  // right operands
  LogSums window_, set_;
  AlignedVector<T> shift_, kl_, dweight_, dq_;
  AlignedVector<T> keys_, dkeys_, z_, products_;  // of a block
  typename TileProducts<T>::Packed packed_keys_;
  std::vector<int64_t> entries_;
  AlignedVector<T> mass_, scores_;  // [J, Q]
  std::vector<uint8_t> seen_, window_seen_;
  RunningSelection<T> selection_;
  std::vector<int64_t> top_;  // [Q, recalled]
  AlignedVector<T> offered_;
};

}  // namespace

template <class T>
void indexer_kl_cpu(const IndexerKlProblem<T>& p, const IndexerKlResults<T>& results) {
  const int64_t tiles = p.B * tiles_per_row(p);
  on_each_thread(kIndexerKlParts, [&](const auto& for_each) {
    KlTile<T> tile(p);
    for_each([&](int64_t part) {
      T* dkeys = results.dkeys != nullptr ? results.dkeys + part * p.B * p.C * p.h : nullptr;
      for (int64_t i = part; i < tiles; i += kIndexerKlParts) {  // later queries have longer sets
        tile.run(i, results, dkeys);
      }
    });
  });
}

template void indexer_kl_cpu(const IndexerKlProblem<float>&, const IndexerKlResults<float>&);
template void indexer_kl_cpu(const IndexerKlProblem<double>&, const IndexerKlResults<double>&);

}  // namespace braid
