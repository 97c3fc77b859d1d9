#include "data/bpe_merges.h"

#include <algorithm>
#include <bit>

#include "core/error.h"

namespace braid {
namespace {

uint64_t pair_of(uint32_t left, uint32_t right) {
  return uint64_t{left} << 32 | right;
}

std::size_t slot_of(uint64_t pair, int shift) {
  return static_cast<std::size_t>((pair * 0x9E3779B97F4A7C15u ^ pair >> 29) * 0xBF58476D1CE4E5B9u >>
                                  shift);
}

struct ComesLater {
  bool operator()(const BpeMerges::Scratch::Candidate& a,
                  const BpeMerges::Scratch::Candidate& b) const {
    return a.rank != b.rank ? a.rank > b.rank : a.at > b.at;
  }
};

}  // namespace

BpeMerges::BpeMerges(const std::array<uint32_t, 256>& byte_ids, const std::vector<BpeMerge>& merges)
    : byte_ids_(byte_ids) {
  const std::size_t size = std::bit_ceil(std::max<std::size_t>(2 * merges.size(), 2));
  shift_ = 64 - std::countr_zero(size);
  slots_.resize(size);
  for (std::size_t rank = 0; rank < merges.size(); ++rank) {
    const uint64_t pair = pair_of(merges[rank].left, merges[rank].right);
    std::size_t i = slot_of(pair, shift_);
    while (slots_[i].rank != kNoRank && slots_[i].pair != pair) {
      i = (i + 1) & (size - 1);
    }
    slots_[i] = {pair, static_cast<uint32_t>(rank), merges[rank].merged};
  }
}

// The slot of the pair, or an empty one, whose rank is kNoRank.
const BpeMerges::Slot& BpeMerges::find(uint32_t left, uint32_t right) const {
  const uint64_t pair = pair_of(left, right);
  std::size_t i = slot_of(pair, shift_);
  while (slots_[i].pair != pair && slots_[i].rank != kNoRank) {
    i = (i + 1) & (slots_.size() - 1);
  }
  return slots_[i];
}

void BpeMerges::merge(std::string_view piece, Scratch& scratch, std::vector<int64_t>& ids) const {
  if (piece.size() <= kShort) {
    merge_short(piece, ids);
  } else {
    merge_long(piece, scratch, ids);
  }
}

// Looks for the best pair again after every merge, which is the fastest way for a word.
void BpeMerges::merge_short(std::string_view piece, std::vector<int64_t>& ids) const {
  std::array<uint32_t, kShort> symbols;
  std::array<const Slot*, kShort> pairs;  // pairs[i]: symbols i and i + 1
  std::size_t count = piece.size();
  for (std::size_t i = 0; i < count; ++i) {
    symbols[i] = byte_ids_[static_cast<unsigned char>(piece[i])];
  }
  for (std::size_t i = 0; i + 1 < count; ++i) {
    pairs[i] = &find(symbols[i], symbols[i + 1]);
  }
  while (count > 1) {
    std::size_t best = 0;
    for (std::size_t i = 1; i + 1 < count; ++i) {
      best = pairs[i]->rank < pairs[best]->rank ? i : best;
    }
    if (pairs[best]->rank == kNoRank) {
      break;
    }
    symbols[best] = pairs[best]->merged;
    --count;
    for (std::size_t i = best + 1; i < count; ++i) {
      symbols[i] = symbols[i + 1];
    }
    for (std::size_t i = best + 1; i + 1 < count; ++i) {
      pairs[i] = pairs[i + 1];
    }
    if (best > 0) {
      pairs[best - 1] = &find(symbols[best - 1], symbols[best]);
    }
    if (best + 1 < count) {
      pairs[best] = &find(symbols[best], symbols[best + 1]);
    }
  }
  ids.insert(ids.end(), symbols.begin(), symbols.begin() + static_cast<std::ptrdiff_t>(count));
}

// A linked list of symbols and a heap of pairs. A pair whose symbols have changed since stays in
// the heap until it comes up.
void BpeMerges::merge_long(std::string_view piece,
                           Scratch& scratch,
                           std::vector<int64_t>& ids) const {
  constexpr uint32_t kNone = ~uint32_t{0};
  require(piece.size() < kNone,
          "[tokenizer] a piece of ",
          piece.size(),
          " bytes without a place to cut it; expected less than ",
          kNone);
  const auto size = static_cast<uint32_t>(piece.size());
  auto& symbols = scratch.symbols;  // not a structured binding: clang 14 captures none
  auto& next = scratch.next;
  auto& previous = scratch.previous;
  auto& heap = scratch.heap;
  symbols.resize(size);
  next.resize(size);
  previous.resize(size);
  heap.clear();
  for (uint32_t i = 0; i < size; ++i) {
    symbols[i] = byte_ids_[static_cast<unsigned char>(piece[i])];
    next[i] = i + 1 < size ? i + 1 : kNone;
    previous[i] = i > 0 ? i - 1 : kNone;
  }
  const auto candidate = [&](uint32_t at) -> Scratch::Candidate {
    const uint32_t left = symbols[at], right = symbols[next[at]];
    return {find(left, right).rank, at, left, right};
  };
  for (uint32_t i = 0; i + 1 < size; ++i) {
    if (const auto pair = candidate(i); pair.rank != kNoRank) {
      heap.push_back(pair);
    }
  }
  std::make_heap(heap.begin(), heap.end(), ComesLater());
  const auto consider = [&](uint32_t at) {
    if (const auto pair = candidate(at); pair.rank != kNoRank) {
      heap.push_back(pair);
      std::push_heap(heap.begin(), heap.end(), ComesLater());
    }
  };
  constexpr uint32_t kGone = kNone;  // no symbol's id: vocabularies are smaller
  while (!heap.empty()) {
    std::pop_heap(heap.begin(), heap.end(), ComesLater());
    const auto [rank, at, left, right] = heap.back();
    heap.pop_back();
    const uint32_t second = next[at];
    if (symbols[at] != left || second == kNone || symbols[second] != right) {
      continue;
    }
    symbols[at] = find(left, right).merged;
    symbols[second] = kGone;
    next[at] = next[second];
    if (next[at] != kNone) {
      previous[next[at]] = at;
      consider(at);
    }
    if (previous[at] != kNone) {
      consider(previous[at]);
    }
  }
  for (uint32_t i = 0; i != kNone; i = next[i]) {
    ids.push_back(symbols[i]);
  }
}

}  // namespace braid
