#!/usr/bin/env python3
"""Models cross between Braid and Hugging Face transformers without a change.

    python3 -m venv venv && venv/bin/pip install torch transformers==5.17.0 safetensors
    venv/bin/python tests/peers/transformers_both_ways.py build/braid

1. A model that transformers wrote (in both of its spellings) gives the same float32 logits in Braid.
2. A model that Braid converts to Hugging Face's layout loads in transformers with no missing and no
   unexpected key and gives the same float32 logits.  The model is a quantized release in miniature
   (tests/data/golden/release_tiny), or the folder given as second argument.

"The same" is a largest difference of 1e-5 of the largest logit.  Not part of the test suite, which
needs no Python.
"""

import json
import pathlib
import subprocess
import sys
import tempfile

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from transformers import AutoConfig, AutoModelForCausalLM

TOLERANCE = 1e-5
REPOSITORY = pathlib.Path(__file__).resolve().parents[2]


def run(*command):
    subprocess.run([str(part) for part in command], check=True, stdout=subprocess.DEVNULL)


def braid_logits(braid, model, ids, folder):
    inputs, outputs = folder / "inputs.safetensors", folder / "outputs.safetensors"
    save_file({"input_ids": ids}, inputs)
    run(braid, "probe", model, "--inputs", inputs, "--outputs", outputs)
    with safe_open(outputs, "pt") as file:
        return file.get_tensor("logits")


def loaded(model):
    result, info = AutoModelForCausalLM.from_pretrained(
        model, dtype=torch.float32, output_loading_info=True
    )
    for kind in ("missing_keys", "unexpected_keys", "mismatched_keys"):
        assert not info[kind], f"{model}: {kind}: {sorted(info[kind])[:5]}"
    return result.eval()


def hf_logits(model, ids):
    with torch.no_grad():
        return model(ids).logits


def compare(what, got, want):
    error = ((got - want).abs().max() / want.abs().max()).item()
    print(f"{what}: relative difference of logits {error:.1e}")
    assert error <= TOLERANCE, f"{what}: {error} is more than {TOLERANCE}"


def random_hf_model():
    """Every kind of layer, and no parameter at an initial value that would hide an error."""
    config = AutoConfig.for_model(
        "deepseek_v4",
        vocab_size=320,
        hidden_size=64,
        moe_intermediate_size=32,
        num_hidden_layers=6,
        num_attention_heads=4,
        head_dim=32,
        qk_rope_head_dim=8,
        q_lora_rank=32,
        o_groups=2,
        o_lora_rank=16,
        n_routed_experts=8,
        num_experts_per_tok=2,
        num_hash_layers=2,
        index_n_heads=4,
        index_head_dim=16,
        index_topk=64,
        sliding_window=16,
        compress_ratios=[0, 0, 4, 128, 4, 0],
        compress_rates={"compressed_sparse_attention": 4, "heavily_compressed_attention": 16},
        max_position_embeddings=512,
    )
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter), alpha=0.1)
        for name, buffer in model.named_buffers():
            if name.endswith("tid2eid"):
                for row in buffer:
                    row.copy_(torch.randperm(config.n_routed_experts)[: len(row)])
            elif name.endswith("e_score_correction_bias"):
                buffer.normal_(std=0.1)
    return model.eval()


def main():
    braid = sys.argv[1]
    release = (
        pathlib.Path(sys.argv[2])
        if len(sys.argv) > 2
        else REPOSITORY / "tests/data/golden/release_tiny"
    )
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        ids = torch.randint(0, 320, (2, 100), generator=torch.Generator().manual_seed(1))
        model = random_hf_model()
        want = hf_logits(model, ids)
        for spelling, original in (("hybrid", True), ("in-memory", False)):
            saved = folder / spelling
            model.save_pretrained(saved, save_original_format=original)
            compare(f"transformers ({spelling} names) -> Braid", braid_logits(braid, saved, ids, folder), want)
        run(braid, "convert", folder / "hybrid", folder / "release", "--to", "release")
        run(braid, "convert", folder / "release", folder / "again", "--to", "hf")
        compare("transformers -> Braid -> release names -> transformers", hf_logits(loaded(folder / "again"), ids), want)

        run(braid, "convert", release, folder / "hf", "--to", "hf", "--layout", "f32")
        vocabulary = json.loads((release / "config.json").read_text())["vocab_size"]
        ids = ids % vocabulary
        compare(
            "release -> Braid -> transformers",
            hf_logits(loaded(folder / "hf"), ids),
            braid_logits(braid, release, ids, folder),
        )


if __name__ == "__main__":
    main()
