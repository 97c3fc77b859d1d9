// Tiles of a few queries, all heads at once: a tile's keys are the stretch of raw tokens that its
// queries see and the entries that any of them sees, so that the work is matrix multiplication and
// no scores outside a tile exist.
#include "kernels/attention.h"

#include <algorithm>
#include <bit>
#include <functional>
#include <numeric>
#include <utility>
#include <vector>

#include <ATen/ATen.h>

#include "core/sizes.h"
#include "kernels/autograd.h"
#include "kernels/cpu/attention_loops.h"
#include "kernels/cpu/bf16_rows.h"
#include "kernels/cpu/each.h"
#include "kernels/cpu/tile_products.h"
#include "kernels/precision.h"

namespace braid {
namespace {

constexpr int64_t kWave = 64;  // tiles whose shared gradients are in memory at once

// As few queries as keep the products efficient: a tile's keys are those of all of them, and every
// one of its scores is computed.
int64_t tile_queries(int64_t heads) {
  constexpr int64_t kRows = 128, kMost = 32, kLeast = 4;
  int64_t queries = kMost;
  while (queries > kLeast && queries * heads > kRows) {
    queries /= 2;
  }
  return queries;
}

// Whole vectors of scores.
int64_t padded(int64_t keys) {
  constexpr int64_t kStep = 16;
  return std::max(kStep, blocks(keys, kStep) * kStep);
}

struct Span {
  int64_t first = 0, end = 0;
  int64_t count() const { return end - first; }
};

/// Queries [first, first + count) of row b.
struct TileQueries {
  int64_t b, first, count;
};

// All tensors contiguous; q, kv and compressed of type T or, beside float32, bfloat16.
template <class T>
struct Problem {
  const uint8_t *q, *kv, *compressed;
  const T* sink;
  const int64_t *window_first, *window_end;  // [B, S]
  const int64_t *entry_first, *entry_end;    // [B, S]
  const int64_t* chosen;                     // [B, S, K], or null
  int64_t B, S, N, H, U, C, K;
  T scale;
  bool bf16;
  int64_t bytes;  // of an element of q, kv and compressed

  /// The smallest stretch of keys that holds all that these queries see.
  static Span hull(const int64_t* first, const int64_t* end, int64_t begin, int64_t count) {
    Span span;
    for (int64_t i = begin; i < begin + count; ++i) {
      if (first[i] < end[i]) {
        span = span.count() == 0 ? Span{first[i], end[i]}
                                 : Span{std::min(span.first, first[i]), std::max(span.end, end[i])};
      }
    }
    return span;
  }
};

/// The entries that a tile's queries list, each once and ascending, by way of a bit for each entry.
class ListedEntries {
 public:
  template <class T>
  void collect(const Problem<T>& p, const TileQueries& tile, std::vector<int64_t>& entries) {
    bits_.resize(static_cast<std::size_t>(p.C / kBits + 1));
    int64_t lowest = p.C, highest = -1;
    const int64_t* list = p.chosen + (tile.b * p.S + tile.first) * p.K;
    for (int64_t query = 0; query < tile.count; ++query, list += p.K) {
      for (int64_t i = 0; i < p.K && list[i] >= 0; ++i) {
        bits_[list[i] / kBits] |= uint64_t{1} << (list[i] % kBits);
        highest = std::max(highest, list[i]);
      }
      lowest = p.K > 0 && list[0] >= 0 ? std::min(lowest, list[0]) : lowest;
    }
    entries.clear();
    for (int64_t word = lowest / kBits; highest >= 0 && word <= highest / kBits; ++word) {
      for (uint64_t bits = std::exchange(bits_[word], 0); bits != 0; bits &= bits - 1) {
        entries.push_back(word * kBits + std::countr_zero(bits));
      }
    }
  }

 private:
  static constexpr int64_t kBits = 64;
  std::vector<uint64_t> bits_;  // all zero between calls
};

// Neighbors that choose the same entries share a tile; where they choose different ones, most of
// its scores would be for nothing, and smaller tiles do less work even at a lower rate.
template <class T>
void add_tiles(const Problem<T>& p,
               const TileQueries& queries,
               std::vector<TileQueries>& tiles,
               ListedEntries& listed,
               std::vector<int64_t>& scratch) {
  constexpr int64_t kFewRows = 16;
  const bool can_split = p.chosen != nullptr && queries.count > 1 && queries.count * p.N > kFewRows;
  if (can_split) {
    listed.collect(p, queries, scratch);
    if (static_cast<int64_t>(scratch.size()) > 2 * p.K) {
      const int64_t half = (queries.count + 1) / 2;
      add_tiles(p, {queries.b, queries.first, half}, tiles, listed, scratch);
      add_tiles(p, {queries.b, queries.first + half, queries.count - half}, tiles, listed, scratch);
      return;
    }
  }
  tiles.push_back(queries);
}

template <class T>
std::vector<TileQueries> tiles_of(const Problem<T>& p) {
  const int64_t queries = tile_queries(p.N), per_row = (p.S + queries - 1) / queries;
  std::vector<std::vector<TileQueries>> parts(p.B * per_row);
  on_each_thread(p.B * per_row, [&](const auto& for_each) {
    ListedEntries listed;
    std::vector<int64_t> scratch;
    for_each([&](int64_t i) {
      const int64_t first = i % per_row * queries;
      add_tiles(p, {i / per_row, first, std::min(queries, p.S - first)}, parts[i], listed, scratch);
    });
  });
  std::vector<TileQueries> tiles;
  for (const auto& part : parts) {
    tiles.insert(tiles.end(), part.begin(), part.end());
  }
  return tiles;
}

// One tile's keys and who sees them; reused from tile to tile.
template <class T>
struct Tile {
  TileQueries queries{};
  int64_t rows = 0;  // queries * heads
  Span raw;
  std::vector<int64_t> entries;
  int64_t J = 0;              // keys, padded
  std::vector<uint8_t> sees;  // [queries, J]
  std::vector<uint8_t> keys;  // [J, H] as in memory, raw ones first; padding is zero
  TileProducts<T> products;   // of bfloat16 tensors in bfloat16: probabilities are rounded
  typename TileProducts<T>::Packed packed_keys, packed_keys_t, packed_rows;  // [J, H], [H, J]
  std::vector<T> scores, dscores;
  ListedEntries listed;

  explicit Tile(const Problem<T>& p) : products(p.bf16) {}

  int64_t row_offset(const Problem<T>& p) const { return (queries.b * p.S + queries.first) * p.N; }

  void load(const Problem<T>& p, const TileQueries& tile) {
    queries = tile;
    rows = tile.count * p.N;
    const int64_t begin = tile.b * p.S + tile.first;
    raw = p.hull(p.window_first, p.window_end, begin, tile.count);
    if (p.chosen != nullptr) {
      listed.collect(p, tile, entries);
    } else {
      const auto span = p.hull(p.entry_first, p.entry_end, begin, tile.count);
      entries.resize(span.count());
      std::iota(entries.begin(), entries.end(), span.first);
    }
    const auto count = raw.count() + static_cast<int64_t>(entries.size());
    J = padded(count);
    const int64_t width = p.H * p.bytes;
    keys.resize(J * width);
    uint8_t* key =
        std::copy_n(p.kv + (tile.b * p.U + raw.first) * width, raw.count() * width, keys.data());
    for (const int64_t entry : entries) {
      key = std::copy_n(p.compressed + (tile.b * p.C + entry) * width, width, key);
    }
    std::fill(key, keys.data() + J * width, uint8_t{0});
    products.pack(products.operand(keys.data(), p.H, false, p.bf16), J, p.H, packed_keys);
    products.pack(products.operand(keys.data(), p.H, true, p.bf16), p.H, J, packed_keys_t);
    scores.resize(rows * J);
    mark_seen(p, begin);
  }

 private:
  void mark_seen(const Problem<T>& p, int64_t begin) {
    sees.assign(queries.count * J, 0);
    for (int64_t t = 0; t < queries.count; ++t) {
      uint8_t* row = sees.data() + t * J;
      const int64_t i = begin + t;
      if (p.window_first[i] < p.window_end[i]) {
        std::fill(row + p.window_first[i] - raw.first, row + p.window_end[i] - raw.first, 1);
      }
      row += raw.count();
      if (p.chosen == nullptr) {
        if (p.entry_first[i] < p.entry_end[i]) {
          std::fill(
              row + p.entry_first[i] - entries.front(), row + p.entry_end[i] - entries.front(), 1);
        }
        continue;
      }
      auto place = entries.begin();
      for (const int64_t *entry = p.chosen + i * p.K, *end = entry + p.K;
           entry < end && *entry >= 0;
           ++entry) {
        place = std::lower_bound(place, entries.end(), *entry);
        row[place - entries.begin()] = 1;
      }
    }
  }
};

template <class T>
void forward_tile(const Problem<T>& p, Tile<T>& tile, RowsOut<T>& out, T* log_sum) {
  const int64_t offset = tile.row_offset(p), J = tile.J, H = p.H;
  auto& products = tile.products;
  products.multiply(products.operand(p.q + offset * H * p.bytes, H, false, p.bf16),
                    tile.packed_keys_t,
                    tile.scores.data(),
                    J,
                    tile.rows);
  BRAID_CPU(attention_softmax<T>)
  (tile.scores.data(),
   tile.sees.data(),
   p.sink,
   log_sum + offset,
   tile.queries.count,
   p.N,
   J,
   p.scale);
  products.multiply(products.operand(tile.scores.data(), J, false),
                    tile.packed_keys,
                    out.at(offset, tile.rows),
                    H,
                    tile.rows);
  out.put();
}

// What a tile adds to the gradients that tiles share.
template <class T>
struct SharedGradients {
  int64_t b = 0;
  Span raw;
  std::vector<int64_t> entries;
  std::vector<T> dkeys;  // [J, H], raw keys first
  std::vector<T> dsink;  // [N]
};

template <class T>
void backward_tile(const Problem<T>& p,
                   Tile<T>& tile,
                   const T* log_sum,
                   const uint8_t* dout,
                   RowsOut<T>& dq,
                   SharedGradients<T>& shared) {
  const int64_t offset = tile.row_offset(p), rows = tile.rows, J = tile.J, H = p.H;
  auto& products = tile.products;
  const auto q = products.operand(p.q + offset * H * p.bytes, H, false, p.bf16),
             tile_dout = products.operand(dout + offset * H * p.bytes, H, false, p.bf16);
  tile.dscores.resize(rows * J);
  shared.b = tile.queries.b;
  shared.raw = tile.raw;
  shared.entries = tile.entries;
  shared.dkeys.resize(J * H);
  shared.dsink.assign(p.N, T{0});
  T *scores = tile.scores.data(), *dscores = tile.dscores.data();
  products.multiply(q, tile.packed_keys_t, scores, J, rows);
  products.multiply(tile_dout, tile.packed_keys_t, dscores, J, rows);
  BRAID_CPU(attention_softmax_backward<T>)
  (scores,
   dscores,
   tile.sees.data(),
   p.sink,
   log_sum + offset,
   shared.dsink.data(),
   tile.queries.count,
   p.N,
   J,
   p.scale);
  products.multiply(
      products.operand(dscores, J, false), tile.packed_keys, dq.at(offset, rows), H, rows);
  dq.put();
  // Keys are values too: they receive gradient from both products.
  T* dkeys = shared.dkeys.data();
  products.pack(tile_dout, rows, H, tile.packed_rows);
  products.multiply(products.operand(scores, J, true), tile.packed_rows, dkeys, H, J);
  products.pack(q, rows, H, tile.packed_rows);
  products.multiply(products.operand(dscores, J, true),
                    tile.packed_rows,
                    dkeys,
                    H,
                    J,
                    /*accumulate=*/true);
}

// Adds the channels [first, end) of what a tile gives to keys and entries.
template <class T>
void add_shared(const Problem<T>& p,
                const SharedGradients<T>& shared,
                int64_t first,
                int64_t end,
                T* dkv,
                T* dcompressed) {
  const T* from = shared.dkeys.data();
  const auto add = [&](T* into) {
    for (int64_t i = first; i < end; ++i) {
      into[i] += from[i];
    }
    from += p.H;
  };
  for (int64_t key = shared.raw.first; key < shared.raw.end; ++key) {
    add(dkv + (shared.b * p.U + key) * p.H);
  }
  for (const int64_t entry : shared.entries) {
    add(dcompressed + (shared.b * p.C + entry) * p.H);
  }
}

enum Saved {
  kQ,
  kKv,
  kCompressed,
  kSink,
  kWindowFirst,
  kWindowEnd,
  kEntryFirst,
  kEntryEnd,
  kChosen,
  kLogSum
};

template <class T>
Problem<T> problem(const std::vector<at::Tensor>& saved, double scale) {
  const auto &q = saved[kQ], &kv = saved[kKv], &compressed = saved[kCompressed],
             &chosen = saved[kChosen];
  const auto ids = [&](Saved which) { return saved[which].template const_data_ptr<int64_t>(); };
  return {static_cast<const uint8_t*>(q.const_data_ptr()),
          static_cast<const uint8_t*>(kv.const_data_ptr()),
          static_cast<const uint8_t*>(compressed.const_data_ptr()),
          saved[kSink].const_data_ptr<T>(),
          ids(kWindowFirst),
          ids(kWindowEnd),
          ids(kEntryFirst),
          ids(kEntryEnd),
          chosen.defined() ? ids(kChosen) : nullptr,
          q.size(0),
          q.size(1),
          q.size(2),
          q.size(3),
          kv.size(1),
          compressed.size(1),
          chosen.defined() ? chosen.size(2) : 0,
          static_cast<T>(scale),
          q.scalar_type() == at::kBFloat16,
          static_cast<int64_t>(q.element_size())};
}

// Calls with_thread(for_tiles) on each thread, and for_tiles(f) calls f(index, tile) for its tiles.
// Early queries of a row see fewer entries: what is done last takes least.
template <class T, class F>
void for_each_tile(const Problem<T>& p,
                   const std::vector<TileQueries>& tiles,
                   int64_t begin,
                   int64_t end,
                   const F& with_thread) {
  on_each_thread(end - begin, [&](const auto& for_each) {
    Tile<T> tile(p);
    with_thread([&](const auto& f) {
      for_each([&](int64_t i) {
        const int64_t index = end - 1 - i;
        tile.load(p, tiles[index]);
        f(index, tile);
      });
    });
  });
}

class AttentionFunction : public Function<AttentionFunction> {
 public:
  static at::Tensor forward(AutogradContext* ctx,
                            const at::Tensor& q,
                            const at::Tensor& kv,
                            const at::Tensor& compressed,
                            const at::Tensor& sink,
                            const KeyRange& window,
                            const SeenEntries& entries,
                            double scale) {
    const auto chosen = entries.chosen_BSK;
    std::vector<at::Tensor> saved = {q.contiguous(),
                                     kv.contiguous(),
                                     compressed.contiguous(),
                                     sink.contiguous(),
                                     window.first_BS.contiguous(),
                                     window.end_BS.contiguous(),
                                     entries.range.first_BS.contiguous(),
                                     entries.range.end_BS.contiguous(),
                                     chosen.defined() ? chosen.contiguous() : chosen};
    auto o = at::empty_like(saved[kQ]);
    auto log_sum = at::empty({q.size(0), q.size(1), q.size(2)}, q.options().dtype(wide_type(q)));
    with_wide_type(q.scalar_type(), [&](auto zero) {
      using T = decltype(zero);
      const auto p = problem<T>(saved, scale);
      const auto tiles = tiles_of(p);
      for_each_tile(p, tiles, 0, static_cast<int64_t>(tiles.size()), [&](const auto& for_tiles) {
        RowsOut<T> out(o, p.H);
        for_tiles([&](int64_t, Tile<T>& tile) {
          forward_tile<T>(p, tile, out, log_sum.template data_ptr<T>());
        });
      });
    });
    saved.push_back(log_sum);
    ctx->save_for_backward(saved);
    ctx->saved_data["scale"] = scale;
    return o;
  }

  static variable_list backward(AutogradContext* ctx, variable_list gradients) {
    const auto saved = ctx->get_saved_variables();
    const double scale = ctx->saved_data["scale"].toDouble();
    const auto dout = gradients[0].contiguous();
    const auto wide = saved[kSink].options();
    auto dq = at::empty_like(saved[kQ]), dkv = at::zeros(saved[kKv].sizes(), wide),
         dcompressed = at::zeros(saved[kCompressed].sizes(), wide),
         dsink = at::zeros_like(saved[kSink]);
    with_wide_type(dout.scalar_type(), [&](auto zero) {
      using T = decltype(zero);
      const auto p = problem<T>(saved, scale);
      const auto tiles = tiles_of(p);
      const auto count = static_cast<int64_t>(tiles.size());
      std::vector<SharedGradients<T>> shared(kWave);
      for (int64_t begin = 0; begin < count; begin += kWave) {
        const int64_t end = std::min(count, begin + kWave);
        for_each_tile(p, tiles, begin, end, [&](const auto& for_tiles) {
          RowsOut<T> dq_rows(dq, p.H);
          for_tiles([&](int64_t i, Tile<T>& tile) {
            backward_tile<T>(p,
                             tile,
                             saved[kLogSum].template const_data_ptr<T>(),
                             static_cast<const uint8_t*>(dout.const_data_ptr()),
                             dq_rows,
                             shared[i - begin]);
          });
        });
        // In the order of the tiles, whatever thread they were on; a thread takes some channels.
        constexpr int64_t kChannels = 32;
        for_each_of(blocks(p.H, kChannels), [&](int64_t part) {
          const int64_t first = part * kChannels, last = std::min(p.H, first + kChannels);
          for (int64_t i = begin; i < end; ++i) {
            add_shared(
                p, shared[i - begin], first, last, dkv.data_ptr<T>(), dcompressed.data_ptr<T>());
          }
        });
        for (int64_t i = begin; i < end; ++i) {
          std::transform(shared[i - begin].dsink.begin(),
                         shared[i - begin].dsink.end(),
                         dsink.data_ptr<T>(),
                         dsink.data_ptr<T>(),
                         std::plus<T>());
        }
      }
    });
    return {dq,
            dkv.to(saved[kKv].scalar_type()),
            dcompressed.to(saved[kCompressed].scalar_type()),
            dsink,
            at::Tensor(),
            at::Tensor(),
            at::Tensor()};  // what is seen and the scale have none
  }
};

// The kernel reads what it is told to.
void require_within(const KeyRange& range, int64_t keys, const char* what) {
  require(range.first_BS.numel() == 0 || (range.first_BS.min().item<int64_t>() >= 0 &&
                                          range.end_BS.max().item<int64_t>() <= keys),
          "[attention] queries see ",
          what,
          " that do not exist; there are ",
          keys);
}

}  // namespace

at::Tensor attention(const at::Tensor& q_BSNH,
                     const at::Tensor& kv_BUH,
                     const at::Tensor& compressed_BCH,
                     const at::Tensor& sink_N,
                     const KeyRange& window,
                     const SeenEntries& entries,
                     double scale) {
  const auto [B, S, N, H] = sizes<4>(q_BSNH);
  const auto [B1, U, H1] = sizes<3>(kv_BUH);
  const auto [B2, C, H2] = sizes<3>(compressed_BCH);
  const std::vector<int64_t> queries = {B, S};
  const auto& chosen = entries.chosen_BSK;
  require(
      B1 == B && B2 == B && H1 == H && H2 == H && sink_N.sizes() == at::IntArrayRef({N}) &&
          window.first_BS.sizes() == queries && window.end_BS.sizes() == queries &&
          entries.range.first_BS.sizes() == queries && entries.range.end_BS.sizes() == queries &&
          (!chosen.defined() || (chosen.dim() == 3 && chosen.size(0) == B && chosen.size(1) == S)),
      "[attention] shapes do not fit: q ",
      q_BSNH.sizes(),
      ", kv ",
      kv_BUH.sizes(),
      ", compressed ",
      compressed_BCH.sizes(),
      ", sink ",
      sink_N.sizes(),
      ", window ",
      window.first_BS.sizes(),
      ", entries ",
      chosen.defined() ? chosen.sizes() : entries.range.first_BS.sizes());
  require_within(window, U, "raw keys");
  require_within(entries.range, C, "entries");
  require(!chosen.defined() || chosen.numel() == 0 || chosen.max().item<int64_t>() < C,
          "[attention] queries chose entries that do not exist; there are ",
          C);
  const auto type = q_BSNH.scalar_type();
  return AttentionFunction::apply(q_BSNH,
                                  kv_BUH.to(type),
                                  compressed_BCH.to(type),
                                  sink_N.to(wide_type(type)),
                                  window,
                                  entries,
                                  scale);
}

}  // namespace braid
