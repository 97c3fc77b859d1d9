#!/usr/bin/env bash
# Whole training steps under `braid train --profile`: tokens/s, model FLOPs against the GEMM peak of
# the same run, peak memory, time by part.
#
#   bench/step_bench.sh CASE ... [-- --set key=value ...]
#
# CASE is MODEL:SEQUENCESxLENGTH[:DTYPE[:STEPS]]: MODEL peer or wide (bench/*.yaml), or long (peer
# with Flash's ratios); DTYPE float32 (default) or bfloat16; STEPS 6, of which the first is not
# counted.  E.g.: peer:4x1024 peer:4x1024:bfloat16 wide:8x1024 long:1x65536:float32:2
# shellcheck source-path=SCRIPTDIR source=../scripts/lib.sh
source "$(dirname "$0")/../scripts/lib.sh"

braid=${BRAID:-build/braid}
[[ -x $braid ]] || die "$braid is missing; scripts/quickstart.sh builds it"
cases=()
while [[ $# -gt 0 && $1 != -- ]]; do
  cases+=("$1")
  shift
done
[[ $# -eq 0 ]] || shift
[[ ${#cases[@]} -gt 0 ]] || die "no case given; for example: $0 peer:4x1024 wide:8x1024:bfloat16"

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
# Documents longer than any sequence.
awk 'BEGIN { srand(1); for (d = 0; d < 4; ++d) { for (w = 0; w < 150000; ++w) printf "%c%c%c ",
  97 + rand() * 26, 97 + rand() * 26, 97 + rand() * 26; printf "\n%%\n" } }' >"$work/text"

for case in "${cases[@]}"; do
  [[ $case =~ ^(peer|wide|long):([0-9]+)x([0-9]+)(:(float32|bfloat16|float64))?(:([0-9]+))?$ ]] ||
    die "case $case is not MODEL:SEQUENCESxLENGTH[:DTYPE[:STEPS]] with MODEL peer, wide or long"
  model=${BASH_REMATCH[1]} sequences=${BASH_REMATCH[2]} length=${BASH_REMATCH[3]}
  dtype=${BASH_REMATCH[5]:-float32} steps=${BASH_REMATCH[7]:-6}
  settings=()
  if [[ $model == long ]]; then
    model=peer
    settings=(--set 'model.compress_ratios=[0,0,4,128,4,0]')
  fi
  step "$case"
  "$braid" train "bench/$model.yaml" --profile --set run.output_dir="$work/runs" \
    --set run.name="${case//[:]/-}" --set data.train="[$work/text]" --set data.seq_len="$length" \
    --set data.validation_fraction=0 --set train.global_batch_size="$sequences" \
    --set train.micro_batch_size="$sequences" --set train.dtype="$dtype" \
    --set train.max_steps="$steps" "${settings[@]}" "$@" >"$work/log" 2>&1 ||
    die "$(tail -1 "$work/log")"
  sed -n '/^profile:/,$p' "$work/log"
done
