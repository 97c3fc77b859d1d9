#!/usr/bin/env python3
"""Reads a run's event file with TensorBoard's own code and compares it with metrics.jsonl.

    python3 tests/peers/tensorboard_events.py build/braid [--kills 3] [--seed 1]

A tiny run with logging.tensorboard is killed at random moments (SIGKILL), continued each time, and read at its end: every
number of every record must be there once, at its step, and nothing else; so must the histograms of expert
loads, the texts that the model wrote, and the configuration as text. Then the same of a run that had TensorBoard switched on half way. Needs
the package tensorboard. Exit status 1 if anything differs.
"""
import argparse
import json
import math
import pathlib
import random
import struct
import subprocess
import sys
import tempfile
import time

from tensorboard.backend.event_processing import event_accumulator, event_file_loader

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
STEPS = 60
CONFIG = """
base: {root}/configs/models/tiny.yaml
run: {{name: {name}}}
data: {{train: [text.txt], validation: {{web: judged.txt, books: judged.txt}}, document_separator: "%", seq_len: 64, validation_seq_len: 64}}
train: {{max_steps: {steps}, global_batch_size: 4, micro_batch_size: 2, threads: 1, validate_every_steps: 7}}
checkpoint: {{every_steps: 2}}
logging: {{tensorboard: {tensorboard}, monitor_every_steps: 5, samples: {{count: 2, prompts: ["0.1 0", ""], max_tokens: 8}}}}
"""


def single(number):
    """As a float32, which is what events hold."""
    return struct.unpack("f", struct.pack("f", number))[0]


def tag_of(key, record):
    parts = [record["split"]] if "split" in record else []
    parts += [record["set"]] if "set" in record else []
    return "/".join([*parts, key.replace(".", "/", 1)])


def wanted(run):
    """(tag, step) -> value of all records."""
    scalars = {}
    for line in (run / "metrics.jsonl").read_text().splitlines():
        record = json.loads(line)
        if record.get("split") == "sample":
            continue
        for key, value in record.items():
            if key not in ("step", "split", "set") and not isinstance(value, str):
                place = (tag_of(key, record), record["step"])
                assert place not in scalars, f"metrics.jsonl has {place} twice"
                scalars[place] = single(math.nan if value is None else value)
    return scalars


def wanted_texts(run):
    """(tag, step) -> text of all samples."""
    texts = {}
    for line in (run / "metrics.jsonl").read_text().splitlines():
        record = json.loads(line)
        if record.get("split") == "sample":
            prompt = record["prompt"]
            tag = f"sample/{prompt or 'beginning of a document'}, {record['number'] + 1}"
            text = (prompt + record["text"]).replace("\n", "\n    ")
            texts[tag, record["step"]] = "    " + text
    return texts


def compare(run):
    errors = []
    want = wanted(run)
    files = list((run / "tensorboard").iterdir())
    if len(files) != 1:
        errors.append(f"expected one event file, found {files}")
    last = 0
    for event in event_file_loader.LegacyEventFileLoader(str(files[0])).Load():
        if event.step < last:
            errors.append(f"step {event.step} comes after step {last}")
        last = event.step
    events = event_accumulator.EventAccumulator(
        str(run / "tensorboard"), {kind: 0 for kind in ("scalars", "tensors", "histograms")},
        purge_orphaned_data=False)
    events.Reload()
    got = {}
    for tag in events.Tags()["scalars"]:
        for scalar in events.Scalars(tag):
            if (tag, scalar.step) in got:
                errors.append(f"{tag} has step {scalar.step} twice")
            got[tag, scalar.step] = scalar.value
    for place in sorted(want.keys() | got.keys()):
        a, b = want.get(place), got.get(place)
        same = a == b or (a is not None and b is not None and math.isnan(a) and math.isnan(b))
        if not same:
            errors.append(f"{place}: metrics.jsonl has {a}, the events {b}")
    histograms = 0
    for tag in events.Tags()["histograms"]:
        steps = [histogram.step for histogram in events.Histograms(tag)]
        histograms += len(steps)
        if steps != sorted(set(steps)):
            errors.append(f"histogram {tag} has steps {steps}")
        for histogram in events.Histograms(tag):
            value = histogram.histogram_value
            if value.num != sum(value.bucket) or abs(value.sum - value.num) > 1e-6 * value.num:
                errors.append(f"histogram {tag} at {histogram.step}: {value}")  # loads over their mean
    want_texts = wanted_texts(run)
    got_texts = {(tag, event.step): event.tensor_proto.string_val[0].decode()
                 for tag in events.Tags()["tensors"] if tag.startswith("sample/") for event in events.Tensors(tag)}
    if got_texts != want_texts or not want_texts:
        errors.append(f"texts of samples: {got_texts}, expected {want_texts}")
    text = events.Tensors("config.yaml")[-1].tensor_proto.string_val[0].decode()
    yaml = (run / "config.yaml").read_text()
    if text != f"```yaml\n{yaml}```\n":
        errors.append("the text config.yaml is not the run's")
    print(f"{run.name}: {len(got)} numbers of {len(events.Tags()['scalars'])} tags, {histograms} histograms, "
          f"{len(got_texts)} texts, {len(errors)} errors")
    for error in errors[:20]:
        print("  " + error)
    return not errors


class Runs:
    def __init__(self, program, seed):
        self.program = str(pathlib.Path(program).resolve())
        self.draw = random.Random(seed)
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="braid-events-"))
        words = [str(self.draw.random()) for _ in range(9000)]
        texts = [" ".join(words[i : i + 9]) for i in range(0, len(words), 9)]
        (self.folder / "text.txt").write_text("\n%\n".join(texts))
        (self.folder / "judged.txt").write_text("\n%\n".join(texts[:20]))

    def command(self, name, tensorboard="true"):
        path = self.folder / f"{name}.yaml"
        path.write_text(CONFIG.format(root=ROOT, name=name, steps=STEPS, tensorboard=tensorboard))
        return [self.program, "train", path.name]

    def start(self, command):
        return subprocess.Popen(command, cwd=self.folder, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)

    def finish(self, command):
        done = subprocess.run(command, cwd=self.folder, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr

    def steps_of(self, name):
        path = self.folder / "runs" / name / "metrics.jsonl"
        return path.read_text().count("\n") if path.exists() else 0

    def killed(self, kills):
        command = self.command("killed")
        for i in range(kills):
            process = self.start(command)
            lines = self.steps_of("killed") + self.draw.randrange(3, STEPS // kills)
            while process.poll() is None and self.steps_of("killed") < lines:
                time.sleep(0.002)
            process.kill()
            process.wait()
            print(f"killed after {self.steps_of('killed')} records")
        self.finish(command)
        return compare(self.folder / "runs/killed")

    def switched_on_later(self):
        self.finish([*self.command("later", "false"), "--stop-at-step", "20"])
        self.finish(self.command("later", "true"))
        return compare(self.folder / "runs/later")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("program")
    parser.add_argument("--kills", type=int, default=3)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    runs = Runs(arguments.program, arguments.seed)
    sys.exit(0 if all([runs.killed(arguments.kills), runs.switched_on_later()]) else 1)


if __name__ == "__main__":
    main()
