#!/usr/bin/env bash
# What dividing the work among ranks costs: steps of 8 x 1024 tokens of one model (bench/ranks.yaml)
# on one rank with N threads, and on N ranks with one thread each, data-parallel and expert-parallel.
#
#   bench/ranks_bench.sh [RANKS] [STEPS] [--set a.b=c ...]     default 2 ranks, 5 steps
#
# Prints tokens/s of the median step, the first one left out, and the share of the one rank's.
# shellcheck source-path=SCRIPTDIR source=../scripts/lib.sh
source "$(dirname "$0")/../scripts/lib.sh"

braid=${BRAID:-build/braid}
ranks=2 steps=5
if [[ ${1:-} =~ ^[0-9]+$ ]]; then ranks=$1 && shift; fi
if [[ ${1:-} =~ ^[0-9]+$ ]]; then steps=$1 && shift; fi
[[ -x $braid ]] || die "$braid is missing; scripts/quickstart.sh builds it"

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
awk 'BEGIN { srand(1); for (d = 0; d < 40; ++d) { for (w = 0; w < 8000; ++w) printf "%c%c%c ",
  97 + rand() * 26, 97 + rand() * 26, 97 + rand() * 26; printf "\n%%\n" } }' >"$work/text"

# tokens_per_second NAME THREADS COMMAND...: of the median step.
tokens_per_second() {
  local name=$1 threads=$2
  shift 2
  "$@" --set run.output_dir="$work/runs" --set run.name="$name" --set data.train="[$work/text]" \
    --set train.threads="$threads" --set train.max_steps=$((steps + 1)) --set checkpoint.every_steps=0 \
    >"$work/log" 2>&1 || die "$(tail -1 "$work/log")"
  sed -n 's/.*"step_seconds":\([0-9.e-]*\).*/\1/p' "$work/runs/$name/metrics.jsonl" | tail -n +2 |
    sort -g | awk '{ s[NR] = $1 } END { printf "%.0f\n", 8 * 1024 / s[int((NR + 1) / 2)] }'
}

one=$(tokens_per_second one "$ranks" "$braid" train bench/ranks.yaml "$@")
echo "1 rank x $ranks threads: $one tokens/s"
for grid in data expert; do
  expert=$([[ $grid == expert ]] && echo "$ranks" || echo 1)
  many=$(tokens_per_second "$grid" 1 scripts/mpirun.sh -n "$ranks" "$braid" train bench/ranks.yaml "$@" \
    --set parallel.expert="$expert")
  awk -v n="$ranks" -v g="$grid" -v a="$one" -v b="$many" \
    'BEGIN { printf "%d ranks x 1 thread, %s-parallel: %d tokens/s, %.2f of one rank\n", n, g, b, b / a }'
done
