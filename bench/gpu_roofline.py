#!/usr/bin/env python3
"""Estimates a training step of a slice of V4-Flash on one GPU: no measurement, a sum over the kernels
and launches of kernels/cuda and LibTorch, each bound by its arithmetic or by memory.

  bench/gpu_roofline.py [--layers 4] [--experts 32] [--tokens 8192] [--lora --recompute --resident 30]

Each kernel takes max(FLOPs / rate, bytes / bandwidth). Rates are the device's times the share of it
that such a kernel reaches: assumptions, listed below and printed with the result. Bytes count what a
kernel must read and write once; keys that queries share are read from the L2 cache. `--lora` is a
frozen base with FP4 experts and adapters on attention; `--resident N` of its 43 layers keep their
experts on the device, the others come over the link twice a step.
"""
import argparse
from dataclasses import dataclass

# An H200, as others measured it: dense bfloat16 products, TF32 and float32 without tensor cores in
# FLOP/s; memory and a PCIe 5 link in bytes/s; what the host needs to queue a launch, in seconds.
BF16, TF32, FLOAT32 = 790e12, 380e12, 55e12
MEMORY, LINK, LAUNCH = 4.3e12, 52e9, 4e-6

# Share of those rates that a kind of kernel is assumed to reach.
SHARE = {
    "dense": 0.85,  # cuBLAS, large products
    "expert": 0.65,  # wgmma fed by cp.async, all experts in a launch, some hundred rows each
    "attention": 0.60,  # forward, wgmma
    "attention backward": 0.50,  # wgmma, a tile's copies and slots beside fewer of its products
    "scores": 0.35,  # wgmma of 128 channels, for which each query reads its keys from the L2 cache
    "fp4": 0.55,  # decoded in registers for wgmma
    "plain": 0.40,  # sums of float32 multiplications
    "memory": 0.80,  # one pass over memory
}

# Flash.
D, HEADS, WIDTH, Q_RANK, O_RANK, O_GROUPS = 4096, 64, 512, 1024, 1024, 8
INNER, CHOSEN, VOCABULARY, STREAMS = 2048, 6, 129280, 4
INDEX_HEADS, INDEX_WIDTH, INDEX_TOP, WINDOW = 64, 128, 512, 128
LAYERS = 43
FP4_BYTES = 0.5 + 1 / 32  # of a weight, scales included
MIXES = (2 + STREAMS) * STREAMS


@dataclass
class Kernel:
    part: str
    flops: float  # forward
    bytes: float  # forward
    kind: str  # of SHARE
    rate: float = BF16
    back_flops: float = 2  # times the forward ones
    back_bytes: float = 2
    launches: int = 1  # forward; as many backward for each gradient
    back_kind: str = ""  # where it is another one
    counts: bool = True  # among the model's own operations
    once: bool = False  # a step, whatever its passes

    def seconds(self, flops, moved, kind):
        return max(
            flops / (self.rate * SHARE[kind]) if flops else 0,
            moved / (MEMORY * SHARE["memory"]),
        )

    def forward(self):
        return self.seconds(self.flops, self.bytes, self.kind)

    def backward(self):
        return self.seconds(self.flops * self.back_flops, self.bytes * self.back_bytes,
                            self.back_kind or self.kind)


def pairs_of(tokens):
    """Pairs of a query and a key: within the window, chosen entries of CSA, all of HCA, scored."""
    window = sum(min(t + 1, WINDOW) for t in range(tokens))
    chosen = sum(min((t + 1) // 4, INDEX_TOP) for t in range(tokens))
    every_128th = sum((t + 1) // 128 for t in range(tokens))
    scored = sum((t + 1) // 4 for t in range(tokens))
    return window, chosen, every_128th, scored


def layer(T, experts, compressed_by, lora, copies):
    """The kernels of a layer. `copies`: masters are rounded once a step; else in each pass."""
    window, chosen, every_128th, scored = pairs_of(T)
    csa = compressed_by == 4
    seen = window + (chosen if csa else every_128th)
    frozen = lora
    back = 1 if frozen else 2  # a frozen matrix has no gradient of its own
    kernels = []

    def rounded(parameters, matrices, products):  # read in float32, written in bfloat16
        if not frozen:
            kernels.append(Kernel("rounding of masters", 0, 6 * parameters, "memory", back_flops=0,
                                  back_bytes=0 if copies else 1, once=copies,
                                  launches=matrices if copies else products))

    def dense(part, inputs, outputs, groups=1, rate=BF16, count=1):
        parameters = inputs * outputs * count / groups
        rounded(parameters, count, groups * count)
        kernels.append(
            Kernel(part, 2 * T * parameters, 2 * parameters + 2 * T * (inputs + outputs) * count,
                   "dense", rate, back, back, launches=groups * count))

    dense("attention projections", D, Q_RANK)
    dense("attention projections", Q_RANK, HEADS * WIDTH)
    dense("attention projections", D, WIDTH)
    dense("attention projections", HEADS * WIDTH, O_GROUPS * O_RANK, groups=O_GROUPS)
    dense("attention projections", O_GROUPS * O_RANK, D)
    if lora:
        rank = 16
        sides = 2 * D + Q_RANK + HEADS * WIDTH + WIDTH + 2 * O_GROUPS * O_RANK
        kernels.append(Kernel("adapters", 2 * T * rank * sides, 2 * T * sides, "dense",
                              launches=8, counts=False))
    core = 2 * 2 * HEADS * WIDTH * seen
    # Backward: five products for two; each query writes what it adds to a key, float32, once.
    kernels.append(Kernel("attention core", core, 2 * 2 * T * HEADS * WIDTH, "attention",
                          back_flops=2.5, back_kind="attention backward",
                          back_bytes=2 + 2 * 4 * WIDTH * seen / (2 * 2 * T * HEADS * WIDTH)))
    compressor = 2 * D * WIDTH * (2 if csa else 1)
    kernels.append(Kernel("compressor", 2 * T * compressor, 4 * (compressor + T * D), "dense",
                          TF32, back, back, launches=2))
    kernels.append(Kernel("compressor", 0, 4 * 3 * T * WIDTH * (4 if csa else 2), "memory",
                          launches=12))
    if csa:
        dense("indexer", Q_RANK, INDEX_HEADS * INDEX_WIDTH)
        kernels[-1].back_flops = kernels[-1].back_bytes = 0  # without the indexer's loss
        kernels.append(Kernel("indexer", 2 * INDEX_HEADS * INDEX_WIDTH * scored, 4 * scored * 2,
                              "scores", BF16, 0, 0, launches=2 * max(1, T * (T // 4) >> 26)))
    for part, passes, back_passes in (("norms, rotations", 2 * 3, 2 * 4),):
        moved = T * (HEADS * WIDTH + Q_RANK + WIDTH) * passes
        kernels.append(Kernel(part, 0, moved, "memory", back_bytes=back_passes / passes,
                              launches=5))
    kernels.append(Kernel("router", 2 * T * D * experts, 4 * T * (D + 3 * experts), "dense",
                          FLOAT32, launches=3))
    rows, expert = T * CHOSEN, 3 * D * INNER
    if frozen:
        kernels.append(Kernel("routed experts", 2 * rows * expert,
                              experts * expert * FP4_BYTES + 2 * rows * (2 * D + 3 * INNER),
                              "fp4", BF16, 1, 1, launches=3 * -(-experts // 64)))
    else:
        rounded(experts * expert, 3, 3 * experts)
        kernels.append(Kernel("routed experts", 2 * rows * expert,
                              experts * expert * 2 + 2 * rows * (2 * D + 3 * INNER),
                              "expert", launches=3))
    kernels.append(Kernel("order, SwiGLU, combine", 0, 2 * rows * (2 * D + 3 * INNER + 2 * D),
                          "memory", launches=6))
    dense("shared expert", D, INNER, count=3)
    # In front of a sublayer: streams read, its input written. Behind it: streams and its output
    # read, streams written. Backward: twice the streams read for each, and their gradients.
    streams = 2 * T * STREAMS * D
    kernels.append(Kernel("mHC", 2 * 2 * T * MIXES * STREAMS * D,
                          2 * (3 * streams + 2 * 2 * T * D), "plain", FLOAT32,
                          back_bytes=7 / 3, launches=4))
    return kernels


def head(T):
    parameters = D * VOCABULARY
    chunks = max(1, T * VOCABULARY * 4 >> 28)
    return [Kernel("head and loss", 2 * T * parameters, 4 * parameters + 4 * 3 * T * VOCABULARY,
                   "dense", TF32, launches=2 * chunks)]


def step(arguments):
    T = arguments.tokens
    kernels = []
    for i in range(arguments.layers):
        kernels += layer(T, arguments.experts, 4 if i % 2 == 0 else 128, arguments.lora,
                         not arguments.no_working_copies)
    if arguments.head:
        kernels += head(T)
    return kernels


def report(arguments):
    kernels = step(arguments)
    parts = {}
    for k in kernels:
        row = parts.setdefault(k.part, [0.0] * 5)
        row[0] += k.flops * (1 + k.back_flops)
        row[1] += k.bytes * (1 + k.back_bytes)
        row[2] += k.forward()
        again = arguments.recompute and not k.once
        row[3] += k.backward() + (k.forward() if again else 0)
        row[4] += k.launches * again
        row[4] += k.launches * (1 + (k.back_flops > 0 or k.back_bytes > 0) * 2)
    total = sum(row[2] + row[3] for row in parts.values())
    launches = sum(row[4] for row in parts.values())
    print("| part | TFLOP | GB | forward, ms | backward, ms | share | launches |")
    print("|---|---|---|---|---|---|---|")
    for part, row in sorted(parts.items(), key=lambda item: -sum(item[1][2:4])):
        print(f"| {part} | {row[0] / 1e12:.2f} | {row[1] / 1e9:.1f} | {1e3 * row[2]:.1f} | "
              f"{1e3 * row[3]:.1f} | {100 * (row[2] + row[3]) / total:.1f} % | {row[4]:.0f} |")
    counted = sum(k.flops * (1 + k.back_flops) for k in kernels if k.counts)
    print(f"\nforward and backward {1e3 * total:.0f} ms for {arguments.tokens} tokens, "
          f"{arguments.tokens / total:.0f} tokens/s; {counted / total / 1e12:.0f} TFLOP/s of the "
          f"model's operations, {100 * counted / total / BF16:.0f} % of the bfloat16 peak")
    print(f"{launches:.0f} launches, {1e3 * launches * LAUNCH:.0f} ms of the host: "
          + ("hidden behind the device" if launches * LAUNCH < total else "they bound the step"))
    return total


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--layers", type=int, default=4)
    parser.add_argument("--experts", type=int, default=32)
    parser.add_argument("--tokens", type=int, default=8192)
    parser.add_argument("--head", action="store_true", help="with the head and its loss")
    parser.add_argument("--lora", action="store_true", help="a frozen base, experts in FP4")
    parser.add_argument("--no-working-copies", action="store_true",
                        help="train.working_copies: false, masters are rounded in each pass")
    parser.add_argument("--recompute", action="store_true",
                        help="the backward pass computes each layer again")
    parser.add_argument("--resident", type=int, metavar="N",
                        help="with --lora: layers whose experts stay on the device")
    arguments = parser.parse_args()
    print("assumed: " + ", ".join(f"{kind} {share:.0%}" for kind, share in SHARE.items())
          + f" of {BF16 / 1e12:.0f} (bfloat16), {TF32 / 1e12:.0f} (TF32), {FLOAT32 / 1e12:.0f} "
          f"(float32) TFLOP/s and {MEMORY / 1e12} TB/s\n")
    total = report(arguments)
    if arguments.lora and arguments.resident is not None:
        streamed = arguments.layers - arguments.resident
        moved = 2 * streamed * arguments.experts * 3 * D * INNER * FP4_BYTES
        print(f"{streamed} layers streamed twice: {moved / 1e9:.0f} GB, {moved / LINK:.2f} s over "
              f"the link beside {total:.2f} s of work")


if __name__ == "__main__":
    main()
