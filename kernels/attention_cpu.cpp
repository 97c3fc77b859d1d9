#include "kernels/attention_cpu.h"

#include <algorithm>
#include <functional>
#include <numeric>
#include <vector>

#include "core/aligned.h"
#include "core/sizes.h"
#include "kernels/cpu/attention_loops.h"
#include "kernels/cpu/bf16_rows.h"
#include "kernels/cpu/threads.h"
#include "kernels/cpu/tile_products.h"

namespace braid {
namespace {

// One tile's keys and who sees them; reused from tile to tile.
template <class T>
struct AttentionTile {
  QueryTile queries{};
  int64_t rows = 0;    // queries * heads
  int64_t offset = 0;  // the first of them among all
  KeySpan raw;
  std::vector<int64_t> entries;
  int64_t J = 0;                // keys, padded
  std::vector<uint8_t> sees;    // [queries, J]
  AlignedVector<uint8_t> keys;  // [J, H] as in memory, raw ones first; padding is zero
  TileProducts<T> products;     // of bfloat16 tensors in bfloat16: probabilities are rounded
  typename TileProducts<T>::Packed packed_keys, packed_keys_t, packed_rows;  // [J, H], [H, J]
  AlignedVector<T> scores, dscores;
  ListedEntries listed;

  explicit AttentionTile(const AttentionProblem<T>& p) : products(p.bf16) {}

  void load(const AttentionProblem<T>& p, const QueryTile& tile) {
    const auto& k = p.keys;
    const int64_t begin = tile.b * k.S + tile.first;
    queries = tile;
    rows = tile.count * k.N;
    offset = begin * k.N;
    raw = hull(k.window_first, k.window_end, begin, tile.count);
    if (k.chosen != nullptr) {
      listed.collect(k, tile, entries);
    } else {
      const auto span = hull(k.entry_first, k.entry_end, begin, tile.count);
      entries.resize(span.count());
      std::iota(entries.begin(), entries.end(), span.first);
    }
    load_keys(p);
    scores.resize(rows * J);
    mark_seen(k, begin);
  }

 private:
  void load_keys(const AttentionProblem<T>& p) {
    constexpr int64_t kStep = 16;  // whole vectors of scores
    const auto count = raw.count() + static_cast<int64_t>(entries.size());
    J = std::max(kStep, blocks(count, kStep) * kStep);
    const int64_t width = p.H * p.element_bytes();
    keys.resize(J * width);
    uint8_t* key = std::copy_n(
        p.kv + (queries.b * p.keys.U + raw.first) * width, raw.count() * width, keys.data());
    for (const int64_t entry : entries) {
      key = std::copy_n(p.compressed + (queries.b * p.keys.C + entry) * width, width, key);
    }
    std::fill(key, keys.data() + J * width, uint8_t{0});
    products.pack(products.operand(keys.data(), p.H, false, p.bf16), J, p.H, packed_keys);
    products.pack(products.operand(keys.data(), p.H, true, p.bf16), p.H, J, packed_keys_t);
  }

  void mark_seen(const AttentionKeys& k, int64_t begin) {
    sees.assign(queries.count * J, 0);
    for (int64_t t = 0; t < queries.count; ++t) {
      uint8_t* row = sees.data() + t * J;
      const int64_t i = begin + t;
      if (k.window_first[i] < k.window_end[i]) {
        std::fill(row + k.window_first[i] - raw.first, row + k.window_end[i] - raw.first, 1);
      }
      row += raw.count();
      if (k.chosen == nullptr) {
        if (k.entry_first[i] < k.entry_end[i]) {
          std::fill(
              row + k.entry_first[i] - entries.front(), row + k.entry_end[i] - entries.front(), 1);
        }
        continue;
      }
      auto place = entries.begin();
      for (const int64_t *entry = k.chosen + i * k.K, *end = entry + k.K;
           entry < end && *entry >= 0;
           ++entry) {
        place = std::lower_bound(place, entries.end(), *entry);
        row[place - entries.begin()] = 1;
      }
    }
  }
};

// Calls with_thread(for_tiles) on each thread, and for_tiles(f) calls f(index, tile) for its tiles.
// Early queries of a row see fewer entries: what is done last takes least.
template <class T, class F>
void for_each_tile(const AttentionProblem<T>& p,
                   const std::vector<QueryTile>& tiles,
                   int64_t begin,
                   int64_t end,
                   const F& with_thread) {
  on_each_thread(end - begin, [&](const auto& for_each) {
    AttentionTile<T> tile(p);
    with_thread([&](const auto& f) {
      for_each([&](int64_t i) {
        const int64_t index = end - 1 - i;
        tile.load(p, tiles[index]);
        f(index, tile);
      });
    });
  });
}

// What a tile adds to the gradients that tiles share.
template <class T>
struct SharedGradients {
  int64_t b = 0;
  KeySpan raw;
  std::vector<int64_t> entries;
  AlignedVector<T> dkeys;  // [J, H], raw keys first
  AlignedVector<T> dsink;  // [N]
};

template <class T>
void backward_tile(const AttentionProblem<T>& p,
                   AttentionTile<T>& tile,
                   const T* log_sum,
                   const uint8_t* dout,
                   RowsOut<T>& dq,
                   SharedGradients<T>& shared) {
  const int64_t offset = tile.offset, rows = tile.rows, J = tile.J, H = p.H;
  auto& products = tile.products;
  const auto q = products.operand(p.q + offset * H * p.element_bytes(), H, false, p.bf16),
             tile_dout = products.operand(dout + offset * H * p.element_bytes(), H, false, p.bf16);
  tile.dscores.resize(rows * J);
  shared.b = tile.queries.b;
  shared.raw = tile.raw;
  shared.entries = tile.entries;
  shared.dkeys.resize(J * H);
  shared.dsink.assign(p.keys.N, T{0});
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
   p.keys.N,
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
void add_shared(const AttentionProblem<T>& p,
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
    add(dkv + (shared.b * p.keys.U + key) * p.H);
  }
  for (const int64_t entry : shared.entries) {
    add(dcompressed + (shared.b * p.keys.C + entry) * p.H);
  }
}

// Of the first `count` tiles, in their order, whatever thread they were on; a thread takes some
// channels.
template <class T>
void sum_shared(const AttentionProblem<T>& p,
                const std::vector<SharedGradients<T>>& shared,
                int64_t count,
                const AttentionGradients<T>& gradients) {
  constexpr int64_t kChannels = 32;
  for_each_of(blocks(p.H, kChannels), [&](int64_t part) {
    const int64_t first = part * kChannels, end = std::min(p.H, first + kChannels);
    for (int64_t i = 0; i < count; ++i) {
      add_shared(p, shared[i], first, end, gradients.dkv, gradients.dcompressed);
    }
  });
  for (int64_t i = 0; i < count; ++i) {
    const auto& dsink = shared[i].dsink;
    std::transform(dsink.begin(), dsink.end(), gradients.dsink, gradients.dsink, std::plus<T>());
  }
}

}  // namespace

template <class T>
void attention_forward_cpu(const AttentionProblem<T>& p, const AttentionResults<T>& results) {
  const auto tiles = attention_tiles(p.keys);
  const int64_t H = p.H, row_bytes = H * p.element_bytes();
  for_each_tile(p, tiles, 0, static_cast<int64_t>(tiles.size()), [&](const auto& for_tiles) {
    RowsOut<T> out(results.o, p.bf16, H);
    for_tiles([&](int64_t, AttentionTile<T>& tile) {
      auto& products = tile.products;
      const auto q = products.operand(p.q + tile.offset * row_bytes, H, false, p.bf16);
      T* scores = tile.scores.data();
      products.multiply(q, tile.packed_keys_t, scores, tile.J, tile.rows);
      BRAID_CPU(attention_softmax<T>)
      (scores,
       tile.sees.data(),
       p.sink,
       results.log_sum + tile.offset,
       tile.queries.count,
       p.keys.N,
       tile.J,
       p.scale);
      products.multiply(products.operand(scores, tile.J, false),
                        tile.packed_keys,
                        out.at(tile.offset, tile.rows),
                        H,
                        tile.rows);
      out.put();
    });
  });
}

template <class T>
void attention_backward_cpu(const AttentionProblem<T>& p,
                            const T* log_sum,
                            const AttentionGradients<T>& gradients) {
  constexpr int64_t kWave = 64;  // tiles whose shared gradients are in memory at once
  const auto tiles = attention_tiles(p.keys);
  const auto count = static_cast<int64_t>(tiles.size());
  std::vector<SharedGradients<T>> shared(kWave);
  for (int64_t begin = 0; begin < count; begin += kWave) {
    const int64_t end = std::min(count, begin + kWave);
    for_each_tile(p, tiles, begin, end, [&](const auto& for_tiles) {
      RowsOut<T> dq(gradients.dq, p.bf16, p.H);
      for_tiles([&](int64_t i, AttentionTile<T>& tile) {
        backward_tile<T>(p, tile, log_sum, gradients.dout, dq, shared[i - begin]);
      });
    });
    sum_shared(p, shared, end - begin, gradients);
  }
}

template void attention_forward_cpu(const AttentionProblem<float>&, const AttentionResults<float>&);
template void attention_forward_cpu(const AttentionProblem<double>&,
                                    const AttentionResults<double>&);
template void attention_backward_cpu(const AttentionProblem<float>&,
                                     const float*,
                                     const AttentionGradients<float>&);
template void attention_backward_cpu(const AttentionProblem<double>&,
                                     const double*,
                                     const AttentionGradients<double>&);

}  // namespace braid
