// Tiles of kQueries tokens, all heads at once: a tile's keys are the raw tokens that any of its
// queries may see and the entries that any of them may see, packed together, so that the work is
// matrix multiplication and no scores outside a tile exist.
#include "kernels/attention.h"

#include <algorithm>
#include <cstring>
#include <vector>

#include <ATen/ATen.h>
#include <ATen/native/CPUBlas.h>

#include "core/sizes.h"
#include "kernels/attention_cpu.h"
#include "kernels/autograd.h"
#include "kernels/precision.h"

namespace braid {
namespace {

constexpr int64_t kQueries = 32;
constexpr int64_t kKeyPadding =
    16;  // few distinct tile widths: the library compiles a kernel for each

void product(const float* A,
             const float* B,
             float* C,
             int64_t m,
             int64_t n,
             int64_t k,
             bool accumulate = false) {
  at::native::cpublas::brgemm(m, n, k, k, n, n, accumulate, A, B, C);
}
void product(const double* A,
             const double* B,
             double* C,
             int64_t m,
             int64_t n,
             int64_t k,
             bool accumulate = false) {
  BRAID_CPU(dense_product<double>)(A, B, C, m, n, k, accumulate);
}

// All tensors contiguous; q, kv, compressed and sink of type T.
template <class T>
struct Problem {
  const T *q, *kv, *compressed, *sink;
  const bool *window, *visible;
  int64_t B, S, N, H, U, C;
  T scale;

  int64_t tiles_per_row() const { return (S + kQueries - 1) / kQueries; }
};

// One tile's keys and who sees them.
template <class T>
struct Tile {
  int64_t b, first, queries, rows;  // rows = queries * heads
  std::vector<int64_t> raw, entries;
  int64_t J = 0;              // keys, padded
  std::vector<uint8_t> sees;  // [queries, J]
  std::vector<T> keys;        // [J, H]; padding is zero
  std::vector<T> keys_t;      // [H, J]

  Tile(const Problem<T>& p, int64_t index) {
    b = index / p.tiles_per_row();
    first = index % p.tiles_per_row() * kQueries;
    queries = std::min(kQueries, p.S - first);
    rows = queries * p.N;
    raw = seen_by_any(p.window, p.S, p.U);
    entries = seen_by_any(p.visible, p.S, p.C);
    const auto count = static_cast<int64_t>(raw.size() + entries.size());
    J = std::max<int64_t>(1, (count + kKeyPadding - 1) / kKeyPadding) * kKeyPadding;
    sees.assign(queries * J, 0);
    keys.assign(J * p.H, T{0});
    keys_t.resize(J * p.H);
    int64_t j = 0;
    const auto add = [&](const T* source, const bool* mask, int64_t width, int64_t key) {
      std::memcpy(&keys[j * p.H], source + (b * width + key) * p.H, sizeof(T) * p.H);
      for (int64_t t = 0; t < queries; ++t) {
        sees[t * J + j] = mask[(b * p.S + first + t) * width + key];
      }
      ++j;
    };
    for (const int64_t key : raw) {
      add(p.kv, p.window, p.U, key);
    }
    for (const int64_t key : entries) {
      add(p.compressed, p.visible, p.C, key);
    }
    BRAID_CPU(transpose<T>)(keys.data(), keys_t.data(), J, p.H);
  }

  int64_t row_offset(const Problem<T>& p) const { return (b * p.S + first) * p.N; }

 private:
  std::vector<int64_t> seen_by_any(const bool* mask, int64_t S, int64_t width) const {
    std::vector<uint8_t> any(width, 0);
    for (int64_t t = 0; t < queries; ++t) {
      const bool* row = mask + (b * S + first + t) * width;
      for (int64_t key = 0; key < width; ++key) {
        any[key] |= static_cast<uint8_t>(row[key]);
      }
    }
    std::vector<int64_t> result;
    for (int64_t key = 0; key < width; ++key) {
      if (any[key]) {
        result.push_back(key);
      }
    }
    return result;
  }
};

template <class T>
void forward_tile(const Problem<T>& p, int64_t index, T* o, T* log_sum) {
  const Tile<T> tile(p, index);
  const int64_t offset = tile.row_offset(p);
  std::vector<T> scores(tile.rows * tile.J);
  product(p.q + offset * p.H, tile.keys_t.data(), scores.data(), tile.rows, tile.J, p.H);
  BRAID_CPU(attention_softmax<T>)
  (scores.data(), tile.sees.data(), p.sink, log_sum + offset, tile.queries, p.N, tile.J, p.scale);
  product(scores.data(), tile.keys.data(), o + offset * p.H, tile.rows, p.H, tile.J);
}

// What a tile adds to the gradients that tiles share; summed afterwards in the order of the tiles.
template <class T>
struct SharedGradients {
  std::vector<int64_t> raw, entries;
  std::vector<T> dkeys;  // [J, H], raw keys first
  std::vector<T> dsink;  // [N]
};

template <class T>
SharedGradients<T> backward_tile(
    const Problem<T>& p, int64_t index, const T* o, const T* log_sum, const T* dout, T* dq) {
  Tile<T> tile(p, index);
  const int64_t offset = tile.row_offset(p), rows = tile.rows, J = tile.J, H = p.H;
  const T *q = p.q + offset * H, *tile_dout = dout + offset * H;
  std::vector<T> scores(rows * J), dscores(rows * J), delta(rows), flipped(rows * J);
  SharedGradients<T> shared{
      std::move(tile.raw), std::move(tile.entries), std::vector<T>(J * H), std::vector<T>(p.N)};
  product(q, tile.keys_t.data(), scores.data(), rows, J, H);
  product(tile_dout, tile.keys_t.data(), dscores.data(), rows, J, H);
  BRAID_CPU(row_products<T>)(tile_dout, o + offset * H, delta.data(), rows, H);
  BRAID_CPU(attention_softmax_backward<T>)
  (scores.data(),
   dscores.data(),
   tile.sees.data(),
   p.sink,
   log_sum + offset,
   delta.data(),
   shared.dsink.data(),
   tile.queries,
   p.N,
   J,
   p.scale);
  product(dscores.data(), tile.keys.data(), dq + offset * H, rows, H, J);
  // Keys are values too: they receive gradient from both products.
  BRAID_CPU(transpose<T>)(scores.data(), flipped.data(), rows, J);
  product(flipped.data(), tile_dout, shared.dkeys.data(), J, H, rows);
  BRAID_CPU(transpose<T>)(dscores.data(), flipped.data(), rows, J);
  product(flipped.data(), q, shared.dkeys.data(), J, H, rows, /*accumulate=*/true);
  return shared;
}

template <class T>
Problem<T> problem(const std::vector<at::Tensor>& saved, double scale) {
  const auto &q = saved[0], &kv = saved[1], &compressed = saved[2], &sink = saved[3],
             &window = saved[4], &visible = saved[5];
  return {q.data_ptr<T>(),
          kv.data_ptr<T>(),
          compressed.data_ptr<T>(),
          sink.data_ptr<T>(),
          window.data_ptr<bool>(),
          visible.data_ptr<bool>(),
          q.size(0),
          q.size(1),
          q.size(2),
          q.size(3),
          kv.size(1),
          compressed.size(1),
          static_cast<T>(scale)};
}

template <class F>
void for_each_tile(int64_t tiles, const F& f) {
  at::parallel_for(0, tiles, 1, [&](int64_t begin, int64_t end) {
    for (int64_t tile = begin; tile < end; ++tile) {
      f(tile);
    }
    at::native::cpublas::brgemm_release();
  });
}

class AttentionFunction : public Function<AttentionFunction> {
 public:
  static at::Tensor forward(AutogradContext* ctx,
                            const at::Tensor& q,
                            const at::Tensor& kv,
                            const at::Tensor& compressed,
                            const at::Tensor& sink,
                            const at::Tensor& window,
                            const at::Tensor& visible,
                            double scale) {
    std::vector<at::Tensor> saved = {q.contiguous(),
                                     kv.contiguous(),
                                     compressed.contiguous(),
                                     sink.contiguous(),
                                     window.contiguous(),
                                     visible.contiguous()};
    auto o = at::empty_like(saved[0]);
    auto log_sum = at::empty({q.size(0), q.size(1), q.size(2)}, q.options());
    with_wide_type(q.scalar_type(), [&](auto zero) {
      using T = decltype(zero);
      const auto p = problem<T>(saved, scale);
      for_each_tile(p.B * p.tiles_per_row(), [&](int64_t tile) {
        forward_tile<T>(p, tile, o.data_ptr<T>(), log_sum.data_ptr<T>());
      });
    });
    saved.insert(saved.end(), {o, log_sum});
    ctx->save_for_backward(saved);
    ctx->saved_data["scale"] = scale;
    return o;
  }

  static variable_list backward(AutogradContext* ctx, variable_list gradients) {
    const auto saved = ctx->get_saved_variables();
    const double scale = ctx->saved_data["scale"].toDouble();
    const auto &o = saved[6], &log_sum = saved[7];
    const auto dout = gradients[0].contiguous();
    auto dq = at::empty_like(saved[0]), dkv = at::zeros_like(saved[1]),
         dcompressed = at::zeros_like(saved[2]);
    auto dsink = at::zeros_like(saved[3]);
    with_wide_type(o.scalar_type(), [&](auto zero) {
      using T = decltype(zero);
      const auto p = problem<T>(saved, scale);
      const int64_t tiles = p.B * p.tiles_per_row();
      std::vector<SharedGradients<T>> shared(tiles);
      for_each_tile(tiles, [&](int64_t tile) {
        shared[tile] = backward_tile<T>(
            p, tile, o.data_ptr<T>(), log_sum.data_ptr<T>(), dout.data_ptr<T>(), dq.data_ptr<T>());
      });
      const auto add = [&](T* into, const T* from, int64_t count) {
        for (int64_t i = 0; i < count; ++i) {
          into[i] += from[i];
        }
      };
      for (int64_t tile = 0; tile < tiles; ++tile) {
        const int64_t b = tile / p.tiles_per_row();
        const T* from = shared[tile].dkeys.data();
        for (const int64_t key : shared[tile].raw) {
          add(dkv.data_ptr<T>() + (b * p.U + key) * p.H, from, p.H);
          from += p.H;
        }
        for (const int64_t key : shared[tile].entries) {
          add(dcompressed.data_ptr<T>() + (b * p.C + key) * p.H, from, p.H);
          from += p.H;
        }
        add(dsink.data_ptr<T>(), shared[tile].dsink.data(), p.N);
      }
    });
    return {dq,
            dkv,
            dcompressed,
            dsink,
            at::Tensor(),
            at::Tensor(),
            at::Tensor()};  // masks and scale have none
  }
};

}  // namespace

at::Tensor attention(const at::Tensor& q_BSNH,
                     const at::Tensor& kv_BUH,
                     const at::Tensor& compressed_BCH,
                     const at::Tensor& sink_N,
                     const at::Tensor& window_BSU,
                     const at::Tensor& visible_BSC,
                     double scale) {
  const auto [B, S, N, H] = sizes<4>(q_BSNH);
  const auto [B1, U, H1] = sizes<3>(kv_BUH);
  const auto [B2, C, H2] = sizes<3>(compressed_BCH);
  require(B1 == B && B2 == B && H1 == H && H2 == H && sink_N.sizes() == at::IntArrayRef({N}) &&
              window_BSU.sizes() == at::IntArrayRef({B, S, U}) &&
              visible_BSC.sizes() == at::IntArrayRef({B, S, C}),
          "[attention] shapes do not fit: q ",
          q_BSNH.sizes(),
          ", kv ",
          kv_BUH.sizes(),
          ", compressed ",
          compressed_BCH.sizes(),
          ", sink ",
          sink_N.sizes(),
          ", window ",
          window_BSU.sizes(),
          ", visible ",
          visible_BSC.sizes());
  const auto type = wide_type(q_BSNH);
  return AttentionFunction::apply(q_BSNH.to(type),
                                  kv_BUH.to(type),
                                  compressed_BCH.to(type),
                                  sink_N.to(type),
                                  window_BSU,
                                  visible_BSC,
                                  scale)
      .to(q_BSNH.scalar_type());
}

}  // namespace braid
