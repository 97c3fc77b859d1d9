#!/usr/bin/env bash
# Installs what a build of Braid needs on Debian 12 (x86_64): Debian packages, and LibTorch for the
# CPU in a folder of its own. Does nothing, in well under a second, when all is there.
#
#   BRAID_PREFIX=DIR        where LibTorch goes (default: ${XDG_CACHE_HOME:-~/.cache}/braid)
#   BRAID_LIBTORCH_DIR=DIR  use this LibTorch (2.11 or newer; holds include/ and lib/) instead
# shellcheck source-path=SCRIPTDIR source=lib.sh
source "$(dirname "$0")/lib.sh"

# "package: what is impossible without it"
required=(
  "g++: nothing can be compiled"
  "cmake: the build cannot be configured"
  "ninja-build: the build cannot run"
  "libyaml-cpp-dev: YAML configs cannot be read"
  "libhdf5-dev: checkpoints cannot be written or read"
  "libopenmpi-dev: ranks cannot talk to each other"
  "openmpi-bin: several ranks cannot be started"
  "nlohmann-json3-dev: metrics and config.json cannot be written or read"
  "libcli11-dev: the command line cannot be parsed"
  "libxxhash-dev: files cannot be verified"
  "zlib1g-dev: gzip-compressed text cannot be read"
  "libzstd-dev: Zstandard-compressed text cannot be read"
  "libpcre2-dev: tokenizer.json files of other models cannot be read"
  "libgtest-dev: the tests cannot be built"
  "libbenchmark-dev: the benchmarks cannot be built"
  "python3: LibTorch cannot be downloaded, no corpus prepared"
  "xz-utils: the quickstart cannot compare with xz"
)
optional=(
  "ccache: repeated builds compile everything again"
  "mold: programs are linked more slowly"
)
download_tools=(
  "python3-pip: LibTorch cannot be downloaded"
  "unzip: LibTorch cannot be unpacked"
)

# Those of the given "package: purpose" lines whose package is not installed.
not_installed() {
  local installed line
  installed=$(dpkg-query -W -f='${db:Status-Status}:${Package}\n' "${@%%:*}" 2>/dev/null || true)
  for line in "$@"; do
    grep -qFx -- "installed:${line%%:*}" <<<"$installed" || printf '%s\n' "$line"
  done
}

as_root() {
  if ((EUID == 0)); then "$@"; else sudo "$@"; fi
}

apt_install() {
  as_root env DEBIAN_FRONTEND=noninteractive \
    apt-get install -y -qq --no-install-recommends -o DPkg::Lock::Timeout=120 "$@" >/dev/null
}

install_packages() {
  local missing names line
  mapfile -t missing < <(not_installed "$@")
  ((${#missing[@]})) || return 0
  names=("${missing[@]%%:*}")
  if ((EUID != 0)) && ! command -v sudo >/dev/null; then
    die "these Debian packages are missing: ${names[*]}. Installing them needs root, and there is no" \
      "sudo here. Ask an administrator to run: apt-get install --no-install-recommends ${names[*]}"
  fi
  step "Installing Debian packages: ${names[*]}"
  as_root apt-get update -qq || warn "apt-get update failed; trying with the package lists at hand"
  if ! apt_install "${names[@]}"; then
    # One unknown name makes apt refuse the whole list: alone, each shows whether it can be had.
    warn "apt-get could not install them together; trying one by one"
    for line in "${names[@]}"; do apt_install "$line" || true; done
  fi
  mapfile -t missing < <(not_installed "$@")
  for line in ${missing[@]+"${missing[@]}"}; do
    warn "could not get the Debian package ${line%%:*}; without it ${line#*: }"
  done
}

# Fails when one of the given lines' packages is still missing; install_packages has said which.
demand() {
  [[ -z $(not_installed "$@") ]] ||
    die "set-up is incomplete: see the packages named above. Check the apt sources" \
      "(apt-get update, apt-cache policy PACKAGE) and run scripts/setup.sh again."
}

download_libtorch() {
  # Whatever Python runs pip, these are the tags of the pinned wheels; each must be named.
  python3 -m pip download --quiet --no-deps --no-cache-dir --only-binary=:all: --require-hashes \
    --implementation cp --python-version 3.11 --abi cp311 --abi none \
    --platform manylinux_2_28_x86_64 --platform manylinux_2_25_x86_64 \
    --platform manylinux2014_x86_64 --platform manylinux_2_17_x86_64 \
    --dest "$1" --requirement scripts/libtorch.lock ||
    die "could not download LibTorch: pip's message above says which wheel of scripts/libtorch.lock" \
      "failed. Without it nothing can be built. Check pip's settings (pip config list) and the network," \
      "or give a LibTorch of your own: BRAID_LIBTORCH_DIR=DIR scripts/setup.sh"
}

# extract WHEEL DIR FILES...
extract() {
  unzip -q -o "$1" -d "$2" "${@:3}" ||
    die "could not unpack $(basename "$1") into $2; unzip's message above says why"
}

# Unpacks the part of the wheels in $1 that a CPU build needs, and their licenses, into $2.
unpack_libtorch() {
  local wheel
  extract "$1"/torch-*.whl "$2" 'torch/include/*' \
    torch/lib/libtorch_cpu.so torch/lib/libc10.so torch/lib/libgomp.so.1
  extract "$1"/nvidia_cuda_runtime-*.whl "$2" nvidia/cu13/lib/libcudart.so.13
  extract "$1"/nvidia_cuda_cupti-*.whl "$2" nvidia/cu13/lib/libcupti.so.13
  for wheel in "$1"/*.whl; do
    extract "$wheel" "$2" '*.dist-info/licenses/*'
  done
  cp scripts/libtorch.lock "$2/"
}

libtorch_prefix=$BRAID_PREFIX/libtorch-2.11.0-cpu

# The lock file's copy inside tells which wheels a prefix was made of. A prefix appears by one rename,
# so what is there is whole.
libtorch_is_there() { cmp -s scripts/libtorch.lock "$libtorch_prefix/libtorch.lock"; }

install_libtorch() {
  [[ $(uname -sm) == "Linux x86_64" ]] ||
    die "the pinned LibTorch is for Linux on x86_64; this is $(uname -sm)." \
      "Give a LibTorch 2.11 or newer of your own: BRAID_LIBTORCH_DIR=DIR scripts/setup.sh"
  mkdir -p "$BRAID_PREFIX"
  exec 9>"$BRAID_PREFIX/setup.lock"
  flock 9
  if libtorch_is_there; then return; fi  # another set-up has just done it
  rm -rf "$BRAID_PREFIX"/unpacking.*  # left by a set-up that was killed

  local free_mb needed_mb=1700  # the wheels 520 MB (twice while pip copies), unpacked 500 MB
  free_mb=$(df --output=avail -BM "$BRAID_PREFIX" | tail -n 1 | tr -dc 0-9)
  ((free_mb >= needed_mb)) ||
    die "LibTorch needs $needed_mb MB in $BRAID_PREFIX while it is unpacked (500 MB afterwards);" \
      "$free_mb MB are free. Make room, or choose another folder: BRAID_PREFIX=DIR scripts/setup.sh"

  work=$(mktemp -d "$BRAID_PREFIX/unpacking.XXXXXX")
  trap 'rm -rf "$work"' EXIT
  mkdir "$work/wheels" "$work/prefix" "$work/tmp"
  step "Downloading LibTorch 2.11.0 for the CPU (520 MB)"
  TMPDIR=$work/tmp download_libtorch "$work/wheels"
  step "Unpacking LibTorch into $libtorch_prefix"
  unpack_libtorch "$work/wheels" "$work/prefix"
  sync -f "$work/prefix"
  if [[ -e $libtorch_prefix ]]; then mv -T "$libtorch_prefix" "$work/previous"; fi
  mv -T "$work/prefix" "$libtorch_prefix"
}

check_own_libtorch() {
  local file
  for file in lib/libtorch_cpu.so lib/libc10.so include/ATen/ATen.h; do
    [[ -e $BRAID_LIBTORCH_DIR/$file ]] ||
      die "BRAID_LIBTORCH_DIR=$BRAID_LIBTORCH_DIR holds no $file. It must be the folder of" \
        "LibTorch 2.11 or newer that has include/ and lib/ in it."
  done
}

command -v dpkg-query apt-get >/dev/null ||
  die "this script installs Debian packages, and there is no apt here. Install the equivalents of:" \
    "${required[*]%%:*}; and a LibTorch 2.11 or newer; then build with cmake --preset release" \
    "-DBRAID_LIBTORCH_DIR=DIR"
download=no
if [[ -n ${BRAID_LIBTORCH_DIR:-} ]]; then
  check_own_libtorch
elif ! libtorch_is_there; then
  download=yes
  required+=("${download_tools[@]}")
fi
install_packages "${required[@]}" "${optional[@]}"
demand "${required[@]}"
if [[ $download == yes ]]; then install_libtorch; fi
step "Set-up complete; LibTorch: ${BRAID_LIBTORCH_DIR:-$libtorch_prefix/torch}"
