#include "kernels/index_topk_cpu.h"

#include <algorithm>
#include <vector>

#include "core/profile.h"
#include "core/sizes.h"
#include "kernels/cpu/index_topk_loops.h"
#include "kernels/cpu/matrix_loops.h"
#include "kernels/cpu/running_selection.h"
#include "kernels/cpu/threads.h"

namespace braid {
namespace {

constexpr int64_t kQueries = 16;  // of a tile

template <class T>
int64_t tiles_per_row(const IndexTopkProblem<T>& p) {
  return blocks(p.S, kQueries);
}

/// One thread's tile.
template <class T>
class TopkTile {
 public:
  TopkTile(const IndexTopkProblem<T>& problem, const T* panels, int64_t* chosen)
      : p_(problem),
        panels_(panels),
        chosen_(chosen),
        heads_(blocks(p_.I, kPanelHeads) * kPanelHeads),
        q_(kQueries * heads_ * p_.H),
        weight_(kQueries * heads_),
        scores_(kQueries * kPanelEntries),
        selections_(kQueries, RunningSelection<T>(p_.k)) {}

  void choose(int64_t tile) {
    const int64_t b = tile / tiles_per_row(p_), s = tile % tiles_per_row(p_) * kQueries;
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
    const T* panels = panels_ + b * blocks(p_.C, kPanelEntries) * p_.H * kPanelEntries;
    for (int64_t c = begin / kPanelEntries * kPanelEntries; c < end; c += kPanelEntries) {
      count_flops(2 * queries * p_.I * p_.H * kPanelEntries);
      BRAID_CPU(score_panel<T>)
      (q_.data(),
       weight_.data(),
       panels + c * p_.H,
       scores_.data(),
       queries,
       heads_ / kPanelHeads,
       p_.H);
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

  const IndexTopkProblem<T>& p_;
  const T* panels_;  // [B, panels, H, kPanelEntries]
  int64_t* chosen_;
  int64_t heads_;  // with those that are missing in the last group
  std::vector<T> q_, weight_, scores_;
  std::vector<RunningSelection<T>> selections_;
};

// [B, C, H] -> blocks of entries side by side, channel by channel: a panel lies in one piece, where
// rows of all entries would be a power of two apart and share a few lines of the cache.
template <class T>
std::vector<T> panels_of(const IndexTopkProblem<T>& p) {
  const int64_t panels = blocks(p.C, kPanelEntries), size = p.H * kPanelEntries;
  std::vector<T> result(p.B * panels * size);
  for_each_of(p.B * panels, [&](int64_t i) {
    const int64_t c = i % panels * kPanelEntries;
    BRAID_CPU(transpose<T>)
    (p.keys + (i / panels * p.C + c) * p.H,
     p.H,
     result.data() + i * size,
     kPanelEntries,
     std::min(kPanelEntries, p.C - c),
     p.H);
  });
  return result;
}

}  // namespace

template <class T>
void index_topk_cpu(const IndexTopkProblem<T>& p, int64_t* chosen) {
  const auto panels = panels_of(p);
  const int64_t tiles = p.B * tiles_per_row(p);
  on_each_thread(tiles, [&](const auto& for_each) {
    TopkTile<T> tile(p, panels.data(), chosen);
    // Early queries see fewer entries: what is done last takes least.
    for_each([&](int64_t i) { tile.choose(tiles - 1 - i); });
  });
}

template void index_topk_cpu(const IndexTopkProblem<float>&, int64_t*);
template void index_topk_cpu(const IndexTopkProblem<double>&, int64_t*);

}  // namespace braid
