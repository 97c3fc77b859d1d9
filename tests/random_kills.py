#!/usr/bin/env python3
"""Kills a run again and again, and damages what it saved; everything must survive or be noticed.

    tests/random_kills.py [--program build/braid] [--kills 50] [--flips 300] [--seed 1]

A tiny model that saves after every second step is trained once in peace. A second run of it is
killed (SIGKILL) at random moments, saves included; after each kill it must continue by itself, and
at its end metrics and weights must equal the first run's in every bit. Then single bits of its
newest checkpoint are flipped; `inspect --verify` must notice each, and training must go on from the
checkpoint before. Takes a few minutes; not part of the suite, which has the same in small.
"""
import argparse
import collections
import json
import os
import pathlib
import random
import shutil
import subprocess
import sys
import tempfile
import time

TIMINGS = {"tokens_per_second", "step_seconds"}
ROOT = pathlib.Path(__file__).resolve().parent.parent

CONFIG = """
base: {root}/configs/models/tiny.yaml
run: {{name: {name}}}
data: {{train: [text.txt], document_separator: "%", validation_fraction: 0.1, seq_len: 64, validation_seq_len: 64}}
train: {{max_steps: {steps}, global_batch_size: 4, micro_batch_size: 2, threads: 1, validate_every_steps: 7}}
checkpoint: {{every_steps: 2, keep_last: 3}}
"""


def metrics(run):
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [{key: value for key, value in line.items() if key not in TIMINGS} for line in lines]


def newest(run):
    return sorted(run.glob("checkpoints/step-????????"))[-1]


class Abuse:
    def __init__(self, arguments):
        self.arguments = arguments
        self.program = str(pathlib.Path(arguments.program).resolve())
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="braid-kills-"))
        self.draw = random.Random(arguments.seed)
        words = [str(self.draw.random()) for _ in range(9000)]
        texts = [" ".join(words[i : i + 9]) for i in range(0, len(words), 9)]
        (self.folder / "text.txt").write_text("\n%\n".join(texts))

    def config(self, name):
        path = self.folder / f"{name}.yaml"
        path.write_text(CONFIG.format(root=ROOT, name=name, steps=self.arguments.steps))
        return path.name

    def braid(self, *command):
        return subprocess.run([self.program, *command], cwd=self.folder, text=True, capture_output=True)

    def check(self, good, message):
        if not good:
            sys.exit(f"FAILED: {message} (left in {self.folder})")

    def kills(self):
        begin = time.monotonic()
        calm = self.braid("train", self.config("calm"))
        self.check(calm.returncode == 0, calm.stderr)
        whole = time.monotonic() - begin
        killed, in_save, starts = 0, 0, 0
        config = self.config("killed")
        run = self.folder / "runs/killed"
        while True:
            starts += 1
            process = subprocess.Popen(
                [self.program, "train", config], cwd=self.folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
            if killed < self.arguments.kills:
                wait = self.draw.uniform(0, 3 * whole / self.arguments.kills) + 0.25
                try:
                    process.wait(wait)
                except subprocess.TimeoutExpired:
                    process.kill()
                    killed += 1
                    in_save += any(run.glob("checkpoints/*.tmp"))
            output = process.communicate()[0].decode(errors="replace")
            if process.returncode == 0:
                if killed >= self.arguments.kills:
                    break
                # Finished before it was killed often enough: begin again, and count on.
                self.compare("calm", "killed")
                shutil.rmtree(run)
            else:
                self.check(process.returncode == -9, f"start {starts} ended by itself:\n{output}")
        self.compare("calm", "killed")
        print(f"{killed} kills, {in_save} of them while saving; {starts} starts; metrics and weights as without")

    def compare(self, one, other):
        one, other = (self.folder / "runs" / name for name in (one, other))
        self.check(metrics(one) == metrics(other), "metrics differ")
        for shard in newest(one).glob("shard-*.h5"):
            same = shard.read_bytes() == (newest(other) / shard.name).read_bytes()
            self.check(same, f"{shard.name} differs")

    def flips(self):
        checkpoint = newest(self.folder / "runs/killed")
        files = sorted(path for path in checkpoint.iterdir())
        sizes = [path.stat().st_size for path in files]
        found = collections.Counter()
        for _ in range(self.arguments.flips):
            # Half by size, half by file: the large ones would have nearly all.
            by_size = self.draw.random() < 0.5
            file = self.draw.choices(files, sizes)[0] if by_size else self.draw.choice(files)
            sound = file.read_bytes()
            at, bit = self.draw.randrange(len(sound)), 1 << self.draw.randrange(8)
            file.write_bytes(sound[:at] + bytes([sound[at] ^ bit]) + sound[at + 1 :])
            verdict = self.braid("inspect", str(checkpoint), "--verify")
            self.check(verdict.returncode == 1, f"{file.name} byte {at}, bit {bit}: not noticed\n{verdict.stdout}")
            found[file.name] += 1
            file.write_bytes(sound)
        print(f"{sum(found.values())} flipped bits noticed: {dict(found)}")

    def damage(self):
        """What `auto` does with a newest checkpoint that is not whole."""
        run = self.folder / "runs/killed"
        kept = self.folder / "kept"
        shutil.copytree(run, kept)
        last = newest(run).name
        ways = {
            "an altered shard": lambda c: flip(c / "shard-00000-of-00001.h5"),
            "an altered index": lambda c: flip(c / "index.h5"),
            "a removed shard": lambda c: (c / "shard-00000-of-00001.h5").unlink(),
            "COMPLETE without its files": lambda c: [f.unlink() for f in c.iterdir() if f.name != "COMPLETE"],
            "no COMPLETE": lambda c: (c / "COMPLETE").unlink(),
        }
        for name, way in ways.items():
            shutil.rmtree(run)
            shutil.copytree(kept, run)
            way(run / "checkpoints" / last)
            refused = self.braid("train", "killed.yaml", "--resume", str(run / "checkpoints" / last))
            self.check(refused.returncode == 1 and last in refused.stderr, f"{name}: --resume PATH: {refused.stderr}")
            outcome = self.braid("train", "killed.yaml")
            self.check(outcome.returncode == 0, f"{name}: {outcome.stderr}")
            told = [line for line in outcome.stdout.splitlines() if "damaged" in line or "continuing" in line]
            self.compare("calm", "killed")
            print(f"{name}:\n    --resume PATH: {refused.stderr.strip()}")
            print("".join(f"    {line}\n" for line in told), end="")


def flip(path):
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--program", default="build/braid")
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--flips", type=int, default=300)
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--seed", type=int, default=1)
    abuse = Abuse(parser.parse_args())
    os.environ["OMP_NUM_THREADS"] = "1"
    abuse.kills()
    abuse.damage()
    abuse.flips()
    shutil.rmtree(abuse.folder)


if __name__ == "__main__":
    main()
