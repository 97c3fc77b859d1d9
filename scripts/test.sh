#!/usr/bin/env bash
# Sets up, builds everything and runs every test. Environment variables: see scripts/setup.sh.
#
#   scripts/test.sh             the release build, in build/
#   scripts/test.sh --fast      only the tests with the label `fast`: under a minute once all is built
#   scripts/test.sh --sanitize  the same tests under AddressSanitizer and UndefinedBehaviorSanitizer,
#                               in build-asan/
# shellcheck source-path=SCRIPTDIR source=lib.sh
source "$(dirname "$0")/lib.sh"

preset=release
labels=()
case $* in
  "") ;;
  --fast) labels=(--build-config Fast --label-regex '^together$') ;;
  --sanitize) preset=asan ;;
  *) die "unknown arguments '$*'; expected none, --fast or --sanitize" ;;
esac

scripts/setup.sh
configure "$preset"
build=$(build_folder "$preset")
jobs=$(nproc)  # before OMP_NUM_THREADS is set, which nproc goes by
step "Building everything"
ninja -C "$build" -j "$jobs"
step "Running the tests (built after $SECONDS s)"
# Tests run side by side, so each gets one thread.
export OMP_NUM_THREADS=1
export UBSAN_OPTIONS="print_stacktrace=1:halt_on_error=1"
exec ctest --test-dir "$build" --parallel "$jobs" --output-on-failure --no-tests=error \
  ${labels[@]+"${labels[@]}"}
