#include "kernels/mhc_cpu.h"

#include <algorithm>
#include <type_traits>

#include "core/aligned.h"
#include "core/sizes.h"
#include "kernels/cpu/bf16_rows_loops.h"
#include "kernels/cpu/threads.h"
#include "kernels/cpu/tile_products.h"

namespace braid {
namespace {

// A row of `width` numbers further on, of an array that need not be there.
template <class P>
P* row(P* first, int64_t index, int64_t width) {
  return first != nullptr ? first + index * width : nullptr;
}

template <class E, class T>
MhcResults<E, T> from_token(const MhcResults<E, T>& r, const MhcProblem<T>& p, int64_t token) {
  return {row(r.h, token, p.D),
          row(r.post, token, p.M),
          row(r.mix, token, p.M * p.M),
          row(r.pre, token, p.M),
          row(r.m, token, p.K),
          r.inverse_rms + token,
          r.inverse_rms_of_input + token};
}

template <class E, class T>
MhcGradients<E, T> from_token(const MhcGradients<E, T>& g, const MhcProblem<T>& p, int64_t token) {
  return {row(g.dh, token, p.D),
          row(g.dcarried, token, p.M * p.D),
          row(g.dpost, token, p.M),
          row(g.dmix, token, p.M * p.M),
          row(g.dX, token, p.M * p.D),
          g.dfn,
          g.dbase,
          g.dscale,
          g.dnorm};
}

// Tokens whose streams are multiplied at a time: few enough to stay in the cache until the other
// loops have used them.
template <class E>
int64_t tokens_of_block(int64_t size) {
  constexpr int64_t kBytes = 1 << 18, kLeast = 16, kMost = 64;
  return std::clamp(
      kBytes / (size * static_cast<int64_t>(sizeof(E))) / kLeast * kLeast, kLeast, kMost);
}

/// fn^T [M D, K] for products from the right: where the machine multiplies pairs of bfloat16, as
/// the sum of two of them, side by side, which leaves 2^-17 of each element.
template <class E, class T>
class PackedProjection {
 public:
  PackedProjection(const MhcProblem<T>& p, const TileProducts<T>& tiles) : K_(p.K) {
    const int64_t size = p.M * p.D, count = p.K * size;
    if constexpr (kIsBf16<E>) {
      if (tiles.multiplies_pairs()) {
        AlignedVector<uint16_t> halves(2 * count);
        AlignedVector<float> rest(count);
        BRAID_CPU(narrow)(p.fn, halves.data(), count);
        BRAID_CPU(widen)(halves.data(), rest.data(), count);
        for (int64_t i = 0; i < count; ++i) {
          rest[i] = p.fn[i] - rest[i];
        }
        BRAID_CPU(narrow)(rest.data(), halves.data() + count, count);
        pack(tiles,
             TileProducts<T>::operand(halves.data(), size, /*by_columns=*/true, /*bf16=*/true),
             size,
             2);
        return;
      }
    }
    pack(tiles, TileProducts<T>::operand(p.fn, size, /*by_columns=*/true), size, 1);
  }

  /// m [tokens, K] = X fn^T.
  void project(
      TileProducts<T>& tiles, const E* X, T* m, int64_t tokens, AlignedVector<T>& scratch) {
    scratch.resize(tokens * packed_.n);
    tiles.multiply(activations(X, packed_.k, /*by_columns=*/false),
                   packed_,
                   scratch.data(),
                   packed_.n,
                   tokens);
    for (int64_t t = 0; t < tokens; ++t) {
      const T* parts = scratch.data() + t * packed_.n;
      for (int64_t row = 0; row < K_; ++row) {
        m[t * K_ + row] = packed_.n > K_ ? parts[row] + parts[K_ + row] : parts[row];
      }
    }
  }

 private:
  void pack(const TileProducts<T>& tiles, const GemmOperand& columns, int64_t size, int64_t parts) {
    tiles.pack(columns, size, parts * K_, packed_);
  }

  int64_t K_;
  typename TileProducts<T>::Packed packed_;
};

// fn [K, M D], by all threads.
template <class T>
void pack_rows_of_fn(const MhcProblem<T>& p,
                     const TileProducts<T>& tiles,
                     typename TileProducts<T>::Packed& packed) {
  constexpr int64_t kColumns = 32 * TileProducts<T>::kColumns;  // for a thread at a time
  const int64_t size = p.M * p.D;
  const auto fn = TileProducts<T>::operand(p.fn, size, /*by_columns=*/false);
  tiles.make_room(p.K, size, packed);
  for_each_of(blocks(size, kColumns), [&](int64_t i) {
    tiles.pack_columns(fn, i * kColumns, std::min(size, (i + 1) * kColumns), packed);
  });
}

/// One thread's way through a part of the tokens.
template <class E, class T>
class EnterBackward {
 public:
  EnterBackward(const MhcProblem<T>& problem, const typename TileProducts<T>::Packed& fn)
      : p_(problem), fn_(fn), tiles_(products_of<E>()) {}

  /// `g` is that of the part's first token.
  void run(const E* X,
           const MhcResults<E, T>& results,
           const MhcGradients<E, T>& g,
           int64_t tokens) {
    const int64_t size = p_.M * p_.D, block = tokens_of_block<E>(size);
    slopes_.resize(block * p_.K);
    for (int64_t first = 0; first < tokens; first += block) {
      const int64_t count = std::min(block, tokens - first);
      const E* X_block = X + first * size;
      const auto of_block = from_token(g, p_, first);
      T* dX = wide_dX(of_block.dX, block * size);
      BRAID_CPU(mhc_enter_backward<E, T>)
      (p_, X_block, from_token(results, p_, first), of_block, slopes_.data(), dX, count);
      const auto slopes = TileProducts<T>::operand(slopes_.data(), p_.K, /*by_columns=*/false);
      tiles_.multiply(slopes, fn_, dX, size, count, /*accumulate=*/true);
      if constexpr (kIsBf16<E>) {
        BRAID_CPU(narrow)(dX, reinterpret_cast<uint16_t*>(of_block.dX), count * size);
      }
      // dfn += slopes^T X
      tiles_.pack(activations(X_block, size, /*by_columns=*/false), count, size, packed_X_);
      const auto turned = TileProducts<T>::operand(slopes_.data(), p_.K, /*by_columns=*/true);
      tiles_.multiply(turned, packed_X_, g.dfn, size, p_.K, /*accumulate=*/true);
    }
  }

 private:
  T* wide_dX(E* dX, int64_t size) {
    if constexpr (std::is_same_v<E, T>) {
      return dX;
    } else {
      wide_.resize(size);
      return wide_.data();
    }
  }

  const MhcProblem<T>& p_;
  const typename TileProducts<T>::Packed& fn_;
  TileProducts<T> tiles_;
  typename TileProducts<T>::Packed packed_X_;
  AlignedVector<T> slopes_, wide_;
};

}  // namespace

template <class E, class T>
void mhc_enter_forward_cpu(const MhcProblem<T>& p,
                           const E* X,
                           const MhcResults<E, T>& results,
                           int64_t tokens) {
  const int64_t size = p.M * p.D, block = tokens_of_block<E>(size);
  PackedProjection<E, T> fn(p, products_of<E>());
  on_each_thread(blocks(tokens, block), [&](const auto& for_each) {
    auto tiles = products_of<E>();
    AlignedVector<T> scratch;
    for_each([&](int64_t i) {
      const int64_t first = i * block, count = std::min(block, tokens - first);
      const auto of_block = from_token(results, p, first);
      fn.project(tiles, X + first * size, of_block.m, count, scratch);
      BRAID_CPU(mhc_enter_forward<E, T>)(p, X + first * size, of_block, count);
    });
  });
}

MhcParts::MhcParts(int64_t all)
    : tokens(all), size(std::max<int64_t>(128, (all + 255) / 256 * 16)) {}

template <class E, class T>
void mhc_enter_backward_cpu(const MhcProblem<T>& p,
                            const E* X,
                            const MhcResults<E, T>& results,
                            const MhcGradients<E, T>& gradients,
                            const MhcParts& parts,
                            int64_t stride) {
  typename TileProducts<T>::Packed fn;
  pack_rows_of_fn(p, products_of<E>(), fn);
  on_each_thread(parts.count(), [&](const auto& for_each) {
    EnterBackward<E, T> pass(p, fn);
    for_each([&](int64_t part) {
      const int64_t begin = part * parts.size, end = std::min(parts.tokens, begin + parts.size);
      auto g = from_token(gradients, p, begin);
      for (T** sums : {&g.dfn, &g.dbase, &g.dscale, &g.dnorm}) {
        *sums += part * stride;
      }
      pass.run(X + begin * p.M * p.D, from_token(results, p, begin), g, end - begin);
    });
  });
}

#define BRAID_INSTANTIATE(E, T)                                          \
  template void mhc_enter_forward_cpu(                                   \
      const MhcProblem<T>&, const E*, const MhcResults<E, T>&, int64_t); \
  template void mhc_enter_backward_cpu(const MhcProblem<T>&,             \
                                       const E*,                         \
                                       const MhcResults<E, T>&,          \
                                       const MhcGradients<E, T>&,        \
                                       const MhcParts&,                  \
                                       int64_t);
BRAID_INSTANTIATE(double, double)
BRAID_INSTANTIATE(float, float)
BRAID_INSTANTIATE(Bfloat16, float)
#undef BRAID_INSTANTIATE

}  // namespace braid
