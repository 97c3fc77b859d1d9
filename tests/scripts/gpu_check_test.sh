#!/usr/bin/env bash
# gpu_check.sh packs what is needed, runs from an empty folder, and says what cannot run.
set -euo pipefail
cc=${1:-cc}
check=$(realpath "$(dirname "$0")/../../scripts/gpu_check.sh")
root=$(mktemp -d)
trap 'rm -rf "$root"' EXIT
cd "$root"
export BRAID_GPU_CHECK_DATA=configs/minute.yaml

fail() {
  printf '%s\n' "$@" >&2
  exit 1
}
expect() {  # TEXT FILE
  grep -qF -- "$1" "$2" || fail "expected \"$1\" in $2:" "$(cat "$2")"
}

# A build of programs that do nothing; braid needs a library of its own folder.
mkdir -p build/bench build/tests/{kernels,model,parallel} libraries torch/lib
touch torch/lib/libtorch_cuda.so
echo 'int own_library(void) { return 0; }' >library.c
"$cc" -shared -fPIC library.c -o libraries/libown.so
cp libraries/libown.so build/libbraid_cuda.so
echo 'int own_library(void); int main(void) { return own_library(); }' >program.c
"$cc" program.c -o build/braid -Llibraries -lown -Wl,-rpath,"$root/libraries" -Wl,--disable-new-dtags
echo 'int main(void) { return 0; }' >nothing.c
for program in kernels/braid_kernels_tests model/braid_model_tests parallel/braid_parallel_tests; do
  "$cc" nothing.c -o "build/tests/$program"
done
cat >no_gpu.c <<'C'
#include <stdio.h>
int main(void) { fputs("error: no GPU can be used: it is a test\n", stderr); return 1; }
C
"$cc" no_gpu.c -o build/bench/gpu_ceilings

# Without the plugin nothing is packed.
mv build/libbraid_cuda.so elsewhere.so
if "$check" "$root/build" "$root/packed" >said 2>&1; then fail "packed without the plugin"; fi
expect "build/libbraid_cuda.so is not there. scripts/setup.sh --cuda" said
mv elsewhere.so build/libbraid_cuda.so

"$check" "$root/build" "$root/packed" >said 2>&1 || fail "$(cat said)"
for name in bin/{braid,libbraid_cuda.so,gpu_ceilings,braid_kernels_tests} lib/libown.so configs/minute.yaml text.md; do
  expect " $name" packed/list.txt
done
if grep -q "libc\.so" packed/list.txt; then fail "the C library was packed"; fi

# Elsewhere, without a GPU. The library in the folder that braid was linked with must not be the one used.
run() {
  rm -rf results
  (cd "$(mktemp -d -p "$root")" && BRAID_GPU_TORCH=$root/torch "$root/packed/gpu_check.sh" run "$root/results") >said 2>&1
}
echo damaged >libraries/libown.so
if run; then fail "status 0 without a GPU"; fi
expect "error: no GPU can be used: it is a test" said
expect '"name": "device",' results/results.json
expect "the GPU cannot be used" results/results.json
[[ $(grep -c '"skipped"' results/results.json) == 5 ]] || fail "not all parts are skipped:" "$(cat results/results.json)"

# With a GPU, but a braid that does not train on one.
pack_and_run() {
  "$check" "$root/build" "$root/packed" >said 2>&1 || fail "$(cat said)"
  run || true
}
"$cc" nothing.c -o build/bench/gpu_ceilings
"$cc" -shared -fPIC library.c -o libraries/libown.so
pack_and_run
expect "passed " said
expect "training, CPU and GPU: this build has no key train.device" said

# Losses of 20 steps on both devices.
cat >braid.c <<'C'
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
int main(int count, char** words) {
  const char *folder = "", *device = "";
  char text[4096];
  for (int i = 0; i < count; ++i) {
    if (strcmp(words[i], "--help-config") == 0) return puts("train.device = cpu") < 0;
    if (strncmp(words[i], "run.output_dir=", 15) == 0) folder = words[i] + 15;
    if (strncmp(words[i], "train.device=", 13) == 0) device = words[i] + 13;
  }
  snprintf(text, sizeof text, "mkdir -p '%s/run'", folder);
  if (system(text) != 0) return 1;
  snprintf(text, sizeof text, "%s/run/metrics.jsonl", folder);
  FILE* file = fopen(text, "w");
  const int is_wrong = getenv("WRONG_LOSSES") != NULL && strcmp(device, "cuda") == 0;
  for (int step = 1; step <= 20; ++step) {
    const double loss = 6.0 - 0.1 * step + (is_wrong && step > 10 ? 0.2 : 0.0);
    fprintf(file, "{\"step\": %d, \"loss\": %.4f, \"tokens_per_second\": 100.0}\n", step, loss);
  }
  return fclose(file);
}
C
"$cc" braid.c -o build/braid
pack_and_run
expect "training, CPU and GPU" said
expect '"largest_difference": 0.0' results/results.json
if grep -q "failed.*training" said; then fail "equal losses failed:" "$(cat said)"; fi
export WRONG_LOSSES=1
if run; then fail "status 0 with other losses on the GPU"; fi
expect "the losses of CPU and GPU are further apart than rounding" said
unset WRONG_LOSSES

# Without LibTorch's CUDA half.
rm torch/lib/libtorch_cuda.so
if run; then fail "status 0 without LibTorch"; fi
expect "there is no lib/libtorch_cuda.so in '$root/torch'" said
