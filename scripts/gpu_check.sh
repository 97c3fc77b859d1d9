#!/usr/bin/env bash
# A check on a machine that has GPUs, LibTorch's CUDA half and nothing else to build with: packs what is
# built here, and runs it there, in under ten minutes.
#
#   scripts/gpu_check.sh [BUILD [FOLDER]]  packs BUILD (default: build-cuda, else build) into FOLDER
#                                          (default: build/gpu), at most 64 MiB
#   FOLDER/gpu_check.sh run [RESULTS]      runs there; RESULTS (default: gpu-check-results) gets results.json
#                                          and a log of each part
#
#   BRAID_GPU_TORCH=DIR  the folder of LibTorch on that machine, with lib/libtorch_cuda.so in it (default:
#                        that of Python's torch)
#
# What cannot run is named and skipped. Exit status: 0 where nothing failed, 1 otherwise or without a GPU.
# This file is packed too and needs no other.
set -euo pipefail

step() { printf '==> %s\n' "$*"; }
die() {
  printf 'error: %s\n' "$*" >&2
  exit 1
}

# --- Packing

programs=(
  braid
  bench/gpu_ceilings
  tests/kernels/braid_kernels_tests
  tests/model/braid_model_tests
  tests/parallel/braid_parallel_tests
)
plugin=libbraid_cuda.so
# What the tests of the model read, and the configuration of the training. (A test packs less.)
read -ra data <<<"${BRAID_GPU_CHECK_DATA:-tests/data/golden configs}"
# Parts of LibTorch, CUDA, the C library: they are those of the other machine.
not_packed='^(linux-vdso|ld-linux|lib(c|m|dl|rt|pthread|resolv|util)\.so|libtorch|libc10|libgomp'
not_packed+='|libcu(blas|blasLt|da|dart|dnn|fft|file|pti|rand|solver|sparse|sparseLt)[_.]|libnv|libnccl)'
limit_mib=64

# The path to LibTorch that is in a program comes first as DT_RPATH, and behind LD_LIBRARY_PATH as
# DT_RUNPATH.
let_library_path_win() {
  python3 - "$@" <<'PYTHON'
import struct
import sys

for name in sys.argv[1:]:
    with open(name, "r+b") as file:
        header = file.read(64)
        if header[:5] != b"\x7fELF\x02":
            sys.exit(f"error: {name} is no 64-bit ELF file")
        table, = struct.unpack_from("<Q", header, 32)
        size, count = struct.unpack_from("<HH", header, 54)
        for i in range(count):
            file.seek(table + i * size)
            kind, _, offset, _, _, length = struct.unpack("<IIQQQQ", file.read(40))
            if kind != 2:  # PT_DYNAMIC
                continue
            for place in range(offset, offset + length, 16):
                file.seek(place)
                tag, = struct.unpack("<q", file.read(8))
                if tag == 15:  # DT_RPATH
                    file.seek(place)
                    file.write(struct.pack("<q", 29))  # DT_RUNPATH
PYTHON
}

pack() {
  local build=$1 out=$2 stage program library name
  for program in "${programs[@]}" "$plugin"; do
    [[ -e $build/$program ]] ||
      die "$build/$program is not there. scripts/setup.sh --cuda, cmake --preset cuda -DBRAID_BENCH=ON and" \
        "ninja -C build-cuda ${programs[*]##*/} braid_cuda make what is packed"
  done
  stage=$(mktemp -d)
  # shellcheck disable=SC2064 # as it is now
  trap "rm -rf '$stage'" EXIT
  mkdir -p "$stage/bin" "$stage/lib" "$stage/lib-gcc" "$out"
  for program in "${programs[@]}" "$plugin"; do
    strip --strip-unneeded -o "$stage/bin/$(basename "$program")" "$build/$program"
  done
  let_library_path_win "$stage"/bin/*
  while read -r name library; do
    if [[ $name =~ $not_packed ]]; then continue; fi
    case $name in
      libstdc++* | libgcc_s*) cp -L "$library" "$stage/lib-gcc/$name" ;;
      *) strip --strip-unneeded -o "$stage/lib/$name" "$library" ;;
    esac
  done < <(for program in "${programs[@]}" "$plugin"; do ldd "$build/$program"; done |
    awk '$2 == "=>" && $3 ~ /^\// {print $1, $3}' | sort -u)
  tar -cf - "${data[@]}" | tar -xf - -C "$stage"
  cat docs/*.md >"$stage/text.md"
  realpath tests/data >"$stage/data_was_at"  # the tests look there
  git rev-parse HEAD >"$stage/commit" 2>/dev/null || echo unknown >"$stage/commit"
  tar -C "$stage" -cf - . | xz -T0 -1 >"$out/payload.tar.xz"
  cp "$0" "$out/gpu_check.sh"
  (cd "$stage" && find . -type f -printf '%s %P\n' | sort -k 2) >"$out/list.txt"
  local mib=$(($(du -sk "$out" | cut -f 1) / 1024))
  ((mib < limit_mib)) || die "$out has $mib MiB, more than $limit_mib; $out/list.txt has the sizes before compression"
  step "Packed $(wc -l <"$out/list.txt") files, $mib MiB: carry $out/ to a machine with a GPU and run" \
    "$out/gpu_check.sh run there"
}

# --- Running

# finish NAME STATUS SECONDS REASON: notes how a part ended.
finish() {
  printf '%s\t%s\t%s\t%s\n' "$@" >>"$results/parts.tsv"
  printf '%-8s %4d s  %s%s\n' "$2" "$3" "$1" "${4:+: $4}"
}

# part NAME SECONDS COMMAND...: the last line it printed is the reason of a failure.
part() {
  local name=$1 limit=$2 begin=$SECONDS left=$((deadline - SECONDS)) status=0 log
  if ((left < limit)); then limit=$left; fi
  if ((limit < 5)); then
    finish "$name" skipped 0 "the ten minutes are over"
    return
  fi
  log=$results/${name//[^a-zA-Z0-9]/_}.log
  timeout "$limit" "${@:3}" >"$log" 2>&1 || status=$?
  case $status in
    0) finish "$name" passed $((SECONDS - begin)) "" ;;
    124) finish "$name" failed $((SECONDS - begin)) "took longer than $limit s; see $log" ;;
    *) finish "$name" failed $((SECONDS - begin)) "$(grep -v '^ *$' "$log" | tail -n 1) (status $status)" ;;
  esac
  return $((status != 0))
}

write_results() {
  python3 - "$results" "$(cat commit)" <<'PYTHON'
import json
import pathlib
import sys

folder = pathlib.Path(sys.argv[1])
parts = [dict(zip(("name", "status", "seconds", "reason"), line.split("\t")))
         for line in (folder / "parts.tsv").read_text().splitlines()]
result = {"commit": sys.argv[2], "parts": [{**p, "seconds": int(p["seconds"])} for p in parts]}
for name in ("device", "training"):
    try:
        result[name] = json.loads((folder / f"{name}.json").read_text())
    except (OSError, ValueError):
        result[name] = None
(folder / "results.json").write_text(json.dumps(result, indent=2) + "\n")
PYTHON
  local failed skipped
  failed=$(grep -c $'\tfailed\t' "$results/parts.tsv" || true)
  skipped=$(grep -c $'\tskipped\t' "$results/parts.tsv" || true)
  step "$failed failed, $skipped skipped, after $SECONDS s: $results/results.json"
  ((failed == 0))
}

# The folder of LibTorch, of Python's torch where none is given.
torch_folder() {
  python3 -c 'import importlib.util as u; s = u.find_spec("torch"); print(s.submodule_search_locations[0] if s else "")'
}

# compare_training CPU CUDA: losses of the same steps, and the time of each.
compare_training() {
  python3 - "$@" "$results/training.json" <<'PYTHON'
import json
import sys


def steps(folder):
    with open(f"{folder}/metrics.jsonl") as lines:
        records = [json.loads(line) for line in lines]
    return [r for r in records if "loss" in r and "tokens_per_second" in r]


cpu, cuda = steps(sys.argv[1]), steps(sys.argv[2])
differences = [abs(a["loss"] - b["loss"]) / abs(a["loss"]) for a, b in zip(cpu, cuda)]
table = {"steps": len(differences), "first_difference": differences[0], "largest_difference": max(differences),
         "loss_cpu": cpu[-1]["loss"], "loss_cuda": cuda[-1]["loss"],
         "tokens_per_second_cpu": cpu[-1]["tokens_per_second"],
         "tokens_per_second_cuda": cuda[-1]["tokens_per_second"]}
json.dump(table, open(sys.argv[3], "w"), indent=2)
print(json.dumps(table))
# float32 sums in another order; steps carry the difference on.
if len(differences) < 20 or differences[0] > 1e-5 or max(differences) > 1e-2:
    sys.exit("the losses of CPU and GPU are further apart than rounding")
PYTHON
}

train_on() {  # DEVICE FOLDER
  rm -rf "$2"
  bin/braid train configs/minute.yaml --set train.device="$1" --set run.output_dir="$2" --set run.name=run \
    --set 'data.train=[text.md]' --set data.validation_fraction=0.05 --set train.max_steps=20 \
    --set train.validate_every_steps=0 --set checkpoint.every_steps=0
}

train_on_both() {
  train_on cpu "$work/cpu" && train_on cuda "$work/cuda" && compare_training "$work/cpu/run" "$work/cuda/run"
}

run() {
  local here torch status=0 missing tool at
  here=$(dirname "$(realpath "$0")")
  mkdir -p "$1"
  results=$(realpath "$1")
  : >"$results/parts.tsv"
  deadline=590
  work=$(mktemp -d)
  trap 'rm -rf "$work"' EXIT
  [[ -e $here/payload.tar.xz ]] || die "there is no payload.tar.xz beside $0; scripts/gpu_check.sh makes it"
  torch=${BRAID_GPU_TORCH:-$(torch_folder)}
  [[ -e $torch/lib/libtorch_cuda.so ]] ||
    die "there is no lib/libtorch_cuda.so in '$torch'; BRAID_GPU_TORCH=DIR names the folder of LibTorch 2.11 with CUDA"
  step "Unpacking; LibTorch: $torch"
  cd "$work"
  if command -v xz >/dev/null; then
    tar -xJf "$here/payload.tar.xz"
  else
    python3 -m tarfile -e "$here/payload.tar.xz" .
    chmod +x bin/*
  fi
  export LD_LIBRARY_PATH=$torch/lib:$work/lib${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}
  if ldd bin/* 2>&1 | grep -qE "GLIBCXX|CXXABI|GCC_"; then export LD_LIBRARY_PATH=$LD_LIBRARY_PATH:$work/lib-gcc; fi
  missing=$(ldd bin/* 2>&1 | awk '/not found/ {print $1}' | sort -u | xargs)
  [[ -z $missing ]] || die "these libraries are missing on this machine: $missing"
  at=$(cat data_was_at)
  if [[ ! -e $at ]]; then
    mkdir -p "$(dirname "$at")" && ln -s "$work/tests/data" "$at" && trap 'rm -rf "$work" "$at"' EXIT
  fi
  nvidia-smi >"$results/nvidia-smi.txt" 2>&1 || true

  parts_after_device=("kernel tests" "model tests" "exchanges of GPUs" "races in kernels" "training, CPU and GPU")
  if ! part "device" 90 bash -c "bin/gpu_ceilings >'$results/device.json'"; then
    for tool in "${parts_after_device[@]}"; do finish "$tool" skipped 0 "the GPU cannot be used"; done
    write_results || true
    die "$(sed -n 's/^error: //p' "$results/device.log" | head -n 1 | grep . || echo "the GPU cannot be used")"
  fi
  cat "$results/device.json"
  export BRAID_TEST_CUDA=1  # tests of devices take the GPU too
  part "kernel tests" 200 bin/braid_kernels_tests --gtest_brief=1 || status=1
  part "model tests" 150 bin/braid_model_tests --gtest_brief=1 || status=1
  part "exchanges of GPUs" 60 bin/braid_parallel_tests --gtest_filter='Nccl.*' || status=1
  tool=$(command -v compute-sanitizer || echo /usr/local/cuda/bin/compute-sanitizer)
  if [[ -x $tool ]]; then
    part "races in kernels" 150 "$tool" --tool racecheck --error-exitcode 1 bin/braid_kernels_tests --gtest_brief=1 \
      --gtest_filter='RmsNorm*:Rope*:Swiglu*:Sinkhorn*' || status=1
  else
    finish "races in kernels" skipped 0 "there is no compute-sanitizer"
  fi
  bin/braid train --help-config >"$results/keys.txt" || true
  if grep -q '^train\.device ' "$results/keys.txt"; then
    # A function of this file, in a process that timeout can end.
    export -f train_on train_on_both compare_training
    export results work
    part "training, CPU and GPU" 200 bash -euc train_on_both || status=1
  else
    finish "training, CPU and GPU" skipped 0 "this build has no key train.device"
  fi
  write_results && ((status == 0))
}

case ${1:-} in
  run) run "${2:-gpu-check-results}" ;;
  -*) sed -n '2,16s/^# \{0,1\}//p' "$0" ;;
  *)
    cd "$(dirname "$0")/.."
    default=build
    if [[ -e build-cuda/$plugin ]]; then default="build-cuda"; fi
    pack "${1:-$default}" "${2:-build/gpu}"
    ;;
esac
