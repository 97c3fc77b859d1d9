#!/usr/bin/env bash
# Applies every patch of docs/examples to a copy of the last commit, builds it, runs the tests that the patches
# add to, and trains some steps with each. Not part of the tests: the build takes as long as any first one.
#
#   tests/docs/build_examples.sh [FOLDER]     where the copy goes; a temporary folder by default
set -euo pipefail
cd "$(dirname "$0")/../.."
copy=$(realpath -m -- "${1:-$(mktemp -d)}")
mkdir -p "$copy"
git archive HEAD | tar -x -C "$copy"
for patch in "$copy"/docs/examples/*.patch; do
  echo "==> $(basename "$patch")"
  patch --quiet -p1 -d "$copy" <"$patch" || { echo "$patch does not apply" >&2; exit 1; }
done
cd "$copy"
bash -c 'source scripts/lib.sh; configure release'
ninja -C build braid loading_test braid_model_tests braid_optim_tests braid_plan_tests braid_train_tests

tests() { build/tests/"$1" --gtest_brief=1 --gtest_filter="$2"; }
tests loading/loading_test 'Task*'
tests model/braid_model_tests 'LayerKinds*:Causality*:Decode*:Packing*:Gradient*'
tests optim/braid_optim_tests 'Lion*:Optimizer*:Ownership*'
tests plan/braid_plan_tests 'Flops*'
tests train/braid_train_tests '*Monitor*'

rm -rf runs
train() {
  build/braid train "$@" --set train.max_steps=20 --set train.validate_every_steps=10 --set checkpoint.every_steps=10 \
    --set logging.monitor_every_steps=10
}
train configs/tasks/reversal.yaml
train configs/tasks/recall.yaml --set run.name=wide --set 'model.layer_types=[wide, window]'
train configs/tasks/recall.yaml configs/ablations/lion.yaml --set run.name=lion \
  --set 'stability.alarms=[{metric: weight_max, above: 100}]'
build/braid sweep configs/sweeps/window.yaml --dry-run || true  # its text may not be there

# Lion stopped after 10 steps and continued gives the numbers of the run that was not.
cp -r runs/lion runs/continued
rm -rf runs/continued/checkpoints/step-00000020
build/braid train runs/continued/config.yaml
python3 - <<'PYTHON'
import json

def numbers(run):
    times = ("step_seconds", "tokens_per_second")
    return [{key: value for key, value in json.loads(line).items() if key not in times}
            for line in open(f"runs/{run}/metrics.jsonl")]

lion, continued = numbers("lion"), numbers("continued")
assert lion == continued, "the continued run has other numbers"
assert "update_rms.lion.head" in lion[9] and "weight_max.head" in lion[9], sorted(lion[9])
assert any("accuracy.backwards" in record for record in numbers("reversal"))
print("Every example works.")
PYTHON
