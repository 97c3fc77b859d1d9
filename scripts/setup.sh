#!/usr/bin/env bash
# Installs what a build of Braid needs on Debian 12 (x86_64): Debian packages, and LibTorch for the
# CPU in a folder of its own. Does nothing, in well under a second, when all is there.
#
#   scripts/setup.sh         for the CPU
#   scripts/setup.sh --cuda  also LibTorch's CUDA half, into the same folder, and what it loads: from a
#                            CUDA toolkit that is installed, or else from PyPI
#
#   BRAID_PREFIX=DIR        where LibTorch goes (default: ${XDG_CACHE_HOME:-~/.cache}/braid)
#   BRAID_LIBTORCH_DIR=DIR  use this LibTorch (2.11 or newer; holds include/ and lib/) instead
# shellcheck source-path=SCRIPTDIR source=lib.sh
source "$(dirname "$0")/lib.sh"

with_cuda=no
case $* in
  "") ;;
  --cuda) with_cuda=yes ;;
  *) die "unknown arguments '$*'; expected none or --cuda" ;;
esac

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

# download DIR ARGS...: wheels for a fixed platform, whatever Python runs pip; each tag must be named.
download() {
  local platforms=(--platform manylinux2014_x86_64) version
  for version in {17..28}; do platforms+=(--platform "manylinux_2_${version}_x86_64"); done
  TMPDIR=$work/tmp python3 -m pip download --quiet --no-deps --no-cache-dir --only-binary=:all: \
    --implementation cp --python-version 3.11 --abi cp311 --abi none "${platforms[@]}" --dest "$@"
}

download_libtorch() {
  download "$1" --require-hashes --requirement scripts/libtorch.lock ||
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

# What LibTorch's CUDA half loads: "library, what else belongs to it: package that has them". A package
# cuda-toolkit[PART] stands for the one that it names for PART.
cuda_libraries=(
  "libcublas.so.13 libcublasLt.so.13: cuda-toolkit[cublas]"
  "libcufft.so.12: cuda-toolkit[cufft]"
  "libcufile.so.0: cuda-toolkit[cufile]"
  "libcurand.so.10: cuda-toolkit[curand]"
  "libcusolver.so.12: cuda-toolkit[cusolver]"
  "libcusparse.so.12: cuda-toolkit[cusparse]"
  "libnvJitLink.so.13: cuda-toolkit[nvjitlink]"
  "libnvrtc.so.13 libnvrtc-builtins.so.13*: cuda-toolkit[nvrtc]"
  "libcudnn.so.9 libcudnn_*.so.9: nvidia-cudnn-cu13"
  "libcusparseLt.so.0: nvidia-cusparselt-cu13"
  "libnccl.so.2: nvidia-nccl-cu13"
  "libnvshmem_host.so.3: nvidia-nvshmem-cu13"
)

# required_by WHEEL PACKAGE [EXTRA]: "PACKAGE==VERSION" as the wheel's metadata pins it; with EXTRA, any
# package of that extra.
required_by() {
  local pinned
  pinned=$(unzip -p "$1" '*.dist-info/METADATA' | tr -d '() ' |
    sed -nE "s/^Requires-Dist:($2)(\[[^]]*\])?==([^;]*);?.*${3:+extra==.$3.}.*/\1==\3/p" | head -n 1)
  [[ -n $pinned ]] || die "$(basename "$1") pins no version of $2${3:+ for $3}; this should not happen"
  printf '%s\n' "$pinned"
}

# Unpacks LibTorch's CUDA half out of the wheels in $1 into $2, and what it loads.
unpack_cuda() {
  local line toolkit pattern patterns files packages=() of_toolkit=() part torch
  torch=$(echo "$1"/torch-*.whl)
  extract "$torch" "$2" torch/lib/lib{torch_cuda,torch_cuda_linalg,torch_nvshmem,c10_cuda,caffe2_nvrtc}.so
  mkdir -p "$2/nvidia/cu13/lib" "$1/cuda"
  toolkit=$(cuda_toolkit_libraries)
  for line in "${cuda_libraries[@]}"; do
    read -ra patterns <<<"${line%%:*}"
    if [[ -n $toolkit && -e $toolkit/${patterns[0]} ]]; then
      for pattern in "${patterns[@]}"; do
        # shellcheck disable=SC2086 # a pattern
        ln -s "$toolkit"/$pattern "$2/nvidia/cu13/lib/"
      done
      continue
    fi
    case ${line##*: } in
      cuda-toolkit*) part=${line##*[} of_toolkit+=("${part%]}") ;;
      *) packages+=("$(required_by "$torch" "${line##*: }")") ;;
    esac
  done
  if ((${#of_toolkit[@]})); then
    download "$1" "$(required_by "$torch" cuda-toolkit)" || die "could not download PyPI's cuda-toolkit"
    for part in "${of_toolkit[@]}"; do
      packages+=("$(required_by "$(echo "$1"/cuda_toolkit-*.whl)" 'nvidia-[a-z0-9-]+' "$part")")
    done
  fi
  if ((${#packages[@]})); then
    step "Downloading ${packages[*]}"
    download "$1/cuda" "${packages[@]}" ||
      die "could not download ${packages[*]}, which LibTorch's CUDA half loads; pip's message above says why." \
        "A CUDA toolkit 13 with cuDNN and NCCL in CUDA_HOME or /usr/local/cuda leaves only a part of them"
    for line in "$1"/cuda/*.whl; do
      # Nothing for devices to link, no static libraries: they are most of the size.
      mapfile -t files < <(unzip -Z1 "$line" |
        grep -E '^nvidia/[^/]*/lib/[^/]*[.]so|^nvidia/nccl/include/.*[^/]$|[.]dist-info/.*[Ll]icense[^/]*$')
      extract "$line" "$2" "${files[@]}"
    done
  fi
  cp scripts/libtorch.lock "$2/cuda.lock"
}

libtorch_prefix=$BRAID_PREFIX/libtorch-2.11.0-cpu

# The lock file's copy inside tells which wheels a prefix was made of. A prefix appears by one rename,
# so what is there is whole; of the CUDA half, cuda.lock comes last. Links lead into the toolkit.
libtorch_is_there() { cmp -s scripts/libtorch.lock "$libtorch_prefix/libtorch.lock"; }
cuda_is_there() {
  libtorch_is_there && cmp -s scripts/libtorch.lock "$libtorch_prefix/cuda.lock" &&
    [[ -z $(find "$libtorch_prefix/nvidia" -xtype l -print -quit) ]]
}
all_is_there() { if [[ $with_cuda == yes ]]; then cuda_is_there; else libtorch_is_there; fi; }

install_libtorch() {
  [[ $(uname -sm) == "Linux x86_64" ]] ||
    die "the pinned LibTorch is for Linux on x86_64; this is $(uname -sm)." \
      "Give a LibTorch 2.11 or newer of your own: BRAID_LIBTORCH_DIR=DIR scripts/setup.sh"
  mkdir -p "$BRAID_PREFIX"
  exec 9>"$BRAID_PREFIX/setup.lock"
  flock 9
  if all_is_there; then return; fi  # another set-up has just done it
  rm -rf "$BRAID_PREFIX"/unpacking.*  # left by a set-up that was killed

  local free_mb needed_mb=1700  # the wheels 520 MB (twice while pip copies), unpacked 500 MB
  if [[ $with_cuda == yes ]]; then
    needed_mb=3200  # 240 MB more of wheels, unpacked 900 MB
    if [[ -z $(cuda_toolkit_libraries) ]]; then needed_mb=8000; fi
  fi
  free_mb=$(df --output=avail -BM "$BRAID_PREFIX" | tail -n 1 | tr -dc 0-9)
  ((free_mb >= needed_mb)) ||
    die "LibTorch needs $needed_mb MB in $BRAID_PREFIX while it is unpacked (500 MB afterwards);" \
      "$free_mb MB are free. Make room, or choose another folder: BRAID_PREFIX=DIR scripts/setup.sh"

  work=$(mktemp -d "$BRAID_PREFIX/unpacking.XXXXXX")
  trap 'rm -rf "$work"' EXIT
  mkdir "$work/wheels" "$work/prefix" "$work/cuda" "$work/tmp"
  step "Downloading LibTorch 2.11.0 (520 MB)"
  download_libtorch "$work/wheels"
  if ! libtorch_is_there; then
    step "Unpacking LibTorch into $libtorch_prefix"
    unpack_libtorch "$work/wheels" "$work/prefix"
    sync -f "$work/prefix"
    if [[ -e $libtorch_prefix ]]; then mv -T "$libtorch_prefix" "$work/previous"; fi
    mv -T "$work/prefix" "$libtorch_prefix"
  fi
  if [[ $with_cuda == yes ]]; then install_cuda; fi
}

install_cuda() {
  local file missing
  step "Unpacking LibTorch's CUDA half into $libtorch_prefix"
  unpack_cuda "$work/wheels" "$work/cuda"
  sync -f "$work/cuda"
  while IFS= read -r file; do
    mkdir -p "$libtorch_prefix/$(dirname "$file")"
    mv -f "$work/cuda/$file" "$libtorch_prefix/$file"
  done < <(cd "$work/cuda" && find . ! -type d ! -name cuda.lock)
  missing=$(ldd "$libtorch_prefix/torch/lib/libtorch_cuda.so" | awk '/not found/ {print $1}' | sort -u | xargs)
  [[ -z $missing ]] ||
    die "LibTorch's CUDA half needs libraries that are neither in the toolkit nor in PyPI's packages: $missing"
  step "LibTorch's CUDA half takes $(du -smc "$work/cuda" "$libtorch_prefix"/nvidia/*/lib \
    "$libtorch_prefix"/torch/lib/*{cuda,nvshmem,nvrtc}*.so | awk 'END {print $1}') MB; after $SECONDS s"
  mv -f "$work/cuda/cuda.lock" "$libtorch_prefix/cuda.lock"
}

check_own_libtorch() {
  local file
  local files=(lib/libtorch_cpu.so lib/libc10.so include/ATen/ATen.h)
  if [[ $with_cuda == yes ]]; then files+=(lib/libtorch_cuda.so lib/libc10_cuda.so); fi
  for file in "${files[@]}"; do
    [[ -e $BRAID_LIBTORCH_DIR/$file ]] ||
      die "BRAID_LIBTORCH_DIR=$BRAID_LIBTORCH_DIR holds no $file. It must be the folder of" \
        "LibTorch 2.11 or newer that has include/ and lib/ in it, of a CUDA build for --cuda."
  done
}

command -v dpkg-query apt-get >/dev/null ||
  die "this script installs Debian packages, and there is no apt here. Install the equivalents of:" \
    "${required[*]%%:*}; and a LibTorch 2.11 or newer; then build with cmake --preset release" \
    "-DBRAID_LIBTORCH_DIR=DIR"
download=no
if [[ -n ${BRAID_LIBTORCH_DIR:-} ]]; then
  check_own_libtorch
elif ! all_is_there; then
  download=yes
  required+=("${download_tools[@]}")
fi
install_packages "${required[@]}" "${optional[@]}"
demand "${required[@]}"
if [[ $download == yes ]]; then install_libtorch; fi
if [[ $with_cuda == yes && -z $(cuda_toolkit_libraries) ]]; then
  warn "no CUDA toolkit 13 in CUDA_HOME or /usr/local/cuda: without its compiler the plugin for GPUs cannot be built"
fi
step "Set-up complete; LibTorch: ${BRAID_LIBTORCH_DIR:-$libtorch_prefix/torch}"
