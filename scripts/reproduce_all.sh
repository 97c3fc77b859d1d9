#!/usr/bin/env bash
# Runs the sweeps of configs/reproductions/, each against the criteria of its page in
# docs/reproductions/, and prints which criteria hold. What is finished is not run again, so after an
# interruption the same command goes on. Prepares the texts that they read.
#
#   scripts/reproduce_all.sh                 all: half an hour of processor time, in two processes
#   scripts/reproduce_all.sh muon residual   these
#
# Tables and pages of plots are in sweeps/NAME/. Ends with status 1 where a run failed.
# shellcheck source-path=SCRIPTDIR source=lib.sh
source "$(dirname "$0")/lib.sh"

folder=configs/reproductions
names=("$@")
if ((!$#)); then
  for file in "$folder"/*.yaml; do
    grep -q '^arms:' "$file" && names+=("$(basename "$file" .yaml)")
  done
fi
for name in "${names[@]}"; do
  [[ -f $folder/$name.yaml ]] || die "there is no reproduction '$name'; expected one of:" \
    "$(cd "$folder" && printf '%s ' *.yaml | sed 's/\.yaml//g')"
done

if [[ ! -x build/braid ]]; then
  scripts/setup.sh
  configure
  ninja -C build braid
fi
for corpus in fortunes repeats; do
  [[ -f corpus/$corpus/$corpus.txt ]] || scripts/prepare_corpus.sh "$corpus" "corpus/$corpus"
done

rows=()
failed=0
for name in "${names[@]}"; do
  step "$name"
  began=$SECONDS status=0
  build/braid sweep "$folder/$name.yaml" --set output="sweeps/$name" || status=$?
  ((status <= 128)) || exit "$status" # stopped by a signal
  ((status == 0)) || failed=1
  outcome=$(sed '1,/^## Criteria/d' "sweeps/$name/comparison.md" 2>/dev/null | grep -v '^$' | tail -1) || true
  ((status == 0)) || outcome="a run failed; $outcome"
  rows+=("$(printf '%-16s %5d s  %s' "$name" $((SECONDS - began)) "$outcome")")
done
step "Criteria (docs/reproductions/NAME.md has the claims, sweeps/NAME/comparison.html the plots)"
printf '%s\n' "${rows[@]}"
exit "$failed"
