#!/usr/bin/env python3
"""Do the tests notice mistakes in the kernels of kernels/cuda?

    tests/cuda_on_host/plant_mistakes.py build [NAME...]

Patches copies of the kernels with one mistake at a time (a barrier left out, an index, a bound), compiles
them for the CPU as `build` has them, links them into its tests of the operations, which must have been
built (ninja braid_kernels_tests), and runs those of the operation. Prints what noticed each mistake; exit
status 1 if one was not noticed. Reads and writes beyond an array show with AddressSanitizer only: for such
mistakes the kernels, what runs them and the memory of their tensors are compiled with it. NAME: those whose
names hold it. Some minutes; not part of the suite.
"""
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
# name, file, the text, what it becomes (the first place only), tests; BOUND: it goes beyond an array
BOUND = "beyond"
MISTAKES = [
    ("block sums: no barrier before they are written again", "device.h",
     "  __syncthreads();  // all have read the sums of an earlier call\n", "", "RmsNorm.Wide*"),
    ("block sums: no barrier before they are read", "device.h",
     "  __syncthreads();\n#pragma unroll\n  for (int i = 0; i < kCount; ++i) {\n    x[i] = 0;",
     "#pragma unroll\n  for (int i = 0; i < kCount; ++i) {\n    x[i] = 0;", "RmsNorm.Wide*"),
    ("block sums: a shuffle of half a warp", "device.h",
     "const float sum = warp_sum(x[i]);", "float sum = 0; if (lane % 2 == 0) sum = warp_sum(x[i]);", "RmsNorm.Wide*"),
    ("block sums: a barrier in a branch", "device.h",
     "  if (lane < kCount) {", "  if (lane < kCount) {\n    __syncthreads();", "RmsNorm.Wide*"),
    ("sums of each: the wrong half is kept", "device.h", "upper ? x[i + kHalf] : x[i], given", "upper ? x[i] : x[i + kHalf], "
     "given", "Mhc.AS*:Streams.Exp*"),
    ("warp sums: one step too few", "device.h", "for (int step = kWarp / 2; step > 0;", "for (int step = kWarp / 2; "
     "step > 1;", "RmsNorm.With*"),
    ("pieces: a broken one is read beyond its row", "device.h", "begin + i < size ? widened", "begin + i <= size ? "
     "widened", "RmsNorm.With*:ClampedSwiglu.Eq*", BOUND),
    ("pieces: a broken one is written beyond its row", "device.h", "      if (begin + i < size) {", "      if (begin + "
     "i <= size) {", "RmsNorm.With*:ClampedSwiglu.Eq*", BOUND),
    ("rms_norm: a row too many", "rms_norm.cu", "const bool exists = row < p.rows;", "const bool exists = row <= "
     "p.rows;", "RmsNorm.With*", BOUND),
    ("rms_norm: weights of the first channels for all", "rms_norm.cu", "load<kWhole>(p.weight, channel, p.D, weight);",
     "load<kWhole>(p.weight, 0, p.D, weight);", "RmsNorm.With*"),
    ("rms_norm: a part of the weight's gradient is dropped", "rms_norm.cu", "dweight[i] += e[i] * x[i];",
     "dweight[i] = e[i] * x[i];", "RmsNorm.Wide*"),
    ("rope: the inverse is not one", "rope.cu", "p.inverse ? -1.0f : 1.0f", "1.0f", "Rope.Eq*"),
    ("rope: one angle for the pairs of a piece", "rope.cu", "cos[channel / 2 + pair]", "cos[channel / 2]", "Rope.Eq*"),
    ("rope: the wrong neighbor", "rope.cu", "widened(from[-1]) * s", "widened(from[1]) * s", "Rope.Eq*"),
    ("swiglu: gradient where the gate is clamped", "swiglu.cu", "gate[j] <= p.limit ?", "true ?", "ClampedSwiglu.Eq*:DeviceKernels.OfSw*"),
    ("swiglu: a row's weight is not in its gradient", "swiglu.cu", "b == up[j] ? factor * d[j]", "b == up[j] ? d[j]",
     "ClampedSwiglu.Eq*:DeviceKernels.OfSw*"),
    ("streams: the mixing is transposed", "streams.cu", "mix[j * kM + k] * x[j][c]", "mix[k * kM + j] * x[j][c]",
     "Streams.Exp*"),
    ("streams: gradients of mixings of a neighbor", "streams.cu", "sums[kM + j * kM + k] +=", "sums[kM + k * kM + j] +=",
     "Streams.Exp*"),
    ("sinkhorn: the factors of a step later", "sinkhorn_matrix.h", "factor(step - 2, j)", "factor(step - 1, j)",
     "Sinkhorn.Eq*"),
    ("sinkhorn: eps is missing from the matrix", "sinkhorn_matrix.h", "(softmax[i][j] + eps) *", "softmax[i][j] *",
     "Sinkhorn.Eq*"),
    ("sinkhorn: tokens beyond the last one", "sinkhorn.cu", "if (token >= p.tokens) {", "if (false) {", "Sinkhorn.Eq*", BOUND),
    ("mhc: no barrier behind the projections' parts", "mhc.cu", "  __syncthreads();\n  if (thread < kTokens * kRows",
     "  if (thread < kTokens * kRows", "Mhc.AS*:Mhc.Join*"),
    ("mhc: no barrier behind the projections", "mhc.cu", "  __syncthreads();\n\n  // 2. Weights of the streams.", "",
     "Mhc.AS*:Mhc.Join*"),
    ("mhc: no barrier behind the weights", "mhc.cu", "  __syncthreads();\n\n  // 3. The input", "  // 3. The input",
     "Mhc.AS*:Mhc.Join*"),
    ("mhc: no barrier behind the means", "mhc.cu", "  __syncthreads();\n  float dpre[", "  float dpre[", "Mhc.AS*:Mhc.Join*"),
    ("mhc: no barrier behind the slopes", "mhc.cu", "  __syncthreads();\n  if (thread < count) {", "  if (thread < "
     "count) {", "Mhc.AS*:Mhc.Join*"),
    ("mhc: no barrier behind the shifts", "mhc.cu", "  __syncthreads();\n\n  // 3. dX", "  // 3. dX", "Mhc.AS*:Mhc.Join*"),
    ("mhc: no barrier before the next tokens' numbers", "mhc.cu",
     "    __syncthreads();  // the numbers of the tokens before have been read\n", "", "Mhc.AS*:Mhc.Join*"),
    ("mhc: streams beyond the last token", "mhc.cu", "t < count ? size : 0, f[t]", "size, f[t]", "Mhc.AS*:Mhc.Join*",
     BOUND),
    ("mhc: the scale of another kind of row", "mhc.cu", "row < kM ? 0 : row < 2 * kM ? 1 : 2", "row < kM ? 0 : 1",
     "Mhc.AS*:Mhc.Join*"),
    ("mhc: the carried gradient is forgotten", "mhc.cu", "carried[c] + pre * dx[t][c]", "pre * dx[t][c]", "Mhc.AS*:Mhc.Join*"),
    ("routing: of equals the higher expert", "routing.cu", "a.expert < b.expert", "a.expert > b.expert", "Route.Eq*:DeviceKernels.OfRout*"),
    ("routing: no barrier of the warp", "routing.cu", "  __syncwarp();", "  //", "Route.Eq*:DeviceKernels.OfRout*"),
    ("routing: an expert twice", "routing.cu", "is_before(last, candidate) && ", "", "Route.Eq*:DeviceKernels.OfRout*"),
    ("expert order: no barrier of the warp", "expert_rows.cu", "      __syncwarp();  // all lanes have read it\n", "",
     "SortedBy*"),
    ("expert order: no barrier between warps", "expert_rows.cu", "    __syncthreads();\n  }\n}", "  }\n}", "SortedBy*"),
    ("expert order: no barrier between the steps of a sum", "expert_rows.cu", "    __syncthreads();\n    end +=",
     "    end +=", "SortedBy*"),
    ("expert order: the first pairs in every block", "expert_rows.cu", "int64_t{blockIdx.x} * kPairs + thread_index()",
     "thread_index()", "SortedBy*"),
    ("expert order: pairs of other blocks are not before", "expert_rows.cu", " + p.counts[blockIdx.x * p.E + e]", "",
     "SortedBy*"),
    ("expert rows: the first weight for all", "expert_rows.cu", "= weights[token * p.K + k]", "= weights[token * p.K]",
     "ExpertRows.Go*"),
    ("expert rows: a row is not added", "expert_rows.cu", "for (int64_t k = 0; k < p.K; ++k) {\n      float x",
     "for (int64_t k = 1; k < p.K; ++k) {\n      float x", "ExpertRows.Go*"),
    ("attention: no barrier before keys are overwritten", "attention.cu",
     "    __syncthreads();  // the keys before have been read\n",
     "", "Attention.OfWide*"),
    ("attention: no barrier behind the keys", "attention.cu",
     "    m.load_keys(seen, of, first);\n    __syncthreads();\n",
     "    m.load_keys(seen, of, first);\n", "Attention.Eq*"),
    ("attention: earlier sums do not shrink", "attention.cu",
     "sum = sum * shrink + warp_sum(weight);",
     "sum = sum + warp_sum(weight);", "Attention.Eq*"),
    ("attention: a list's end is taken for an entry", "attention.h",
     "list[middle] >= 0 && list[middle] < entry",
     "list[middle] < entry", "Attention.Eq*"),
    ("attention: keys of another sequence", "attention.cu",
     "query / keys.S == row",
     "row >= 0", "Attention.Eq*"),
    ("attention: no barrier before a key's slots are overwritten", "attention.cu",
     "    __syncthreads();  // the slots before have been read\n",
     "", "Attention.OfWide*"),
    ("attention: gradients of keys of the last heads alone", "attention.cu",
     "group == 0 ? 0.0f : slot",
     "0.0f", "Attention.OfWide*"),
    ("attention: the sink's gradient by a rounded mean", "attention.cu",
     "      work.mean[row] = sum;",
     "      work.mean[row] = mean;", "Attention.Eq*"),
    ("attention by tiles: no wait for copies", "matrix_tiles.h",
     "  wait_for_copies<1>();\n",
     "", "Attention.OfWide*"),
    ("attention by tiles: the wait is for older copies", "matrix_tiles.h",
     "wait_for_copies<1>()",
     "wait_for_copies<2>()", "Attention.OfWide*"),
    ("attention by tiles: no barrier behind the copies", "attention_mma.cu",
     "    await_tile(tile, tiles, load_keys);\n    __syncthreads();\n",
     "    await_tile(tile, tiles, load_keys);\n", "Attention.OfWide*"),
    ("attention by tiles: no barrier before keys are overwritten", "attention_mma.cu",
     "    __syncthreads();  // keys, weights and factors have been read\n",
     "", "Attention.OfWide*"),
    ("attention by tiles: no barrier behind the largest scores", "head_tiles.h",
     "    __syncthreads();\n#pragma unroll\n    for (int i = 0; i < 2; ++i) {\n      const float of_other",
     "#pragma unroll\n    for (int i = 0; i < 2; ++i) {\n      const float of_other", "Attention.OfWide*"),
    ("attention by tiles: no barrier behind the sums of halves", "head_tiles.h",
     "    __syncthreads();\n#pragma unroll\n    for (int i = 0; i < 2; ++i) {\n      const float total",
     "#pragma unroll\n    for (int i = 0; i < 2; ++i) {\n      const float total", "Attention.OfWide*"),
    ("attention by tiles: no barrier behind the weights", "attention_mma.cu",
     "    __syncthreads();\n\n    // 2. The output",
     "    // 2. The output", "Attention.OfWide*"),
    ("attention by warpgroups: keys are not published", "attention_warpgroup.cu",
     "    publish_shared();\n    __syncthreads();\n    const Rows keys", "    __syncthreads();\n    const Rows keys",
     "Attention.OfWide*"),
    ("attention by warpgroups: no barrier behind the keys", "attention_warpgroup.cu",
     "    publish_shared();\n    __syncthreads();\n    const Rows keys", "    publish_shared();\n    const Rows keys",
     "Attention.OfWide*"),
    ("attention by warpgroups: no tile is awaited", "attention_warpgroup.cu",
     "    await_tile(tile, tiles, load_keys);\n", "", "Attention.OfWide*"),
    ("attention by warpgroups: no fence before scores", "attention_warpgroup.cu",
     "    fence_registers(scores);\n", "", "Attention.OfWide*"),
    ("attention by warpgroups: no fence before the output", "attention_warpgroup.cu",
     "    fence_registers(out);\n", "", "Attention.OfWide*"),
    ("attention by warpgroups: no wait for scores", "attention_warpgroup.cu",
     "    wait_for_products<0>(scores);\n    softmax.add", "    softmax.add", "Attention.OfWide*"),
    ("attention by warpgroups: weights are not published", "attention_warpgroup.cu",
     "    publish_shared();\n    __syncthreads();\n\n    // 2.", "    __syncthreads();\n\n    // 2.",
     "Attention.OfWide*"),
    ("attention by warpgroups: no barrier behind the weights", "attention_warpgroup.cu",
     "    publish_shared();\n    __syncthreads();\n\n    // 2.", "    publish_shared();\n\n    // 2.",
     "Attention.OfWide*"),
    ("attention by warpgroups: no wait for the output", "attention_warpgroup.cu",
     "    wait_for_products<0>(out);\n    __syncthreads();  // keys", "    __syncthreads();  // keys", "Attention.OfWide*"),
    ("attention by warpgroups: no barrier before keys are overwritten", "attention_warpgroup.cu",
     "    __syncthreads();  // keys and weights have been read\n", "", "Attention.OfWide*"),
    ("attention by warpgroups: the keys of the other warpgroup", "warpgroup_heads.h",
     "warpgroup_index() * (64 / 2);", "(1 - warpgroup_index()) * (64 / 2);", "Attention.OfWide*"),
    ("attention by warpgroups: panels as far apart as eight rows", "warpgroup.h",
     "PanelRows<kWidth, kRows>::kPanelBytes / 16", "TileRows<64>::kRowBytes * 8 / 16", "Attention.OfWide*"),
    ("attention by warpgroups: sums of other rows shrink", "attention_warpgroup.cu",
     "out[v] *= shrink[v / 2 % 2];", "out[v] *= shrink[v % 2];", "Attention.OfWide*"),
    ("attention backward by warpgroups: keys are not published", "attention_warpgroup.cu",
     "      publish_shared();\n      __syncthreads();\n      const int64_t left",
     "      __syncthreads();\n      const int64_t left", "Attention.OfWide*"),
    ("attention backward by warpgroups: no barrier behind the keys", "attention_warpgroup.cu",
     "      publish_shared();\n      __syncthreads();\n      const int64_t left",
     "      publish_shared();\n      const int64_t left", "Attention.OfWide*"),
    ("attention backward by warpgroups: no wait for copies", "attention_warpgroup.cu",
     "      wait_for_copies<0>();\n      publish_shared();\n", "      publish_shared();\n", "Attention.OfWide*"),
    ("attention backward by warpgroups: no fence before weights' gradients", "attention_warpgroup.cu",
     "fence_registers(scores, dweights);", "fence_registers(scores);", "Attention.OfWide*"),
    ("attention backward by warpgroups: no wait for scores", "attention_warpgroup.cu",
     "      wait_for_products<0>(scores, dweights);\n", "", "Attention.OfWide*"),
    ("attention backward by warpgroups: slopes are not published", "attention_warpgroup.cu",
     "      publish_shared();\n      __syncthreads();\n\n      // 2.", "      __syncthreads();\n\n      // 2.",
     "Attention.OfWide*"),
    ("attention backward by warpgroups: no barrier behind the slopes", "attention_warpgroup.cu",
     "      publish_shared();\n      __syncthreads();\n\n      // 2.", "      publish_shared();\n\n      // 2.",
     "Attention.OfWide*"),
    ("attention backward by warpgroups: no fence before keys' gradients", "attention_warpgroup.cu",
     "fence_registers(dq, dkeys);", "fence_registers(dq);", "Attention.OfWide*"),
    ("attention backward by warpgroups: no fence before other channels", "attention_warpgroup.cu",
     "        fence_registers(dkeys);\n", "", "Attention.OfWide*"),
    ("attention backward by warpgroups: keys are overwritten before a query's gradient", "attention_warpgroup.cu",
     "      wait_for_products<1>(dq);\n", "", "Attention.OfWide*"),
    ("attention backward by warpgroups: keys are overwritten while others read", "attention_warpgroup.cu",
     "      __syncthreads();  // the keys have been read\n", "", "Attention.OfWide*"),
    ("attention backward by warpgroups: the same keys again", "attention_warpgroup.cu",
     "load_keys(first + kKeys);", "load_keys(first);", "Attention.OfWide*"),
    ("attention backward by warpgroups: no wait for keys' gradients", "attention_warpgroup.cu",
     "      wait_for_products<0>(dkeys);\n      add_to_slots", "      add_to_slots", "Attention.OfWide*"),
    ("attention backward by warpgroups: no wait for those of other channels", "attention_warpgroup.cu",
     "        wait_for_products<0>(dkeys);\n        add_to_slots", "        add_to_slots", "Attention.OfWide*"),
    ("attention backward by warpgroups: weights as they lie", "warpgroup_heads.h",
     "by_panels(term.weights, 0, k)", "by_rows(term.weights, 0, k)", "Attention.OfWide*"),
    ("attention backward by warpgroups: weights in place of slopes", "attention_warpgroup.cu",
     "of_slopes{slopes, q}", "of_slopes{weights, q}", "Attention.OfWide*"),
    ("attention backward by warpgroups: the first channels for all", "warpgroup_heads.h",
     "by_panels(term.heads, panel, k)", "by_panels(term.heads, 0, k)", "Attention.OfWide*"),
    ("attention backward by warpgroups: slots of the first channels", "warpgroup_heads.h",
     "panel * 64 + v / 4 * kPiece", "v / 4 * kPiece", "Attention.OfWide*"),
    ("attention backward by warpgroups: gradients of keys of the last heads alone", "attention_warpgroup.cu",
     "panel, slots, left, first_head == 0, H)", "panel, slots, left, true, H)", "Attention.OfWide*"),
    ("attention backward by warpgroups: a slot beyond the last", "warpgroup_heads.h",
     "key < count && channel < H", "key <= count && channel < H", "Attention.OfWide*", BOUND),
    ("attention backward: no barrier behind the sums of halves", "head_tiles.h",
     "    __syncthreads();\n    if (thread_index() < heads_)", "    if (thread_index() < heads_)", "Attention.OfWide*"),
    ("attention by tiles: no barrier behind the slopes", "attention_mma.cu",
     "      __syncthreads();\n\n      // 2. The query's",
     "      // 2. The query's", "Attention.OfWide*"),
    ("attention by tiles: no barrier before slopes are overwritten", "attention_mma.cu",
     "      __syncthreads();  // keys, weights and slopes have been read\n",
     "", "Attention.OfWide*"),
    ("attention by tiles: gradients of keys of the last heads alone", "head_tiles.h",
     "is_first ? float2{0, 0} : *pair",
     "is_first || true ? float2{0, 0} : *pair", "Attention.OfWide*"),
    ("attention by tiles: the last copies are not waited for", "attention_mma.cu",
     "  wait_for_copies<0>();\n\n  float inverse",
     "\n  float inverse", "Attention.OfWide*"),
    ("tiles: a transposed operand as it lies", "matrix_tiles.h",
     "load_matrices<true>(to, tile.piece(row + lane % 8",
     "load_matrices<false>(to, tile.piece(row + lane % 8", "Attention.OfWide*"),
    ("tiles: rows beyond the last are not zero", "matrix_tiles.h",
     "from != nullptr && at * kPiece < H",
     "from != nullptr", "Attention.OfWide*", BOUND),
    ("codec: steps of small FP8 codes", "code_values.h",
     "magnitude < 8 ?",
     "magnitude < 4 ?", "Decode.*"),
    ("codec: the smallest scale is zero", "code_values.h",
     "byte == 0 ? 0x0040u",
     "byte == 0 ? 0u", "Decode.*"),
    ("codec: the scale of another tile", "codec.cu",
     "row / kFp8Tile *",
     "row / kFp4Group *", "Decode.*"),
    ("codec: a block's first row is forgotten", "codec.cu",
     "block.first_row + row",
     "row", "Decode.OfABlock*"),
    ("index: of equals one too many", "best_scores.h",
     "before < equals",
     "before <= equals", "IndexTopk.*"),
    ("index: the score before the k-th", "best_scores.h",
     "block_count(count) >= k",
     "block_count(count) >= k - 1", "IndexTopk.*"),
    ("index: no barrier before counts are read", "best_scores.h",
     "    counts[thread_index() / kWarp] = count;\n  }\n  __syncthreads();\n",
     "    counts[thread_index() / kWarp] = count;\n  }\n", "IndexTopk.*"),
    ("index: no barrier before channels are overwritten", "index_topk.cu",
     "      __syncthreads();  // the channels before have been read\n",
     "", "IndexTopk.*"),
    ("index: the weights of the first heads", "index_topk.cu",
     "head < p.I ? weight[head]",
     "head < p.I ? weight[head % kHeads]", "IndexTopk.*"),
    ("index: NaN is the best", "best_scores.h",
     "score == score ? score + 0.0f : -INFINITY",
     "score + 0.0f", "IndexTopk.*"),
    ("index by tiles: a block's first entry is forgotten", "index_topk.cu",
     "scores + blockIdx.y * p.C + first);", "scores + blockIdx.y * p.C);", "IndexTopk.*"),
    ("index by tiles: the first entries in every block", "index_topk.cu",
     "p.first[query] + int64_t{blockIdx.x} * kEntriesOfBlock;", "p.first[query];", "IndexTopk.*"),
    ("index by tiles: the keys of the first sequence", "index_topk.cu",
     "Sequence<Bfloat16>(p.keys + query / p.S * p.C * p.H)", "Sequence<Bfloat16>(p.keys)", "IndexTopk.*"),
    ("index by warpgroups: keys are not published", "index_scores.h",
     "        publish_shared();\n", "", "IndexTopk.*"),
    ("index by warpgroups: no barrier behind the keys", "index_scores.h",
     "        publish_shared();\n        __syncthreads();\n", "        publish_shared();\n", "IndexTopk.*"),
    ("index by warpgroups: no barrier before keys are overwritten", "index_scores.h",
     "        __syncthreads();  // the keys have been read, and with the last tile the heads\n", "", "IndexTopk.*"),
    ("index by warpgroups: no wait for the last copies", "index_scores.h",
     "      wait_for_copies<0>();\n", "", "IndexerKl.*"),
    ("index by warpgroups: no fence before scores", "index_scores.h",
     "    fence_registers(z);\n", "", "IndexTopk.*"),
    ("index by warpgroups: no wait for scores", "index_scores.h",
     "    wait_for_products<0>(z);\n", "", "IndexTopk.*"),
    ("index by warpgroups: heads and keys change places", "index_scores.h",
     "by_rows(keys, 0, k), by_rows(q_, 0, k)", "by_rows(q_, 0, k), by_rows(keys, 0, k)", "IndexTopk.*"),
    ("index by warpgroups: the weights of other heads", "index_scores.h",
     "group + i / 2 * kPiece + TwoRows::lane() % 4 * 2 + i % 2", "group + i", "IndexTopk.*"),
    ("index by warpgroups: negative products count", "index_scores.h",
     "(z[v] < 0 ? 0.0f : z[v])", "z[v]", "IndexTopk.*"),
    ("index by warpgroups: scores of the last heads alone", "index_scores.h",
     "(is_first ? 0.0f : scores[key])", "0.0f", "IndexTopk.*"),
    ("index by warpgroups: a score beyond the last", "index_scores.h",
     "key < left", "key <= left", "IndexTopk.*:IndexerKl.*", BOUND),
    ("indexer loss: earlier sums do not shrink", "indexer_kl.cu",
     "        sum[i] *= expf(largest[i] - top);\n", "", "IndexerKl.*"),
    ("indexer loss: the sink does not count", "indexer_kl.cu",
     "float all = expf(p.sink[head] - top);", "float all = 0;", "IndexerKl.*"),
    ("indexer loss: the largest share is forgotten", "indexer_kl.cu",
     "share = larger(share, entry - log_sums[head]);", "share = 0;", "IndexerKl.Is*"),
    ("indexer loss: shares of window keys", "indexer_kl.cu",
     "heads.for_each_tile(seen, of, seen.raw, [&](int64_t first) {",
     "heads.for_each_tile(seen, of, seen.raw > 0 ? seen.raw - 1 : 0, [&](int64_t first) {", "IndexerKl.*"),
    ("indexer loss: no barrier behind the parts of heads' sums", "heads_and_keys.h",
     "  __syncthreads();\n  const int key = thread_index();", "  const int key = thread_index();", "IndexerKl.*"),
    ("indexer loss: sums of the last heads alone", "heads_and_keys.h",
     "float sum = is_first ? 0.0f : to[key];", "float sum = 0.0f;", "IndexerKl.*"),
    ("indexer loss: no barrier before log sums are read", "device.h",
     "    largest[thread_index() / kWarp] = x;\n  }\n  __syncthreads();\n",
     "    largest[thread_index() / kWarp] = x;\n  }\n", "IndexerKl.*"),
    ("indexer loss: negative products count", "index_scores.h",
     "(z[i][j] < 0 ? 0.0f : z[i][j])", "z[i][j]", "IndexerKl.*"),
    ("indexer loss: the weights of the first heads", "heads_and_keys.h",
     "to[i] = head < I ? weight[head] : 0.0f;", "to[i] = head < I ? weight[head % Heads::kHeads] : 0.0f;",
     "IndexerKl.*"),
    ("indexer loss: shares are not divided by their sum", "indexer_kl.cu",
     "p = share / sums[0]", "p = share", "IndexerKl.*"),
    ("indexer loss: recall of one entry too many", "indexer_kl.cu",
     "choose_best(scores, 0, count, recalled,", "choose_best(scores, 0, count, recalled + 1,", "IndexerKl.*"),
    ("indexer loss: no barrier before slopes are read", "indexer_kl.cu",
     "      heads.store_weights(z);\n      __syncthreads();\n", "      heads.store_weights(z);\n", "IndexerKl.*"),
    ("indexer loss: gradients of keys of the last heads alone", "heads_and_keys.h",
     "float added = is_first ? 0.0f : slots[i];", "float added = 0.0f;", "IndexerKl.*"),
    ("indexer loss: gradients of scores beyond the last", "indexer_kl.cu",
     "key < seen.count ? dscores[key] : 0.0f", "dscores[key]", "IndexerKl.*", BOUND),
    ("indexer loss: plain keys are overwritten", "heads_and_keys.h",
     "      __syncthreads();  // the keys before have been read\n", "", "IndexerKl.*"),
    ("indexer loss by tiles: keys are overwritten", "heads_and_keys.h",
     "      __syncthreads();  // the keys have been read\n", "", "IndexerKl.*"),
    ("indexer loss by tiles: no wait for copies", "matrix_tiles.h",
     "  wait_for_copies<1>();\n", "", "IndexerKl.*"),
    ("indexer loss by tiles: the other half of the keys", "heads_and_keys.h",
     "kKeys / 2 * key_part() + j / 2 * kPiece", "kKeys / 2 * (1 - key_part()) + j / 2 * kPiece", "IndexerKl.*"),
    ("indexer loss by warpgroups: keys are not published", "heads_and_keys.h",
     "      publish_shared();\n      __syncthreads();\n", "      __syncthreads();\n", "IndexerKl.OfA*"),
    ("indexer loss by warpgroups: slopes are not published", "heads_and_keys.h",
     "    publish_shared();\n  }\n\n protected:", "  }\n\n protected:", "IndexerKl.OfA*"),
    ("indexer loss by warpgroups: no fence before products", "heads_and_keys.h",
     "    fence_registers(d);\n    multiply_by_keys", "    multiply_by_keys", "IndexerKl.OfA*"),
    ("indexer loss by warpgroups: no wait for products", "heads_and_keys.h",
     "    wait_for_products<0>(d);\n    Base::unpack", "    Base::unpack", "IndexerKl.OfA*"),
    ("indexer loss by warpgroups: no fence before heads' gradients", "heads_and_keys.h",
     "    fence_registers(sums.products);\n", "", "IndexerKl.OfA*"),
    ("indexer loss by warpgroups: no fence before keys' gradients", "heads_and_keys.h",
     "      fence_registers(d);\n      multiply_heads", "      multiply_heads", "IndexerKl.OfA*"),
    ("indexer loss by warpgroups: no wait for keys' gradients", "heads_and_keys.h",
     "      wait_for_products<0>(d);\n      add_to_slots", "      add_to_slots", "IndexerKl.OfA*"),
    ("indexer loss by warpgroups: the first channels for all", "heads_and_keys.h",
     "first_panel<kWidth>() + part;", "part;", "IndexerKl.OfA*"),
    ("fp4: the other code of a byte", "fp4_products.cu",
     "column % 2 * 4",
     "0", "DeviceKernels.OfFp4*"),
    ("fp4: the scale of the row before", "fp4_products.cu",
     "scale(row + 1, first_column + column) << 16",
     "scale(row, first_column + column) << 16", "DeviceKernels.OfFp4*"),
    ("fp4: the codes of a byte change places", "code_values.h", "0x5140", "0x4051", "DeviceKernels.OfFp4*"),
    ("fp4: a magnitude of the table", "code_values.h", "0xc0804000u", "0xc0808000u", "DeviceKernels.OfFp4*"),
    ("fp4: no barrier behind the copies", "fp4_products.cu",
     "    await_tile(tile, tiles, load);\n    __syncthreads();\n",
     "    await_tile(tile, tiles, load);\n", "DeviceKernels.OfFp4*"),
    ("fp4: no barrier before a tile is overwritten", "fp4_products.cu",
     "    __syncthreads();  // the tile has been read\n",
     "", "DeviceKernels.OfFp4*"),
    ("fp4 by warpgroups: a tile is not published", "fp4_products.cu",
     "    publish_shared();\n", "", "DeviceKernels.OfFp4*"),
    ("fp4 by warpgroups: no barrier behind the copies", "fp4_products.cu",
     "    publish_shared();\n    __syncthreads();\n", "    publish_shared();\n", "DeviceKernels.OfFp4*"),
    ("fp4 by warpgroups: no fence of registers", "fp4_products.cu",
     "      fence_registers(d, a[k % 2]);\n", "      fence_registers(d);\n", "DeviceKernels.OfFp4*"),
    ("fp4 by warpgroups: registers under way are decoded into", "fp4_products.cu",
     "      wait_for_products<1>();\n", "", "DeviceKernels.OfFp4*"),
    ("fp4 by warpgroups: no wait for the last products", "fp4_products.cu",
     "    wait_for_products<0>(d);\n", "", "DeviceKernels.OfFp4*"),
    ("fp4 by warpgroups: no barrier before a tile is overwritten", "fp4_products.cu",
     "    wait_for_products<0>(d);\n    __syncthreads();  // the tile has been read\n",
     "    wait_for_products<0>(d);\n", "DeviceKernels.OfFp4*"),
    ("fp4 by warpgroups: steps and columns change places", "fp4_products.cu",
     "16 * k + i / 2 * 8 + lane % 4 * 2,", "16 * k + i % 2 * 8 + lane % 4 * 2,", "DeviceKernels.OfFp4*"),
    ("fp4 by warpgroups: no barrier behind the sums", "fp4_products.cu",
     "    __syncthreads();\n    constexpr int kPieces", "    constexpr int kPieces", "DeviceKernels.OfFp4*"),
    ("fp4 by warpgroups: no barrier before sums are overwritten", "fp4_products.cu",
     "    __syncthreads();  // the sums have been read\n", "", "DeviceKernels.OfFp4*"),
    ("fp4: sums are not added", "fp4_products.cu",
     "p.accumulate ? widened(out[0])",
     "false ? widened(out[0])", "DeviceKernels.OfFp4*"),
    ("products: no wait for copies", "product_tiles.h",
     "      wait_for_copies<kAhead - 1>();\n", "", "NewtonSchulz.Bf*:ExpertProd*"),
    ("products: no barrier of a step", "product_tiles.h",
     "      __syncthreads();\n      load(step + kAhead);", "      load(step + kAhead);", "NewtonSchulz.Bf*:ExpertProd*"),
    ("products: a stage is overwritten that is read", "product_tiles.h",
     "kStages - (kWarpgroups ? 2 : 1)", "kStages - (kWarpgroups ? 1 : 0)", "NewtonSchulz.Bf*:ExpertProd*"),
    ("products: a stage under way is overwritten", "product_tiles.h",
     "kStages - (kWarpgroups ? 2 : 1)", "kStages - 1", "NewtonSchulz.Bf*:ExpertProd*"),
    ("products: a stage is not published", "product_tiles.h",
     "        publish_shared();\n", "", "NewtonSchulz.Bf*:ExpertProd*"),
    ("products: no fence of the sums", "product_tiles.h",
     "    fence_registers(sums_);\n", "", "NewtonSchulz.Bf*:ExpertProd*"),
    ("products: products stay under way", "product_tiles.h",
     "    wait_for_products<1>();\n", "    wait_for_products<2>();\n", "NewtonSchulz.Bf*:ExpertProd*"),
    ("products: no wait for the last ones", "product_tiles.h",
     "      wait_for_products<0>(sums_);\n", "", "NewtonSchulz.Bf*:ExpertProd*"),
    ("products: rows of the other warpgroup", "product_tiles.h",
     "group * kWarpRows, k)", "(1 - group) * kWarpRows, k)", "NewtonSchulz.Bf*:ExpertProd*"),
    ("products: terms in place of rows", "product_tiles.h",
     "load_b_transposed(of_right, right, 16 * k, column / kPiece);", "load_b(of_right, right, 16 * k, column / kPiece);",
     "NewtonSchulz.Bf*"),
    ("products: the first columns of the left factor", "product_tiles.h",
     "load_a_transposed(of_left[m], left, 16 * k, row / kPiece);", "load_a_transposed(of_left[m], left, 16 * k, 0);",
     "ExpertProd*"),
    ("products: a row beyond the last", "product_tiles.h",
     "return row < rows ?", "return row <= rows ?", "NewtonSchulz.Bf*:ExpertProd*", BOUND),
    ("products: a term beyond the last", "product_tiles.h",
     "return term < terms ?", "return term <= terms ?", "NewtonSchulz.Bf*:ExpertProd*"),
    ("expert tiles: a tile too few", "expert_tiles.h",
     "rows / kRows + (experts < rows ? experts : rows)", "(rows + kRows - 1) / kRows", "ExpertProd*"),
    ("expert tiles: whole tiles alone", "expert_tiles.h",
     "(end - begin + kRows - 1) / kRows", "(end - begin) / kRows", "ExpertProd*"),
    ("expert tiles: the lane's own tiles are not counted", "expert_tiles.h",
     "up_to <= index ?", "up_to - tiles <= index ?", "ExpertProd*"),
    ("expert tiles: experts of an earlier warp's turn", "expert_tiles.h",
     "return {first_expert + passed, first,", "return {passed, first,", "ExpertProd*"),
    ("expert tiles: tiles of earlier turns", "expert_tiles.h",
     "    index -= __shfl_sync(kAllLanes, up_to, kWarp - 1);\n", "", "ExpertProd*"),
    ("experts: a tile reaches into the next expert", "expert_products.cu",
     "if (row < rows.end && column < columns)", "if (row < p.R && column < columns)", "ExpertProd*"),
    ("experts: the matrix of the first expert", "expert_products.cu",
     "p.matrices + int64_t{rows.expert} * p.O * p.I", "p.matrices", "ExpertProd*"),
    ("experts: sums are not added", "expert_products.cu",
     "p.accumulate ? widened(out[0])", "false ? widened(out[0])", "ExpertProd*"),
    ("experts: gradients of rows from the first on", "expert_products.cu",
     "{p.a + begin * p.O + first_row,", "{p.a + first_row,", "ExpertProd*"),
    ("experts: a column beyond the last", "expert_products.cu",
     "if (row < p.O && column < p.I)", "if (row < p.O)", "ExpertProd*", BOUND),
    ("fp4: the codes of the first expert", "fp4_products.cu",
     "{p, p.matrices[rows.expert],", "{p, p.matrices[0],", "ExpertProd*"),
    ("fp4: no barrier behind the tile's place", "fp4_products.cu",
     "      rows = tile;\n    }\n  }\n  __syncthreads();\n", "      rows = tile;\n    }\n  }\n", "ExpertProd*"),
    ("newton_schulz: the result is not mirrored", "newton_schulz.cu",
     "        if (kSymmetric) {", "        if (false) {", "NewtonSchulz.Bf*"),
    ("newton_schulz: another tile of the triangle", "newton_schulz.cu",
     "column_tile -= tiles_to_diagonal<ThisTile>(row_tile++);", "column_tile -= tiles_to_diagonal<ThisTile>(++row_tile);",
     "NewtonSchulz.Bf*"),
    ("newton_schulz: the identity in every column", "newton_schulz.cu",
     "(row == column ? p.of_identity : 0.0f)", "p.of_identity", "NewtonSchulz.Bf*"),
    ("newton_schulz: factors of the first matrix", "newton_schulz.cu",
     "p.a + blockIdx.z * p.rows * p.depth", "p.a", "NewtonSchulz.Bf*"),
    ("cross_entropy: no barrier before the sums are read", "cross_entropy.cu", "  __syncthreads();\n", "",
     "CrossEntropy.Eq*"),
    ("cross_entropy: the target's logit is read when it may be a gradient", "cross_entropy.cu",
     "(target_logit - all.largest)", "(logits[target] - all.largest)", "CrossEntropy.Eq*"),
    ("cross_entropy: targets that do not count", "cross_entropy.cu", "if (target < 0) {", "if (target < -100) {",
     "CrossEntropy.Eq*"),
    ("adamw: no correction of the second moment", "update.cu", "sqrtf(v) / f.root", "sqrtf(v)", "DeviceKernels.OfAdamW*"),
    ("squared_norm: no barrier before the warps' sums are read", "update.cu", "  __syncthreads();\n", "",
     "DeviceKernels.OfSquared*"),
    ("squared_norm: a warp's sum is left out", "update.cu", "  double all = 0;\n", "  double all = -of_warps[1];\n",
     "DeviceKernels.OfSquared*"),
    ("adamw: the first tensor for all", "update.cu", "batch.of[blockIdx.y]", "batch.of[0]", "DeviceKernels.OfAdamW*"),
    ("squared_norm: parts of another tensor", "update.cu", "blockIdx.y * kCudaNormParts + blockIdx.x", "blockIdx.x",
     "DeviceKernels.OfSquared*"),
    ("squared_norm: a part too few", "update.cu", "i < norm_parts(of.count); i += kThreads", "i < norm_parts(of.count) - 1; i += kThreads",
     "DeviceKernels.OfSquared*"),
]


def commands_of(build, target):
    """ninja's commands that make a target, without a compiler cache."""
    commands = subprocess.run(["ninja", "-C", build, "-t", "commands", target], capture_output=True, text=True,
                              check=True).stdout
    return [re.sub(r"^.*?(?=/\S*c\+\+ )", "", command) for command in commands.strip().splitlines()]


# What AddressSanitizer has to see beside the kernels: fibers, shared memory, and where tensors end.
AROUND_KERNELS = ["tests/cuda_on_host/cuda_on_host.cpp", "tests/support/strict_memory.cpp"]
WITH_BOUNDS = "-fsanitize=address -fno-omit-frame-pointer"


class Workplace:
    """A build whose tests are linked with other kernels."""

    def __init__(self, build, folder):
        self.build, self.folder = pathlib.Path(build).resolve(), pathlib.Path(folder)
        commands = commands_of(build, "braid_kernels_tests")
        sources = [f"kernels/cuda/{source.name}" for source in sorted((ROOT / "kernels/cuda").glob("*.cu"))]
        self.compilers = {source: next(c for c in commands if c.endswith(f"/{source}"))
                          for source in sources + AROUND_KERNELS}
        self.link = commands[-1]
        self.with_bounds = {}  # objects of all of them, once a mistake needs them

    def sources_with(self, file):
        """The .cu files that a mistake in `file` changes: itself, or those that include it, by others too."""
        def includes(name):
            text = (ROOT / name).read_text()
            return set(re.findall(r'"(kernels/cuda/\w+\.h)"', text))

        def reached(name):
            found, to_read = set(), {name}
            while to_read:
                found |= to_read
                to_read = set().union(*map(includes, to_read)) - found
            return found

        kernels = [name for name in self.compilers if name.endswith(".cu")]
        return [file] if file.endswith(".cu") else [name for name in kernels if file in reached(name)]

    def compiled(self, name, tree, flags=""):
        """The object of a source in `tree`, whose headers come before others."""
        result = self.folder / (pathlib.Path(name).name + ".o")
        command = re.sub(r"\S*/" + re.escape(name) + r"$", str(tree / name), self.compilers[name])
        command = re.sub(r"-MF \S+", f"-MF {self.folder}/depends", command)
        command = re.sub(r"-o \S+", f"-I{tree} -o {result} {flags}", command, count=1)
        command = command.replace("-Werror", "-w")  # a mistake may leave a name unused
        command = re.sub(r"^(\S+)", rf"\1 -I{tree}", command)
        subprocess.run(command, shell=True, cwd=self.build, check=True)
        return result

    def objects(self, sources, tree, finds_bounds):
        """Those of the sources in `tree`; where bounds are to be found, with those of all that has to see them."""
        if not finds_bounds:
            return [self.compiled(source, tree) for source in sources]
        for name in [] if self.with_bounds else self.compilers:
            kept = self.folder / ("bounds." + pathlib.Path(name).name + ".o")
            self.with_bounds[name] = self.compiled(name, ROOT, WITH_BOUNDS).rename(kept)
        patched = {source: self.compiled(source, tree, WITH_BOUNDS) for source in sources}
        return list((self.with_bounds | patched).values())

    def noticed(self, objects, tests, finds_bounds):
        """What the tests say first of a program with these objects in place of its own, or None."""
        program = self.folder / "tests"
        listed = " ".join([str(path) for path in objects] + ([WITH_BOUNDS] if finds_bounds else []))
        command = re.sub(r"-o \S+", f"-o {program} {listed}", self.link, count=1)
        command = re.sub(r"\s*&& :$", "", command)
        subprocess.run(command, shell=True, cwd=self.build, check=True)
        # The rest of the program does not say how full its vectors are.
        environment = dict(os.environ, OMP_NUM_THREADS="1",
                           ASAN_OPTIONS="detect_leaks=0:detect_container_overflow=0")
        try:
            run = subprocess.run([program, f"--gtest_filter={tests}", "--gtest_brief=1", "--gtest_break_on_failure"],
                                 env=environment, capture_output=True, text=True, timeout=600, errors="replace")
        except subprocess.TimeoutExpired:
            return "it does not end"
        if run.returncode == 0:
            assert not re.search(r"\b0 tests", run.stdout), f"no test is called {tests}"
            return None
        output = run.stdout + run.stderr
        for pattern in (r"ERROR: AddressSanitizer: \S+", r"which others do not reach", r"all 32 lanes of a warp must.*",
                        r".*, order \d.*", r".*by kernels/cuda.*", r".*Failure.*"):
            if found := re.search(pattern, output):
                return found.group().strip()[:110]
        return f"it ends with status {run.returncode}"


def main():
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    build, wanted = sys.argv[1], sys.argv[2:]
    missed, tried = [], 0
    with tempfile.TemporaryDirectory() as folder:
        place = Workplace(build, folder)
        for name, file, text, mistake, tests, *kind in MISTAKES:
            if wanted and not any(word in name for word in wanted):
                continue
            tree = place.folder / "planted"
            shutil.rmtree(tree, ignore_errors=True)
            shutil.copytree(ROOT / "kernels/cuda", tree / "kernels/cuda")
            patched = tree / "kernels/cuda" / file
            before = patched.read_text()
            if text not in before:
                sys.exit(f"error: {file} has no {text!r}; mend the list in {__file__}")
            patched.write_text(before.replace(text, mistake, 1))
            finds_bounds = BOUND in kind
            objects = place.objects(place.sources_with(f"kernels/cuda/{file}"), tree, finds_bounds)
            found = place.noticed(objects, tests, finds_bounds)
            tried += 1
            print(f"{name:70} {'noticed: ' + found if found else 'NOT NOTICED'}", flush=True)
            if not found:
                missed.append(name)
    print(f"{tried} mistakes, {len(missed)} not noticed")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
