#!/usr/bin/env python3
"""Routed experts of Flash's widths in FP4, forward and input gradient: tokens per second of Braid beside kt-kernel 0.7.2.

    bench/compare_kt_kernel.py [TOKENSxEXPERTS ...]        default 512x16 2048x16 512x256 2048x256

Both in turn in one run, in bfloat16, on as many threads as OMP_NUM_THREADS says (all cores without it); the best of
--repeat passes each. kt-kernel's MXFP4_SFT always has LoRA on the experts, here of rank 8, which is about 2 % of its time; Braid's
experts are frozen. Braid's side is build/bench/experts_bench. Installs the peer into an environment of its own.
"""

import argparse
import json
import os
import pathlib
import subprocess
import sys
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "scripts"))
from own_environment import with_package  # noqa: E402

D, F, K, RANK = 4096, 2048, 6, 8


def kt_seconds(tokens, experts, repeat, threads):
    import torch
    from kt_kernel.experts import KTMoEWrapper

    layer = KTMoEWrapper(layer_idx=0, num_experts=experts, num_experts_per_tok=K, hidden_size=D, moe_intermediate_size=F,
                         gpu_experts_mask=None, num_gpu_experts=0, cpuinfer_threads=threads, threadpool_count=1,
                         weight_path="", chunked_prefill_size=tokens, method="MXFP4_SFT", mode="sft", lora_rank=RANK,
                         lora_alpha=16.0, max_cache_depth=1, group_size=32, zero_point=False, swiglu_limit=10.0)

    def codes(out, into):
        return [torch.randint(0, 256, (out, into // 2), dtype=torch.uint8) for _ in range(experts)]

    def scales(out, into):  # about 2^-8, as bfloat16, which the wheel's loader makes of E8M0
        return [torch.full((out, into // 32), 2.0**-8, dtype=torch.bfloat16) for _ in range(experts)]

    shapes = {"gate": (F, D), "up": (F, D), "down": (D, F)}
    data = {name: codes(*shape) for name, shape in shapes.items()}
    data |= {f"{name}_scale": scales(*shape) for name, shape in shapes.items()}
    layer.load_mxfp4_weights(data, torch.arange(experts))

    def pair(out, into):
        return [torch.randn(experts, RANK, into).bfloat16() * 0.01, torch.zeros(experts, out, RANK).bfloat16()]

    lora = pair(F, D) + pair(F, D) + pair(D, F)
    layer.init_lora_weights(*lora, *[torch.zeros_like(t) for t in lora])
    layer.update_lora_weights()
    x, dy = torch.randn(tokens, D).bfloat16(), torch.randn(tokens, D).bfloat16()
    chosen = torch.rand(tokens, experts).argsort(1)[:, :K].contiguous()
    weights = torch.rand(tokens, K)
    best = [float("inf")] * 2
    for _ in range(repeat):
        begin = time.perf_counter()
        layer.forward(x, chosen, weights)
        middle = time.perf_counter()
        layer.backward(dy)
        end = time.perf_counter()
        layer.release_authoritative_optimizer_grads()
        if middle - begin + end - middle < sum(best):
            best = [middle - begin, end - middle]
    return best


def braid_seconds(tokens, experts, threads):
    result = subprocess.run([ROOT / "build/bench/experts_bench", f"--benchmark_filter=^measure/{tokens}/{experts}/1(/.*)?$",
                             "--benchmark_format=json", "--benchmark_repetitions=3"], check=True, stdout=subprocess.PIPE,
                            env=os.environ | {"OMP_NUM_THREADS": str(threads)})
    rows = json.loads(result.stdout)["benchmarks"]
    return min(row["real_time"] for row in rows if row["run_type"] == "iteration") / 1000


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("case", nargs="*", default=["512x16", "2048x16", "512x256", "2048x256"])
    parser.add_argument("--repeat", type=int, default=3)
    options = parser.parse_args()
    with_package("kt-kernel==0.7.2")
    threads = int(os.environ.get("OMP_NUM_THREADS") or len(os.sched_getaffinity(0)))
    print(f"tokens/s, {threads} threads: Braid, kt-kernel, ratio")
    for case in options.case:
        tokens, experts = (int(n) for n in case.split("x"))
        ours = braid_seconds(tokens, experts, threads)
        # A process of its own: what the peer keeps for a layer goes with it.
        peer = subprocess.run([sys.executable, __file__, "--peer", case, str(options.repeat), str(threads)], check=True,
                              stdout=subprocess.PIPE)
        forward, backward = json.loads(next(line for line in peer.stdout.splitlines() if line.startswith(b"[")))
        theirs = forward + backward
        print(f"{case}: {tokens / ours:.1f}, {tokens / theirs:.1f} (forward {forward:.2f} s, backward {backward:.2f} s), "
              f"{theirs / ours:.2f}", flush=True)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--peer"]:
        print(json.dumps(kt_seconds(*(int(n) for n in sys.argv[2].split("x")), *(int(n) for n in sys.argv[3:]))))
    else:
        main()
