#include "kernels/index_topk_cpu.h"

#include <algorithm>
#include <vector>

#include "core/aligned.h"
#include "core/sizes.h"
#include "kernels/cpu/index_topk_loops.h"
#include "kernels/cpu/running_selection.h"
#include "kernels/cpu/threads.h"
#include "kernels/cpu/tile_products.h"

namespace braid {
namespace {

constexpr int64_t kQueries = 16;  // of a tile

template <class T>
using PackedKeys = std::vector<typename TileProducts<T>::Packed>;  // by [B, panels]

template <class E, class T>
int64_t tiles_per_row(const IndexTopkProblem<E, T>& p) {
  return blocks(p.S, kQueries);
}

/// One thread's tile.
template <class E, class T>
class TopkTile {
 public:
  TopkTile(const IndexTopkProblem<E, T>& problem, const PackedKeys<T>& panels, int64_t* chosen)
      : p_(problem),
        panels_(panels),
        chosen_(chosen),
        together_(std::clamp(kRows / p_.I, int64_t{1}, kQueries)),
        tiles_(products_of<E>()),
        products_(together_ * p_.I * kPanelEntries),
        scores_(kQueries * kPanelEntries),
        selections_(kQueries, RunningSelection<T>(p_.k)) {}

  void choose(int64_t tile) {
    const int64_t b = tile / tiles_per_row(p_), s = tile % tiles_per_row(p_) * kQueries;
    const int64_t queries = std::min(kQueries, p_.S - s), row = b * p_.S + s;
    int64_t begin = p_.C, end = 0;
    for (int64_t t = 0; t < queries; ++t) {
      selections_[t].clear();
      if (p_.end[row + t] > p_.first[row + t]) {
        begin = std::min(begin, p_.first[row + t]);
        end = std::max(end, p_.end[row + t]);
      }
    }
    const auto* panels = panels_.data() + b * blocks(p_.C, kPanelEntries);
    for (int64_t c = begin / kPanelEntries * kPanelEntries; c < end; c += kPanelEntries) {
      score(panels[c / kPanelEntries], row, queries);
      for (int64_t t = 0; t < queries; ++t) {
        const int64_t from = std::max<int64_t>(0, p_.first[row + t] - c),
                      to = std::min(kPanelEntries, p_.end[row + t] - c);
        if (from < to) {
          selections_[t].offer(scores_.data() + t * kPanelEntries, c, from, to);
        }
      }
    }
    for (int64_t t = 0; t < queries; ++t) {
      selections_[t].write(chosen_ + (row + t) * p_.k);
    }
  }

 private:
  // Heads of a few queries at a time: their products stay in the L1 cache until they are scores.
  static constexpr int64_t kRows = 64;

  void score(const typename TileProducts<T>::Packed& keys, int64_t row, int64_t queries) {
    for (int64_t first = 0; first < queries; first += together_) {
      const int64_t count = std::min(together_, queries - first);
      const auto q = activations(p_.q + (row + first) * p_.I * p_.H, p_.H, /*by_columns=*/false);
      tiles_.multiply(q, keys, products_.data(), kPanelEntries, count * p_.I);
      for (int64_t t = 0; t < count; ++t) {
        BRAID_CPU(weighted_relu_rows<T>)
        (products_.data() + t * p_.I * kPanelEntries,
         p_.weight + (row + first + t) * p_.I,
         scores_.data() + (first + t) * kPanelEntries,
         p_.I);
      }
    }
  }

  const IndexTopkProblem<E, T>& p_;
  const PackedKeys<T>& panels_;
  int64_t* chosen_;
  int64_t together_;  // queries
  TileProducts<T> tiles_;
  AlignedVector<T> products_, scores_;  // [queries, heads, kPanelEntries], [queries, kPanelEntries]
  std::vector<RunningSelection<T>> selections_;
};

template <class E, class T>
PackedKeys<T> panels_of(const IndexTopkProblem<E, T>& p) {
  const int64_t panels = blocks(p.C, kPanelEntries);
  PackedKeys<T> result(p.B * panels);
  const auto tiles = products_of<E>();
  for_each_of(p.B * panels, [&](int64_t i) {
    const int64_t c = i % panels * kPanelEntries;
    const auto keys = activations(p.keys + (i / panels * p.C + c) * p.H, p.H, /*by_columns=*/true);
    tiles.pack(keys, p.H, std::min(kPanelEntries, p.C - c), result[i]);
  });
  return result;
}

}  // namespace

template <class E, class T>
void index_topk_cpu(const IndexTopkProblem<E, T>& p, int64_t* chosen) {
  const auto panels = panels_of(p);
  const int64_t tiles = p.B * tiles_per_row(p);
  on_each_thread(tiles, [&](const auto& for_each) {
    TopkTile<E, T> tile(p, panels, chosen);
    // Early queries see fewer entries: what is done last takes least.
    for_each([&](int64_t i) { tile.choose(tiles - 1 - i); });
  });
}

template void index_topk_cpu(const IndexTopkProblem<Bfloat16, float>&, int64_t*);
template void index_topk_cpu(const IndexTopkProblem<float>&, int64_t*);
template void index_topk_cpu(const IndexTopkProblem<double>&, int64_t*);

}  // namespace braid
