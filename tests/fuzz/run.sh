#!/usr/bin/env bash
# Builds the fuzzers of the readers and runs each for SECONDS (60 if not given), all at once,
# from the seeds in tests/fuzz/corpus. Needs clang. What is found stays in build-fuzz/NAME-*;
# once it is mended, it belongs to the seeds.
#
#   tests/fuzz/run.sh [SECONDS]
# shellcheck source-path=SCRIPTDIR source=../../scripts/lib.sh
source "$(dirname "$0")/../../scripts/lib.sh"

seconds=${1:-60}
build=build-fuzz
targets=(adapter jsonl samples yaml token_store safetensors tokenizer)

command -v clang++ >/dev/null || die "fuzzing needs clang++: apt-get install clang"
step "Building the fuzzers in $build/"
mkdir -p "$build"
cmake --preset asan -B "$build" -DCMAKE_C_COMPILER=clang -DCMAKE_CXX_COMPILER=clang++ -DBRAID_FUZZ=ON \
  -DBRAID_SANITIZE=address,undefined,fuzzer-no-link -DBRAID_LIBTORCH_DIR="${BRAID_LIBTORCH_DIR:-}" \
  >"$build/configure.log" 2>&1 ||
  die "the configuration failed; see $build/configure.log"
ninja -C "$build" "${targets[@]/%/_fuzz}"

step "Fuzzing ${targets[*]} for $seconds s"
export UBSAN_OPTIONS="print_stacktrace=1:halt_on_error=1"
declare -A running
for target in "${targets[@]}"; do
  mkdir -p "$build/corpus/$target"
  "$build/tests/fuzz/${target}_fuzz" -max_total_time="$seconds" -max_len=4096 -timeout=20 \
    -artifact_prefix="$build/$target-" -print_final_stats=1 -print_funcs=0 \
    -verbosity=0 "$build/corpus/$target" "tests/fuzz/corpus/$target" \
    >"$build/$target.log" 2>&1 &
  running[$target]=$!
done
status=0
for target in "${targets[@]}"; do
  result="nothing found"
  wait "${running[$target]}" || { status=1 && result="see $build/$target.log"; }
  runs=$(awk '/number_of_executed_units/ { print $2 }' "$build/$target.log")
  echo "$target: ${runs:-0} runs, $result"
done
exit "$status"
