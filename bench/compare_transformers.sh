#!/usr/bin/env bash
# Training throughput beside Hugging Face transformers 5.17 on one model (bench/peer.yaml), two
# threads, both in turn on this machine. Installs the peer into a venv in the cache folder.
#
#   bench/compare_transformers.sh [LENGTH[:bfloat16] ...]     default 256 1024 2048 4096
#
# Beyond 4096 tokens the peer recomputes its layers, for want of memory; a step takes it minutes.
# shellcheck source-path=SCRIPTDIR source=../scripts/lib.sh
source "$(dirname "$0")/../scripts/lib.sh"

braid=${BRAID:-build/braid}
peer=${BRAID_PEER_VENV:-$BRAID_PREFIX/peer}
lengths=("$@")
[[ $# -gt 0 ]] || lengths=(256 1024 2048 4096)
[[ -x $braid ]] || die "$braid is missing; scripts/quickstart.sh builds it"
for case in "${lengths[@]}"; do
  [[ $case =~ ^[0-9]+(:(float32|bfloat16))?$ ]] || die "$case is not LENGTH or LENGTH:bfloat16"
done
if [[ ! -x $peer/bin/python ]]; then
  step "Installing transformers 5.17.0 in $peer"
  python3 -m venv "$peer"
  "$peer/bin/pip" install --quiet torch==2.11.0 transformers==5.17.0
fi

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
awk 'BEGIN { srand(1); for (d = 0; d < 40; ++d) { for (w = 0; w < 8000; ++w) printf "%c%c%c ",
  97 + rand() * 26, 97 + rand() * 26, 97 + rand() * 26; printf "\n%%\n" } }' >"$work/text"

# The best and the median of the seconds on standard input, the first two left out.
summary() { tail -n +3 | sort -g | awk '{ s[NR] = $1 } END { print s[1], s[int((NR + 1) / 2)] }'; }

step "tokens/s, best step (median), steps of one sequence: forward, backward, clipping, AdamW"
for case in "${lengths[@]}"; do
  length=${case%%:*} dtype=float32
  [[ $case == "$length" ]] || dtype=${case#*:}
  steps=$((length <= 1024 ? 20 : 8)) run=n$length-$dtype
  read -r best median < <(
    "$braid" train bench/peer.yaml --set run.output_dir="$work/runs" --set run.name="$run" \
      --set train.dtype="$dtype" --set data.train="[$work/text]" --set data.seq_len="$length" \
      --set train.max_steps=$steps \
      >"$work/log" 2>&1 || die "$(tail -1 "$work/log")"
    sed -n 's/.*"step_seconds":\([0-9.e-]*\).*/\1/p' "$work/runs/$run/metrics.jsonl" | summary
  )
  peer_steps=$((length <= 1024 ? 10 : length <= 4096 ? 5 : 3))
  peer_options=("$dtype")
  ((length <= 4096)) || peer_options+=(recompute)
  read -r peer_best peer_median < <(
    "$peer/bin/python" bench/transformers_step.py "$length" $peer_steps "${peer_options[@]}" | summary
  )
  awk -v label="$case" -v n="$length" -v b="$best" -v m="$median" -v pb="$peer_best" -v pm="$peer_median" 'BEGIN {
    printf "1 x %s: Braid %.0f (%.0f), transformers %.0f (%.0f), ratio %.1f (%.1f)\n",
      label, n / b, n / m, n / pb, n / pm, pb / b, pm / m }'
done
