#!/usr/bin/env bash
# Sets up, builds everything and runs every test. Environment variables: see scripts/setup.sh.
# shellcheck source-path=SCRIPTDIR source=lib.sh
source "$(dirname "$0")/lib.sh"

scripts/setup.sh
configure
step "Building everything"
ninja -C build -j "$(nproc)"
step "Running all tests (built after $SECONDS s)"
# Tests run side by side, so each gets one thread.
export OMP_NUM_THREADS=1
exec ctest --test-dir build --parallel "$(nproc)" --output-on-failure --no-tests=error
