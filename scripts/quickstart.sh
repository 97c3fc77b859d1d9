#!/usr/bin/env bash
# From a fresh checkout to a trained model: sets up, builds the program, prepares a real corpus,
# trains on it, and shows the loss curve, the comparison with gzip and xz, and a sample. Run again,
# it continues where it stopped. Environment variables: see scripts/setup.sh.
# shellcheck source-path=SCRIPTDIR source=lib.sh
source "$(dirname "$0")/lib.sh"
export LC_ALL=C

run=runs/quickstart

scripts/setup.sh
finish_stage "set-up"

configure
step "Building the program"
ninja -C build -j "$(nproc)" braid
finish_stage "build"

scripts/prepare_corpus.sh fortunes corpus/fortunes
finish_stage "corpus"

step "Training (configs/quickstart.yaml, run directory $run)"
train configs/quickstart.yaml
finish_stage "training"

step "Loss curve"
awk -f scripts/loss_curve.awk "$run/metrics.jsonl"

step "The same validation text, in bits per byte"
text() {
  python3 -c 'import json, sys
for line in open(sys.argv[1], encoding="utf-8"):
    sys.stdout.buffer.write(json.loads(line)["text"].encode())' "$run/validation.jsonl"
}
bytes=$(text | wc -c)
braid=$(sed -nE '/"split": *"validation"/s/.*"bits_per_byte": *([0-9.eE+-]+).*/\1/p' \
  "$run/metrics.jsonl" | tail -n 1)
[[ -n $braid ]] || die "$run/metrics.jsonl has no validation line with \"bits_per_byte\""
gzip=$(text | gzip -9 | wc -c)
xz=$(text | xz -9 | wc -c)
awk -v bytes="$bytes" -v gzip="$gzip" -v xz="$xz" -v braid="$braid" 'BEGIN {
  printf "  gzip -9  %.3f\n  xz -9    %.3f\n  braid    %.3f   (%d bytes of text)\n",
         gzip * 8 / bytes, xz * 8 / bytes, braid, bytes
}'

step "A sample"
build/braid generate "$run" --prompt "The first rule of" --max-tokens 300 --seed 1 --temperature 0.7
echo
finish_stage "results"

print_stages
awk -v bytes="$bytes" -v gzip="$gzip" -v braid="$braid" 'BEGIN {exit !(braid < gzip * 8 / bytes)}' ||
  die "the model ends above gzip -9 on its validation text. With the settings of" \
    "configs/quickstart.yaml as they come it ends well below: look at the loss curve above."
