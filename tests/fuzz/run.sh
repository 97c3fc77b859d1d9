#!/usr/bin/env bash
# Builds the fuzzers of the readers and runs each for SECONDS (60 if not given), one after another,
# from the seeds in tests/fuzz/corpus. Needs clang. What is found stays in build-fuzz/NAME-*;
# once it is mended, it belongs to the seeds.
#
#   tests/fuzz/run.sh [SECONDS]
# shellcheck source-path=SCRIPTDIR source=../../scripts/lib.sh
source "$(dirname "$0")/../../scripts/lib.sh"

seconds=${1:-60}
build=build-fuzz
targets=(jsonl yaml token_store)

command -v clang++ >/dev/null || die "fuzzing needs clang++: apt-get install clang"
step "Building the fuzzers in $build/"
mkdir -p "$build"
cmake --preset debug -B "$build" -DCMAKE_CXX_COMPILER=clang++ -DBRAID_FUZZ=ON \
  -DBRAID_LIBTORCH_DIR="${BRAID_LIBTORCH_DIR:-}" >"$build/configure.log" 2>&1 ||
  die "the configuration failed; see $build/configure.log"
ninja -C "$build" "${targets[@]/%/_fuzz}"

status=0
for target in "${targets[@]}"; do
  step "Fuzzing $target for $seconds s"
  mkdir -p "$build/corpus/$target"
  "$build/tests/fuzz/${target}_fuzz" -max_total_time="$seconds" -max_len=4096 -timeout=20 \
    -artifact_prefix="$build/$target-" -print_final_stats=1 -print_funcs=0 \
    -verbosity=0 "$build/corpus/$target" "tests/fuzz/corpus/$target" || status=1
done
exit "$status"
