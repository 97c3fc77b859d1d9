#!/usr/bin/env python3
"""What a fine-tuning program must not get wrong, tried on the program itself.

  tests/finetune_checklist.py build/braid
  tests/finetune_checklist.py build/braid --base FOLDER --train FILE --validation FILE --tokenizer FILE

Trains LoRA adapters on a small model of every kind of layer (FP4 experts, FP8 matrices, MTP block), or on a
base and conversations of your own, and prints a table of what held:

  frozen        the base's files are the same bytes after all runs, in every mode of training
  all learn     every matrix that has an adapter: A and B of each kind have moved
  accumulation  one micro-batch of 8 sequences and four of 2 give the same losses
  resume        10 steps, and 10 more in another process, give the bits of 20: losses, norms, adapters
  ranks         10 steps on 2 ranks, and 10 more on one, give those bits, too
  ablation      adapters of experts alone, and of attention, shared experts and routers alone, each lower
                the held-out loss

Needs Python's standard library alone; two minutes on two cores. Ends with status 1 where something failed.
Not part of the test suite, whose tests hold each of these by itself.
"""

import argparse
import hashlib
import json
import pathlib
import random
import re
import subprocess
import sys
import tempfile

STEPS = 20
# Sums of the same numbers in another order, in float64, carried on over 20 steps.
SAME_SUM = 1e-9

MODEL = """
model:
  vocab_size: 320
  hidden_size: 64
  num_hidden_layers: 5
  num_attention_heads: 4
  head_dim: 16
  qk_rope_head_dim: 8
  q_lora_rank: 32
  o_groups: 2
  o_lora_rank: 32
  sliding_window: 8
  compress_ratios: [0, 4, 8, 4, 0, 0]
  index_n_heads: 2
  index_head_dim: 32
  index_topk: 4
  n_routed_experts: 4
  moe_intermediate_size: 32
  num_hash_layers: 1
  num_nextn_predict_layers: 1
"""

# The rate suits a base of random weights, too.
RECIPE = """
run: {{init_from: {base}, output_dir: {folder}/runs}}
model: from_base
tokenizer: {tokenizer}
data:
  train: [{train}]
  validation: [{validation}]
  seq_len: 128
  validation_seq_len: 128
train:
  parameters: lora
  max_steps: {steps}
  global_batch_size: 8
  micro_batch_size: 2
adapter: {{rank: 4, alpha: 8, targets: all}}
optimizer: {{learning_rate: 5e-3, weight_decay: 0}}
schedule: {{kind: constant, warmup_steps: 2}}
loss: {{indexer_mode: sparse}}
parallel: {{fixed_order: true}}
logging: {{every_steps: 1000}}
"""


class Failed(Exception):
    pass


def conversations(path, count, seed):
    """Questions whose answers follow from them."""
    draws = random.Random(seed)
    with open(path, "w", encoding="ascii") as file:
        for _ in range(count):
            words = ["".join(draws.choices("abcdefghij", k=draws.randint(3, 6))) for _ in range(3)]
            file.write(
                json.dumps({"prompt": "Repeat: " + " ".join(words), "completion": " ".join(words)}) + "\n"
            )


class Bench:
    """Runs of the program in a folder."""

    def __init__(self, braid, folder, arguments):
        self.braid, self.folder = braid, folder
        if arguments.base:
            paths = [arguments.base, arguments.train, arguments.validation, arguments.tokenizer]
            self.base, train, validation, tokenizer = [
                "bytes" if str(path) == "bytes" else path.resolve() for path in paths
            ]
        else:
            self.base = folder / "base"
            train, validation, tokenizer = folder / "train.jsonl", folder / "held-out.jsonl", "bytes"
            conversations(train, 600, seed=1)
            conversations(validation, 60, seed=2)
            (folder / "model.yaml").write_text(MODEL)
            self.call("synthesize", self.base, "--model", folder / "model.yaml", "--seed", 1)
        self.recipe = folder / "recipe.yaml"
        self.recipe.write_text(
            RECIPE.format(
                base=self.base,
                folder=folder,
                train=train,
                validation=validation,
                tokenizer=tokenizer,
                steps=STEPS,
            )
        )

    def call(self, *words, ranks=1):
        command = [str(self.braid), *map(str, words)]
        if ranks > 1:
            script = pathlib.Path(__file__).resolve().parent.parent / "scripts" / "mpirun.sh"
            command = [str(script), "-n", str(ranks), *command]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode != 0:
            raise Failed(f"{' '.join(command)}\nended with {done.returncode}: {done.stderr.strip()}")
        return done.stdout + done.stderr

    def train(self, name, settings=(), stop=None, ranks=1):
        """What the program said."""
        words = ["train", self.recipe, "--set", f"run.name={name}"]
        for setting in settings:
            words += ["--set", setting]
        if stop:
            words += ["--stop-at-step", stop]
        return self.call(*words, ranks=ranks)

    def metrics(self, name):
        lines = (self.folder / "runs" / name / "metrics.jsonl").read_text().splitlines()
        return [json.loads(line) for line in lines]

    def steps(self, name):
        """[(loss, gradient norm)] of the training steps."""
        rows = [row for row in self.metrics(name) if row.get("split") != "validation"]
        return [(row["loss"], row["gradient_norm"]) for row in rows]

    def held_out_loss(self, name):
        return [row["loss"] for row in self.metrics(name) if row.get("split") == "validation"][-1]

    def adapters(self, name):
        """{name: bytes} of a run's adapters, in PEFT's layout."""
        out = self.folder / f"{name}-{len(list(self.folder.glob(f'{name}-*')))}"
        self.call("convert", self.folder / "runs" / name, out, "--to", "peft")
        tensors = {}
        for file in sorted(out.glob("*.safetensors")):  # the MTP block's are in a file of their own
            data = file.read_bytes()
            size = int.from_bytes(data[:8], "little")
            header = json.loads(data[8 : 8 + size])
            header.pop("__metadata__", None)
            content = data[8 + size :]
            tensors |= {key: content[slice(*entry["data_offsets"])] for key, entry in header.items()}
        return tensors


def digests(folder):
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def require(holds, message):
    if not holds:
        raise Failed(message)


def relative(a, b):
    return abs(a - b) / max(abs(a), abs(b), 1e-300)


def every_group_moves(bench):
    said = bench.train("straight", stop=1)
    require("no loss reaches" not in said, said)
    before = bench.adapters("straight")
    bench.train("straight")
    after = bench.adapters("straight")
    moved = {}
    for key, value in after.items():
        group = re.sub(r"\.\d+\.", ".*.", key)
        changed = any(value) and value != before[key]
        moved[group] = moved.get(group, True) and changed
    still = [group for group, changed in moved.items() if not changed]
    require(not still, "did not move: " + ", ".join(still))
    return f"{len(after)} matrices A and B in {len(moved)} groups"


def accumulation_changes_nothing(bench):
    runs = {
        size: f"micro-{size}"
        for size in (8, 2)
        if bench.train(
            f"micro-{size}",
            ["train.dtype=float64", f"train.micro_batch_size={size}", "parallel.fixed_order=false"],
        )
    }
    pairs = list(zip(bench.steps(runs[8]), bench.steps(runs[2])))
    worst = max(relative(a, b) for one, four in pairs for a, b in zip(one, four))
    require(worst < SAME_SUM, f"losses or norms differ by {worst:.1e}, relative")
    return f"largest relative difference of {len(pairs)} losses and norms {worst:.0e} (float64)"


def same_bits(bench, name):
    require(bench.steps(name) == bench.steps("straight"), f"losses or norms of {name} differ")
    require(
        bench.held_out_loss(name) == bench.held_out_loss("straight"), f"held-out loss of {name} differs"
    )
    require(bench.adapters(name) == bench.adapters("straight"), f"adapters of {name} differ")


def resume_gives_the_same_bits(bench):
    bench.train("resumed", stop=STEPS // 2)
    bench.train("resumed")
    same_bits(bench, "resumed")
    return f"{STEPS // 2} + {STEPS // 2} steps: losses, norms, held-out loss, adapters"


def ranks_give_the_same_bits(bench):
    bench.train("ranks", stop=STEPS // 2, ranks=2)
    bench.train("ranks")
    same_bits(bench, "ranks")
    return f"{STEPS // 2} steps on 2 ranks + {STEPS // 2} on one (parallel.fixed_order)"


def each_part_learns_alone(bench):
    bench.train("neither", ["optimizer.learning_rate=1e-30"])
    base = bench.held_out_loss("neither")
    parts = {
        "experts": "experts",
        "others": "[attention, '*.ffn.shared_experts.w?.weight', '*.ffn.gate.weight']",
    }
    losses = {"all": bench.held_out_loss("straight")}
    for name, targets in parts.items():
        bench.train(name, [f"adapter.targets={targets}", "loss.indexer_mode=off"])
        losses[name] = bench.held_out_loss(name)
    told = f"base {base:.3f}, " + ", ".join(f"{name} {loss:.3f}" for name, loss in losses.items())
    require(all(loss < base for loss in losses.values()), told)
    return told


def base_is_untouched(bench, before):
    for mode in ("full", "[layers.*.attn.wkv.weight]"):
        bench.train("mode-" + ("full" if mode == "full" else "some"), [f"train.parameters={mode}"], stop=2)
    after = digests(bench.base)
    changed = [name for name in {**before, **after} if before.get(name) != after.get(name)]
    require(not changed, "changed: " + ", ".join(changed))
    return f"SHA-256 of {len(after)} files, after runs of lora, full and one pattern"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("braid", type=pathlib.Path)
    for name in ("base", "train", "validation", "tokenizer"):
        parser.add_argument(f"--{name}", type=pathlib.Path)
    arguments = parser.parse_args()
    own = [arguments.base, arguments.train, arguments.validation, arguments.tokenizer]
    if any(own) != all(own):
        parser.error("--base, --train, --validation and --tokenizer go together")
    with tempfile.TemporaryDirectory() as name:
        bench = Bench(arguments.braid.resolve(), pathlib.Path(name), arguments)
        before = digests(bench.base)
        checks = {
            "all learn": every_group_moves,
            "accumulation": accumulation_changes_nothing,
            "resume": resume_gives_the_same_bits,
            "ranks": ranks_give_the_same_bits,
            "ablation": each_part_learns_alone,
            "frozen": lambda bench: base_is_untouched(bench, before),
        }
        failed = 0
        for what, check in checks.items():
            try:
                verdict, told = "PASS", check(bench)
            except Failed as error:
                verdict, told = "FAIL", str(error)
                failed += 1
            print(f"{verdict}  {what:<13} {told}", flush=True)
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
