#!/usr/bin/env python3
"""LoRA adapters cross between Braid and Hugging Face PEFT without a change.

    python3 -m venv venv && venv/bin/pip install torch transformers==5.17.0 peft==0.21.2 safetensors
    venv/bin/python tests/peers/peft_adapters.py build/braid

On a random DeepSeek-V4 model of every kind of layer:

1. Adapters that PEFT made (attention; routed experts; a mixture with rsLoRA, patterns of ranks and
   alphas, compressor, router, grouped output projection, mHC, head; DoRA of linear layers) give the
   same float32 logits in Braid, beside their base and merged into it.
2. Adapters that Braid trained, on every matrix there is and as DoRA on linear layers, load in PEFT
   with no missing and no unexpected key and give the same logits; the model that Braid merges loads
   in transformers with the same logits.
3. Adapters that PEFT made, read and written by Braid, give the same logits in PEFT.

"The same" is a largest difference of 1e-5 of the largest logit.  Not part of the test suite, which
needs no Python.
"""

import pathlib
import sys
import tempfile
import warnings

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import AutoModelForCausalLM

from transformers_both_ways import braid_logits, compare, hf_logits, loaded, random_hf_model, run

from safetensors import safe_open
from safetensors.torch import save_file

ATTENTION = [f"self_attn.{name}_proj" for name in ("q_a", "q_b", "kv", "o_b")]
EXPERTS = ["mlp.experts.gate_up_proj", "mlp.experts.down_proj"]
ADAPTERS = {
    "attention": dict(r=4, lora_alpha=8, target_modules=ATTENTION),
    "experts": dict(r=2, lora_alpha=4, target_parameters=EXPERTS),
    "down projections": dict(r=2, lora_alpha=4, target_parameters=EXPERTS[1:]),
    "mixture": dict(
        r=3,
        lora_alpha=6,
        use_rslora=True,
        target_modules=ATTENTION
        + ["compressor.kv_proj", "compressor.gate_proj", "lm_head", "embed_tokens"]
        + [f"shared_experts.{name}_proj" for name in ("gate", "up", "down")],
        target_parameters=EXPERTS
        + ["self_attn.o_a_proj.weight", "mlp.gate.weight", "attn_hc.fn", "ffn_hc.fn", "hc_head.hc_fn"],
        rank_pattern={"self_attn.q_b_proj": 5, r".*layers\.1\..*shared_experts\.up_proj": 1,
                      "experts.gate_up_proj": 2},
        alpha_pattern={"self_attn.kv_proj": 9},
    ),
    "DoRA": dict(
        r=3,
        lora_alpha=6,
        use_dora=True,
        use_rslora=True,
        target_modules=ATTENTION
        + ["compressor.kv_proj", "compressor.gate_proj"]
        + [f"shared_experts.{name}_proj" for name in ("gate", "up", "down")],
        rank_pattern={"self_attn.q_b_proj": 5},
        alpha_pattern={"self_attn.kv_proj": 9},
    ),
}
RECIPE = """
run: {{name: {name}, output_dir: {folder}, init_from: {base}}}
model: from_base
tokenizer: {{file: bytes}}
data: {{train: [{text}], document_separator: "%", seq_len: 64, validation_seq_len: 64}}
train: {{parameters: lora, max_steps: 4, global_batch_size: 4, micro_batch_size: 4}}
adapter: {{rank: 4, alpha: 8, {adapter}}}
optimizer: {{learning_rate: 0.01}}
loss: {{mtp_weight: 0, mtp_decay_weight: 0}}
"""
TRAINED = {
    "every matrix": 'targets: all, rank_pattern: [{match: "*.ffn.experts.*", rank: 2}]',
    "DoRA": 'dora: true, targets: [attention, "layers.*.ffn.shared_experts.*"]',
}


def base_model(folder):
    return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()


def adapter_logits(base, adapter, ids):
    """Of PEFT; a missing or unexpected key is only a warning there."""
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message=".*(missing|unexpected|Unexpected).*")
        model = PeftModel.from_pretrained(base_model(base), adapter).eval()
    return hf_logits(model, ids)


def make_adapter(base, folder, arguments):
    torch.manual_seed(1)
    model = get_peft_model(base_model(base), LoraConfig(task_type="CAUSAL_LM", **arguments))
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_magnitude_vector" in name:
                parameter.mul_(1 + 0.2 * torch.randn_like(parameter))
            elif "lora_" in name:
                parameter.add_(torch.randn_like(parameter), alpha=0.1)
    model.save_pretrained(folder)


def with_adapter(braid, base, adapter, ids, folder):
    inputs, outputs = folder / "inputs.safetensors", folder / "outputs.safetensors"
    save_file({"input_ids": ids}, inputs)
    run(braid, "probe", base, "--adapter", adapter, "--inputs", inputs, "--outputs", outputs)
    with safe_open(outputs, "pt") as file:
        return file.get_tensor("logits")


def main():
    braid = pathlib.Path(sys.argv[1]).resolve()
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        base = folder / "base"
        random_hf_model().save_pretrained(base)
        ids = torch.randint(0, 320, (2, 100), generator=torch.Generator().manual_seed(1))
        for what, arguments in ADAPTERS.items():
            adapter = folder / what.replace(" ", "_")
            make_adapter(base, adapter, arguments)
            want = adapter_logits(base, adapter, ids)
            change = ((want - hf_logits(base_model(base), ids)).abs().max() / want.abs().max()).item()
            assert change > 0.01, f"{what}: the adapter changes logits by {change} only"
            compare(f"PEFT -> Braid, {what}", with_adapter(braid, base, adapter, ids, folder), want)
            merged = adapter.with_name(adapter.name + "-merged")
            run(braid, "merge", base, adapter, merged)
            compare("  merged by Braid", braid_logits(braid, merged, ids, folder), want)
            again = adapter.with_name(adapter.name + "-again")
            run(braid, "convert", adapter, again, "--to", "peft")
            compare("  -> Braid -> PEFT", adapter_logits(base, again, ids), want)

        text, recipe = folder / "corpus.txt", folder / "recipe.yaml"
        text.write_text("".join(f"Line {i} of a text to learn by heart.\n%\n" for i in range(400)))
        for what, section in TRAINED.items():
            tuned = folder / f"tuned-{what.replace(' ', '-')}"
            recipe.write_text(
                RECIPE.format(name=tuned.name, folder=folder, base=base, text=text, adapter=section)
            )
            run(braid, "train", recipe)
            want = braid_logits(braid, tuned, ids, folder)
            adapter, merged = tuned.with_suffix(".peft"), tuned.with_suffix(".hf")
            run(braid, "convert", tuned, adapter, "--to", "peft")
            compare(f"trained by Braid, {what} -> PEFT", adapter_logits(base, adapter, ids), want)
            run(braid, "merge", base, adapter, merged, "--to", "hf")
            compare("  merged by Braid -> transformers", hf_logits(loaded(merged), ids), want)


if __name__ == "__main__":
    main()
