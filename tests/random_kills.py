#!/usr/bin/env python3
"""Kills and stops a run again and again, and damages what it saved; everything must survive or be noticed.

    tests/random_kills.py [--program build/braid] [--ranks 1] [--kills 50] [--flips 300] [--seed 1]

A tiny model that saves after every second step is trained once in peace. A second run of it is
killed (half of the times SIGKILL, else a signal that asks to stop; of several ranks any one gets it) at
random moments: while text is prepared, in steps, validations and saves. After each it must continue
from its newest complete checkpoint by itself; a signal that asks to stop must lose no step and end the
program with 128 + its number; and at the end metrics and weights must equal the first run's in every bit. Then checkpoints are damaged in every way, and single bytes of one are
altered; `inspect --verify` must notice each, and training must go on from the checkpoint before.
With root, a disk that fills up is tried as well. Takes some minutes; not part of the suite, which
has the same in small.
"""
import argparse
import collections
import contextlib
import functools
import json
import os
import pathlib
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time

STOPS = [signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGPIPE]
TIMINGS = {"tokens_per_second", "step_seconds"}
ROOT = pathlib.Path(__file__).resolve().parent.parent

CONFIG = """
base: {root}/configs/models/tiny.yaml
run: {{name: {name}}}
data: {{train: [text.txt], validation: [judged.txt], document_separator: "%", seq_len: 64, validation_seq_len: 64}}
train: {{max_steps: {steps}, global_batch_size: 4, micro_batch_size: 2, threads: 1, validate_every_steps: 7}}
checkpoint: {{every_steps: 2, keep_last: 3}}
"""


def metrics(run):
    if not (run / "metrics.jsonl").exists():
        return []
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [{key: value for key, value in line.items() if key not in TIMINGS} for line in lines]


def newest(run):
    return sorted(run.glob("checkpoints/step-????????"))[-1]


def saves_since(run, moment):
    """Whether a checkpoint is being written; what an earlier kill left half written does not count."""
    for path in run.glob("checkpoints/*.tmp"):
        with contextlib.suppress(FileNotFoundError):
            if path.stat().st_mtime > moment:
                return True
    return False


class Abuse:
    def __init__(self, arguments):
        self.arguments = arguments
        self.program = str(pathlib.Path(arguments.program).resolve())
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="braid-kills-"))
        self.draw = random.Random(arguments.seed)
        words = [str(self.draw.random()) for _ in range(90000)]
        texts = [" ".join(words[i : i + 9]) for i in range(0, len(words), 9)]
        (self.folder / "text.txt").write_text("\n%\n".join(texts * 20))  # takes its time to be prepared
        (self.folder / "judged.txt").write_text("\n%\n".join(texts[:200]))

    def config(self, name):
        path = self.folder / f"{name}.yaml"
        path.write_text(CONFIG.format(root=ROOT, name=name, steps=self.arguments.steps))
        return path.name

    def braid(self, *command):
        return subprocess.run([self.program, *command], cwd=self.folder, text=True, capture_output=True)

    def launch(self, *command):
        """The words that start `braid train` on as many ranks as asked for."""
        ranks = self.arguments.ranks
        mpirun = ["mpirun", "-n", str(ranks), "--oversubscribe", "--bind-to", "none"] if ranks > 1 else []
        return [*mpirun, self.program, "train", *command]

    def train(self, *command):
        return subprocess.run(self.launch(*command), cwd=self.folder, text=True, capture_output=True)

    def kill_one(self, process, number):
        """Any rank; False where there is none yet."""
        if self.arguments.ranks == 1:
            process.send_signal(number)
            return True
        children = pathlib.Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        if not children:
            return False
        os.kill(int(self.draw.choice(children)), number)
        return True

    def wait_a_while(self, process, saves, whole):
        """Until any moment of start-up and the first half of the steps; or, one time in three, of a save."""
        end = time.monotonic() + self.draw.uniform(0, whole / 2)
        if self.draw.random() < 1 / 3:
            while process.poll() is None and not saves():
                time.sleep(0.001)
            end = time.monotonic() + self.draw.uniform(0, 0.03)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(max(0, end - time.monotonic()))

    def check(self, good, message):
        if not good:
            sys.exit(f"FAILED: {message} (left in {self.folder})")

    def kills(self):
        begin = time.monotonic()
        calm = self.train(self.config("calm"))
        self.check(calm.returncode == 0, calm.stderr)
        whole = time.monotonic() - begin
        killed, in_save, starts, lost, slowest = 0, 0, 0, [], 0
        sent = collections.Counter()
        stopped = collections.Counter()  # where those were that asked to stop
        config = self.config("killed")
        run = self.folder / "runs/killed"
        while True:
            starts += 1
            reached = len([line for line in metrics(run) if "split" not in line])
            complete = int(newest(run).name[5:]) if any(run.glob("checkpoints/step-????????/COMPLETE")) else 0
            if run.exists() and self.draw.random() < 1 / 4:  # prepared again, to be killed in that
                shutil.rmtree(run / "data", ignore_errors=True)
            process = subprocess.Popen(
                self.launch(config), cwd=self.folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
            saves = functools.partial(saves_since, run, time.time())
            died, number = None, self.draw.choice([signal.SIGKILL] * len(STOPS) + STOPS)
            if killed < self.arguments.kills:
                self.wait_a_while(process, saves, whole)
                if process.poll() is None and self.kill_one(process, number):
                    died = time.monotonic()
                    killed += 1
                    sent[number.name] += 1
                    in_save += saves()
            output = process.communicate()[0].decode(errors="replace")
            if died:
                slowest = max(slowest, time.monotonic() - died)
            if died and number != signal.SIGKILL:
                stopped[self.check_stop(process.returncode, number, output, run)] += 1
            continued = re.search(r"continuing after step (\d+)", output)
            if continued:
                self.check(int(continued[1]) == complete, f"continued after {continued[1]}, not {complete}")
                lost.append(max(0, reached - complete))
            if died and killed % 10 == 0:
                print(
                    f"{killed} signals, {in_save} while saving, at most {max(lost, default=0)} steps lost;"
                    f" {dict(sent)}; those that asked to stop: {dict(stopped)}",
                    flush=True,
                )
            if process.returncode == 0:
                if killed >= self.arguments.kills:
                    break
                # Finished before it was killed often enough: begin again, and count on.
                self.compare("calm", "killed")
                shutil.rmtree(run)
            else:
                self.check(died, f"start {starts} ended by itself:\n{output}")
        self.compare("calm", "killed")
        print(
            f"{killed} signals ({dict(sent)}), {in_save} of them while saving; those that asked to stop found"
            f" {dict(stopped)}; {starts} starts, {len(lost)} of them from a checkpoint,"
            f" at most {max(lost)} steps lost; all processes gone {slowest:.1f} s after a kill at most;"
            " metrics and weights as without"
        )

    def check_stop(self, status, number, output, run):
        """A signal that asked to stop lost nothing; returns what it met."""
        if status == 0:
            return "the end"
        if "the same command continues" in output:
            self.check(status == 128 + number, f"{number.name} ended the program with {status}:\n{output}")
            steps = [line for line in metrics(run) if "split" not in line]
            saved = int(newest(run).name[5:])
            self.check(saved == steps[-1]["step"], f"{number.name} lost steps: {steps[-1]['step']}, saved {saved}")
            owes = saved % 7 == 0 and "split" not in metrics(run)[-1]
            return "a validation" if owes else "a step"
        if "braid: stopped by SIG" in output:
            self.check(status == 128 + number, f"{number.name} ended the program with {status}:\n{output}")
            return "preparation"
        # It died of it, before it could be asked: under mpirun with a status of 128 + the signal.
        self.check(status in (-number, 128 + number), f"{number.name} ended the program with {status}:\n{output}")
        return "the start"

    def compare(self, one, other):
        one, other = (self.folder / "runs" / name for name in (one, other))
        self.check(metrics(one) == metrics(other), "metrics differ")
        for shard in newest(one).glob("shard-*.h5"):
            same = shard.read_bytes() == (newest(other) / shard.name).read_bytes()
            self.check(same, f"{shard.name} differs")

    def flips(self):
        checkpoint = newest(self.folder / "runs/killed")
        names = sorted(path.name for path in checkpoint.iterdir())
        sound = {name: (checkpoint / name).read_bytes() for name in names}
        found = collections.Counter()
        # Many damaged copies in one run's folder, so that one command judges them all.
        run = self.folder / "runs/flipped"
        for first in range(0, self.arguments.flips, 50):
            shutil.rmtree(run, ignore_errors=True)
            shutil.copytree(self.folder / "runs/killed", run, ignore=shutil.ignore_patterns("step-*"))
            damaged = {}
            for number in range(first, min(first + 50, self.arguments.flips)):
                # Half by size, half by file: the large ones would have nearly all.
                by_size = self.draw.random() < 0.5
                name = self.draw.choices(names, [len(sound[n]) for n in names])[0] if by_size else self.draw.choice(names)
                copy = run / f"checkpoints/step-{number + 1:08}"
                shutil.copytree(checkpoint, copy)
                at, other = self.draw.randrange(len(sound[name])), self.draw.randrange(1, 256)
                data = bytearray(sound[name])
                data[at] ^= other
                (copy / name).write_bytes(data)
                damaged[copy.name] = (name, at, other)
            outcome = self.braid("inspect", str(run), "--verify", "--json")
            self.check(outcome.returncode == 1, outcome.stderr)
            verdicts = json.loads(outcome.stdout)["verified"]
            for folder, (name, at, other) in damaged.items():
                bad = [v for v in verdicts if f"/{folder}/" in v["file"] + "/" and not v["sound"]]
                self.check(bad, f"{folder}: {name} byte {at} ^ {other}: not noticed")
                found[name] += 1
        shutil.rmtree(run)
        print(f"{sum(found.values())} altered bytes noticed: {dict(found)}")

    def damage(self):
        """What `auto` does with a newest checkpoint that is not whole."""
        run = self.folder / "runs/killed"
        kept = self.folder / "kept"
        shutil.copytree(run, kept)
        last = newest(run).name
        ways = {
            "an altered shard": lambda c: flip(last_shard(c)),
            "an altered index": lambda c: flip(c / "index.h5"),
            "a removed shard": lambda c: last_shard(c).unlink(),
            "COMPLETE without its files": lambda c: [f.unlink() for f in c.iterdir() if f.name != "COMPLETE"],
            "no COMPLETE": lambda c: (c / "COMPLETE").unlink(),
        }
        for name, way in ways.items():
            shutil.rmtree(run)
            shutil.copytree(kept, run)
            way(run / "checkpoints" / last)
            refused = self.train("killed.yaml", "--resume", str(run / "checkpoints" / last))
            self.check(refused.returncode != 0 and last in refused.stderr, f"{name}: --resume PATH: {refused.stderr}")
            outcome = self.train("killed.yaml")
            self.check(outcome.returncode == 0, f"{name}: {outcome.stderr}")
            told = [line for line in outcome.stdout.splitlines() if "damaged" in line or "continuing" in line]
            self.compare("calm", "killed")
            said = next(line for line in refused.stderr.splitlines() if line.startswith("braid: "))
            print(f"{name}:\n    --resume PATH: {said}")
            print("".join(f"    {line}\n" for line in told), end="")


    def full_disk(self):
        """A disk with room for some checkpoints only."""
        if os.geteuid() != 0:
            return print("a full disk: not tried, for want of root")
        disk = self.folder / "disk"
        disk.mkdir()
        calm = self.folder / "runs/calm"
        checkpoint = sum(f.stat().st_size for f in newest(calm).iterdir())
        text = sum(f.stat().st_size for f in (calm / "data").iterdir()) + (calm / "validation.jsonl").stat().st_size
        small = f"size={int(2.6 * checkpoint) + text + (1 << 20)}"
        subprocess.run(["mount", "-t", "tmpfs", "-o", small, "tmpfs", disk], check=True)
        with contextlib.ExitStack() as at_end:
            at_end.callback(subprocess.run, ["umount", disk], check=True)
            config = self.config("full")
            command = [config, "--set", f"run.output_dir={disk}"]
            outcome = self.train(*command)
            told = [line for line in outcome.stderr.splitlines() if line.startswith("braid: ")]
            self.check(
                outcome.returncode != 0 and len(told) == 1 and "No space left on device" in told[0],
                f"full disk: {outcome.stderr}",
            )
            left = [folder.name for folder in (disk / "full/checkpoints").glob("step-????????")]
            sound = self.braid("inspect", str(disk / "full/checkpoints" / max(left)), "--verify")
            self.check(sound.returncode == 0, sound.stdout)
            subprocess.run(["mount", "-o", "remount,size=1g", disk], check=True)
            outcome = self.train(*command)
            self.check(outcome.returncode == 0, outcome.stderr)
            shutil.copytree(disk / "full", self.folder / "runs/full")
        self.compare("calm", "full")
        print(f"a full disk: {told[0]}\n    with more room it continued to the same numbers")


def last_shard(checkpoint):
    return sorted(checkpoint.glob("shard-*.h5"))[-1]


def flip(path):
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--program", default="build/braid")
    parser.add_argument("--ranks", type=int, default=1)
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--flips", type=int, default=300, help="0 = kills alone")
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--seed", type=int, default=1)
    abuse = Abuse(parser.parse_args())
    os.environ |= {"OMP_NUM_THREADS": "1", "OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1"}
    abuse.kills()
    if abuse.arguments.flips > 0:
        abuse.damage()
        abuse.full_disk()
        abuse.flips()
    shutil.rmtree(abuse.folder)


if __name__ == "__main__":
    main()
