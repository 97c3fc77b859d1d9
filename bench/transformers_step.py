#!/usr/bin/env python3
"""Training steps of Hugging Face transformers on the model of bench/peer.yaml.

    transformers_step.py LENGTH STEPS [bfloat16] [recompute]

Forward, backward, clipping and AdamW of one sequence of random tokens, two threads.  Prints the
seconds of each step.
"""

import sys
import time

import torch
from transformers import AutoConfig, AutoModelForCausalLM


def main():
    length, steps = int(sys.argv[1]), int(sys.argv[2])
    autocast = "bfloat16" in sys.argv
    torch.set_num_threads(2)
    torch.manual_seed(0)
    config = AutoConfig.for_model(
        "deepseek_v4",
        vocab_size=512,
        hidden_size=256,
        moe_intermediate_size=256,
        num_hidden_layers=6,
        num_attention_heads=8,
        head_dim=64,
        qk_rope_head_dim=16,
        q_lora_rank=128,
        o_groups=4,
        o_lora_rank=64,
        n_routed_experts=8,
        num_experts_per_tok=2,
        num_hash_layers=1,
        index_n_heads=4,
        index_head_dim=32,
        index_topk=64,
        sliding_window=32,
        layer_types=[
            "sliding_attention",
            "sliding_attention",
            "compressed_sparse_attention",
            "heavily_compressed_attention",
            "compressed_sparse_attention",
            "sliding_attention",
        ],
        compress_rates={"compressed_sparse_attention": 4, "heavily_compressed_attention": 16},
    )
    model = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    model.train()
    if "recompute" in sys.argv:
        model.gradient_checkpointing_enable()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4)
    ids = torch.randint(0, 256, (1, length))
    for _ in range(steps):
        begin = time.perf_counter()
        with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
            loss = model(ids, labels=ids, use_cache=False).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        print(time.perf_counter() - begin, flush=True)


if __name__ == "__main__":
    main()
