# shellcheck shell=bash
# Shared by the scripts here: progress lines, errors, where LibTorch lies, configuring the build, stages and
# their times, training.
# Sourcing it changes to the root of the checkout.

set -euo pipefail

step() { printf '==> %s\n' "$*"; }
warn() { printf 'warning: %s\n' "$*" >&2; }
die() {
  printf 'error: %s\n' "$*" >&2
  exit 1
}

# Folders from the environment become absolute, and the one that LibTorch is installed into is told
# to cmake/BraidDependencies.cmake, so that both look in the same place.
if [[ -n ${BRAID_LIBTORCH_DIR:-} ]]; then
  BRAID_LIBTORCH_DIR=$(realpath -e -- "$BRAID_LIBTORCH_DIR" 2>/dev/null) ||
    die "BRAID_LIBTORCH_DIR does not name an existing folder. Give the folder that holds include/ and" \
      "lib/ of LibTorch 2.11 or newer, or unset it to use the LibTorch that scripts/setup.sh installs."
  export BRAID_LIBTORCH_DIR
fi
BRAID_PREFIX=$(realpath -m -- "${BRAID_PREFIX:-${XDG_CACHE_HOME:-$HOME/.cache}/braid}")
export BRAID_PREFIX

cd "$(dirname "${BASH_SOURCE[0]}")/.."

# The lib folder of an installed CUDA toolkit 13, or nothing.
cuda_toolkit_libraries() {
  local root
  for root in "${CUDA_HOME:-}" "$(dirname "$(dirname "$(command -v nvcc || echo /-/-)")")" /usr/local/cuda; do
    if [[ -n $root && -e $root/lib64/libcudart.so.13 ]]; then
      realpath "$root/lib64"
      return
    fi
  done
}

has_cuda_compiler() {
  command -v nvcc "${CUDA_HOME:-/usr/local/cuda}/bin/nvcc" /usr/local/cuda/bin/nvcc >/dev/null
}

# Where CMakePresets.json puts a preset's build.
build_folder() { if [[ $1 == release ]]; then echo build; else echo "build-$1"; fi; }

# configure [PRESET]: passes every choice each time, so that none of an earlier run lingers in
# CMake's cache.
configure() {
  local preset=${1:-release}
  step "Configuring the $preset build in $(build_folder "$preset")/"
  cmake --preset "$preset" -DBRAID_TESTS=ON -DBRAID_BENCH=ON \
    -DBRAID_LIBTORCH_DIR="${BRAID_LIBTORCH_DIR:-}" -DBRAID_CUDA="${BRAID_CUDA:-AUTO}"
}

# finish_stage NAME: notes how long the script took since the last one, for print_stages.
stages=()
started=0
finish_stage() {
  stages+=("$(printf '%5d s  %s' $((SECONDS - started)) "$1")")
  started=$SECONDS
}
print_stages() {
  step "Time"
  printf '%s\n' "${stages[@]}" "$(printf '%5d s  in all' "$SECONDS")"
}

# train ARGS...: braid train. Where it fails, or a signal stops it, so does the script.
train() {
  local status=0
  build/braid train "$@" || status=$?
  if ((status > 128)); then step "Stopped by a signal; scripts/$(basename "$0") continues from there"; fi
  ((status == 0)) || exit "$status"
}
