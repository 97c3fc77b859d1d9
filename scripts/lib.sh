# shellcheck shell=bash
# Shared by the scripts here: progress lines, errors, where LibTorch lies, configuring the build.
# Sourcing it changes to the root of the checkout.

set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

step() { printf '==> %s\n' "$*"; }
warn() { printf 'warning: %s\n' "$*" >&2; }
die() {
  printf 'error: %s\n' "$*" >&2
  exit 1
}

# Build tools name a missing folder badly, so a user's own LibTorch becomes an absolute path first.
if [[ -n ${BRAID_LIBTORCH_DIR:-} ]]; then
  BRAID_LIBTORCH_DIR=$(realpath -e -- "$BRAID_LIBTORCH_DIR" 2>/dev/null) ||
    die "BRAID_LIBTORCH_DIR does not name an existing folder. Give the folder that holds include/ and" \
      "lib/ of LibTorch 2.11 or newer, or unset it to use the LibTorch that scripts/setup.sh installs."
  export BRAID_LIBTORCH_DIR
fi

# The same folder that cmake/BraidDependencies.cmake looks in.
libtorch_parent=${BRAID_PREFIX:-${XDG_CACHE_HOME:-$HOME/.cache}/braid}
# shellcheck disable=SC2034 # used by setup.sh
libtorch_prefix=$libtorch_parent/libtorch-2.11.0-cpu

# Always passes BRAID_LIBTORCH_DIR, so that a value from an earlier run does not linger in the cache.
configure() {
  step "Configuring the release build in build/"
  cmake --preset release -DBRAID_LIBTORCH_DIR="${BRAID_LIBTORCH_DIR:-}" "$@"
}
