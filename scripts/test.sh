#!/usr/bin/env bash
# Sets up, builds everything and runs every test. Where a CUDA toolkit 13 is installed, everything includes
# the plugin for GPUs (scripts/setup.sh --cuda, 765 MB more); BRAID_CUDA=OFF leaves it out. Other environment
# variables: see scripts/setup.sh.
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

cuda=()
if [[ $preset == release && ${BRAID_CUDA:-} != OFF && -z ${BRAID_LIBTORCH_DIR:-} ]] && has_cuda_compiler &&
  [[ -n $(cuda_toolkit_libraries) ]]; then
  cuda=(--cuda)
fi
scripts/setup.sh ${cuda[@]+"${cuda[@]}"}
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
