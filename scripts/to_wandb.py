#!/usr/bin/env python3
"""Makes an offline run of Weights & Biases out of a run's folder.

  scripts/to_wandb.py [--project NAME] [--name NAME] [--output DIR] RUN

RUN: a folder with metrics.jsonl and config.yaml. Every number of every record goes to the step it belongs to, under
the key that it has in metrics.jsonl; those of validations as validation/KEY, or validation/SET/KEY. Spikes that a run
was rolled back from become the key rollback/from_step. The configuration becomes the run's, key by key. Numbers that
are not finite are left out.

Nothing is sent anywhere: the run is written into DIR/wandb (default: RUN), and `wandb sync` with the folder that is
printed uploads it. Its id follows from the folder's place: a run is one run there, however often it is uploaded.

Needs the package wandb. Where this Python has none, it is installed into an environment of its own, in
$BRAID_PREFIX (default: ~/.cache/braid).
"""

import argparse
import hashlib
import json
import os
import pathlib
import sys

from own_environment import with_package

WANDB = "wandb==0.31.0"


def fail(message):
    sys.exit(f"error: {message}")


def records_of(path):
    with open(path, encoding="utf-8") as file:
        for number, line in enumerate(file, 1):
            if not line.endswith("\n"):
                print(f"note: {path}:{number}: the last line is cut off and left out", file=sys.stderr)
                return
            try:
                record = json.loads(line)
            except ValueError as error:
                fail(f"{path}:{number}: {error}; braid train mends it")
            if not isinstance(record, dict) or not isinstance(record.get("step"), int):
                fail(f"{path}:{number}: expected an object with a whole number 'step'")
            yield record


def steps_of(path):
    """(step, {key: number}) in the order of steps, each once."""
    step, values = None, {}
    for record in records_of(path):
        if step is not None and record["step"] != step:
            if record["step"] < step:
                fail(f"{path}: step {record['step']} comes after step {step}")
            yield step, values
            values = {}
        step = record["step"]
        prefix = "".join(f"{record[key]}/" for key in ("split", "set") if key in record)
        values.update((prefix + key, value) for key, value in record.items()
                      if key != "step" and isinstance(value, (int, float)))
    if step is not None:
        yield step, values


def configuration(path):
    import yaml  # wandb depends on it
    with open(path, encoding="utf-8") as file:
        return yaml.safe_load(file)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=pathlib.Path, metavar="RUN")
    parser.add_argument("--project", default="braid", help="default: braid")
    parser.add_argument("--name", help="of the run there; default: the folder's")
    parser.add_argument("--output", type=pathlib.Path, metavar="DIR", help="default: RUN")
    arguments = parser.parse_args()
    run = arguments.run.resolve()
    for name in ("metrics.jsonl", "config.yaml"):
        if not (run / name).is_file():
            fail(f"{arguments.run}: has no {name}; expected the folder of a run")
    output = (arguments.output or run).resolve()
    if not output.is_dir():
        fail(f"{output}: no such folder")
    with_package(WANDB)
    os.environ["WANDB_SILENT"] = "true"
    import wandb

    logged = wandb.init(mode="offline",
                        project=arguments.project,
                        name=arguments.name or run.name,
                        id=hashlib.sha256(str(run).encode()).hexdigest()[:16],
                        config=configuration(run / "config.yaml"),
                        dir=str(output),
                        settings=wandb.Settings(x_disable_stats=True, console="off", disable_git=True,
                                                save_code=False))
    folder = pathlib.Path(logged.dir).parent
    steps = 0
    for step, values in steps_of(run / "metrics.jsonl"):
        logged.log(values, step=step)
        steps += 1
    logged.finish()
    print(f"{steps} steps in {folder}; upload them with: wandb sync {folder}")


if __name__ == "__main__":
    main()
