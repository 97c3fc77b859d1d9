#!/usr/bin/env python3
"""Do the tests notice mistakes in the kernels of kernels/cuda?

    tests/cuda_on_host/plant_mistakes.py build [NAME...]

Patches copies of the kernels with one mistake at a time (a barrier left out, an index, a bound), compiles
them for the CPU under AddressSanitizer, links them into the tests of the operations, which `build` must
have built, and runs those of the operation. Prints what noticed each mistake; exit status 1 if one was
not noticed. Some minutes; not part of the suite.
"""
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
FLAGS = ["-std=c++20", "-O1", "-g", "-w", "-fsanitize=address", "-DBRAID_CUDA_ON_HOST", "-I.", f"-I{ROOT}",
         f"-I{ROOT}/tests/cuda_on_host"]

# name, file, the text, what it becomes (the first place only), tests
MISTAKES = [
    ("block sums: no barrier before they are written again", "device.h",
     "  __syncthreads();  // all have read the sums of an earlier call\n", "", "RmsNorm.Wide*"),
    ("block sums: no barrier before they are read", "device.h",
     "  __syncthreads();\n#pragma unroll\n  for (int i = 0; i < kCount; ++i) {\n    x[i] = 0;",
     "#pragma unroll\n  for (int i = 0; i < kCount; ++i) {\n    x[i] = 0;", "RmsNorm.Wide*"),
    ("block sums: a shuffle of half a warp", "device.h",
     "const float sum = warp_sum(x[i]);", "float sum = 0; if (lane % 2 == 0) sum = warp_sum(x[i]);", "RmsNorm.Wide*"),
    ("block sums: a barrier in a branch", "device.h",
     "  if (lane < kCount) {", "  if (lane < kCount) {\n    __syncthreads();", "RmsNorm.Wide*"),
    ("sums of each: the wrong half is kept", "device.h", "upper ? x[i + half] : x[i], given", "upper ? x[i] : x[i + half], "
     "given", "Mhc.AS*:Streams.Exp*"),
    ("warp sums: one step too few", "device.h", "for (int step = kWarp / 2; step > 0;", "for (int step = kWarp / 2; "
     "step > 1;", "RmsNorm.With*"),
    ("pieces: a broken one is read beyond its row", "device.h", "begin + i < size ? widened", "begin + i <= size ? "
     "widened", "RmsNorm.With*:ClampedSwiglu.Eq*"),
    ("pieces: a broken one is written beyond its row", "device.h", "      if (begin + i < size) {", "      if (begin + "
     "i <= size) {", "RmsNorm.With*:ClampedSwiglu.Eq*"),
    ("rms_norm: a row too many", "rms_norm.cu", "const bool exists = row < p.rows;", "const bool exists = row <= "
     "p.rows;", "RmsNorm.With*"),
    ("rms_norm: weights of the first channels for all", "rms_norm.cu", "load<kWhole>(p.weight, channel, p.D, weight);",
     "load<kWhole>(p.weight, 0, p.D, weight);", "RmsNorm.With*"),
    ("rms_norm: a part of the weight's gradient is dropped", "rms_norm.cu", "dweight[i] += e[i] * x[i];",
     "dweight[i] = e[i] * x[i];", "RmsNorm.Wide*"),
    ("rope: the inverse is not one", "rope.cu", "p.inverse ? -1.0f : 1.0f", "1.0f", "Rope.Eq*"),
    ("rope: one angle for the pairs of a piece", "rope.cu", "cos[channel / 2 + pair]", "cos[channel / 2]", "Rope.Eq*"),
    ("rope: the wrong neighbor", "rope.cu", "widened(from[-1]) * s", "widened(from[1]) * s", "Rope.Eq*"),
    ("swiglu: gradient where the gate is clamped", "swiglu.cu", "gate[j] <= p.limit ?", "true ?", "ClampedSwiglu.Eq*:DeviceKernels.OfSw*"),
    ("swiglu: a row's weight is not in its gradient", "swiglu.cu", "b == up[j] ? factor * d[j]", "b == up[j] ? d[j]",
     "ClampedSwiglu.Eq*:DeviceKernels.OfSw*"),
    ("streams: the mixing is transposed", "streams.cu", "mix[j * kM + k] * x[j][c]", "mix[k * kM + j] * x[j][c]",
     "Streams.Exp*"),
    ("streams: gradients of mixings of a neighbor", "streams.cu", "sums[kM + j * kM + k] +=", "sums[kM + k * kM + j] +=",
     "Streams.Exp*"),
    ("sinkhorn: the factors of a step later", "sinkhorn_matrix.h", "? factor(step - 2, i) : 1.0f;\n        const float "
     "inverse", "? factor(step - 1, i) : 1.0f;\n        const float inverse", "Sinkhorn.Eq*"),
    ("sinkhorn: eps is missing from the matrix", "sinkhorn_matrix.h", "(softmax[i][j] + eps) *", "softmax[i][j] *",
     "Sinkhorn.Eq*"),
    ("sinkhorn: tokens beyond the last one", "sinkhorn.cu", "if (token >= p.tokens) {", "if (false) {", "Sinkhorn.Eq*"),
    ("mhc: no barrier behind the projections' parts", "mhc.cu", "  __syncthreads();\n  if (thread < kTokens * kRows",
     "  if (thread < kTokens * kRows", "Mhc.AS*:Mhc.Join*"),
    ("mhc: no barrier behind the projections", "mhc.cu", "  __syncthreads();\n\n  // 2. Weights of the streams.", "",
     "Mhc.AS*:Mhc.Join*"),
    ("mhc: no barrier behind the weights", "mhc.cu", "  __syncthreads();\n\n  // 3. The input", "  // 3. The input",
     "Mhc.AS*:Mhc.Join*"),
    ("mhc: no barrier behind the means", "mhc.cu", "  __syncthreads();\n  float dpre[", "  float dpre[", "Mhc.AS*:Mhc.Join*"),
    ("mhc: no barrier behind the slopes", "mhc.cu", "  __syncthreads();\n  if (thread < count) {", "  if (thread < "
     "count) {", "Mhc.AS*:Mhc.Join*"),
    ("mhc: no barrier behind the shifts", "mhc.cu", "  __syncthreads();\n\n  // 3. dX", "  // 3. dX", "Mhc.AS*:Mhc.Join*"),
    ("mhc: no barrier before the next tokens' numbers", "mhc.cu",
     "    __syncthreads();  // the numbers of the tokens before have been read\n", "", "Mhc.AS*:Mhc.Join*"),
    ("mhc: streams beyond the last token", "mhc.cu", "t < count ? size : 0, f[t]", "size, f[t]", "Mhc.AS*:Mhc.Join*"),
    ("mhc: the scale of another kind of row", "mhc.cu", "row < kM ? 0 : row < 2 * kM ? 1 : 2", "row < kM ? 0 : 1",
     "Mhc.AS*:Mhc.Join*"),
    ("mhc: the carried gradient is forgotten", "mhc.cu", "carried[c] + pre * dx[t][c]", "pre * dx[t][c]", "Mhc.AS*:Mhc.Join*"),
    ("routing: of equals the higher expert", "routing.cu", "a.expert < b.expert", "a.expert > b.expert", "Route.Eq*:DeviceKernels.OfRout*"),
    ("routing: no barrier of the warp", "routing.cu", "  __syncwarp();", "  //", "Route.Eq*:DeviceKernels.OfRout*"),
    ("routing: an expert twice", "routing.cu", "is_before(last, candidate) && ", "", "Route.Eq*:DeviceKernels.OfRout*"),
    ("cross_entropy: no barrier before the sums are read", "cross_entropy.cu", "  __syncthreads();\n", "",
     "CrossEntropy.Eq*"),
    ("cross_entropy: the target's logit is read when it may be a gradient", "cross_entropy.cu",
     "(target_logit - all.largest)", "(logits[target] - all.largest)", "CrossEntropy.Eq*"),
    ("cross_entropy: targets that do not count", "cross_entropy.cu", "if (target < 0) {", "if (target < -100) {",
     "CrossEntropy.Eq*"),
    ("adamw: no correction of the second moment", "update.cu", "sqrtf(v) / f.root", "sqrtf(v)", "DeviceKernels.OfAdamW*"),
    ("squared_norm: no barrier before the warps' sums are read", "update.cu", "  __syncthreads();\n", "",
     "DeviceKernels.OfSquared*"),
    ("squared_norm: a warp's sum is left out", "update.cu", "    double all = 0;\n", "    double all = -of_warps[1];\n",
     "DeviceKernels.OfSquared*"),
]


def build_commands(build):
    """ninja's command that links the operations' tests."""
    commands = subprocess.run(["ninja", "-C", build, "-t", "commands", "braid_kernels_tests"], capture_output=True,
                              text=True, check=True).stdout
    return commands.strip().splitlines()[-1]


class Workplace:
    """The kernels, compiled where they changed, in the tests' program."""

    def __init__(self, build, folder):
        self.build, self.folder = pathlib.Path(build).resolve(), pathlib.Path(folder)
        self.link = build_commands(build)
        self.sources = sorted((ROOT / "kernels/cuda").glob("*.cu"))
        self.objects = {}
        for source in [ROOT / "tests/cuda_on_host/cuda_on_host.cpp", ROOT / "tests/support/strict_memory.cpp"]:
            self.objects[source.name] = self.compiled(source, self.folder / "sound")
        for source in self.sources:
            self.objects[source.name] = self.compiled(source, self.folder / "sound")

    def compiled(self, source, to, first_include=None):
        to.mkdir(exist_ok=True)
        result = to / (source.name + ".o")
        include = [f"-I{first_include}"] if first_include else []
        subprocess.run(["g++", *include, *FLAGS, "-x", "c++", "-c", source, "-o", result], check=True)
        return result

    def noticed(self, objects, tests):
        """What the tests say first of a program with these objects, or None."""
        program = self.folder / "tests"
        listed = " ".join(str(path) for path in objects.values())
        command = re.sub(r"-o \S+", f"-o {program} -fsanitize=address {listed}", self.link, count=1)
        command = re.sub(r"\S*libbraid_cuda_on_host\.a", "", command)
        subprocess.run(command, shell=True, cwd=self.build, check=True)
        environment = dict(os.environ, OMP_NUM_THREADS="1",
                           ASAN_OPTIONS="detect_leaks=0:detect_odr_violation=0:alloc_dealloc_mismatch=0")
        try:
            run = subprocess.run([program, f"--gtest_filter={tests}", "--gtest_brief=1", "--gtest_break_on_failure"], env=environment,
                                 capture_output=True, text=True, timeout=300, errors="replace")
        except subprocess.TimeoutExpired:
            return "it does not end"
        if run.returncode == 0:
            assert "0 tests" not in run.stdout.splitlines()[-1], f"no test is called {tests}"
            return None
        output = run.stdout + run.stderr
        for pattern in (r"ERROR: AddressSanitizer: \S+", r"which others do not reach", r"all 32 lanes of a warp must.*",
                        r".*, order \d.*", r".*by kernels/cuda.*", r".*Failure.*"):
            if found := re.search(pattern, output):
                return found.group().strip()[:110]
        return f"it ends with status {run.returncode}"


def main():
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    build, wanted = sys.argv[1], sys.argv[2:]
    missed = []
    with tempfile.TemporaryDirectory() as folder:
        place = Workplace(build, folder)
        mistakes = [m for m in MISTAKES if not wanted or any(word in m[0] for word in wanted)]
        everything = ":".join(sorted({tests for *_, tests in mistakes}))
        if (problem := place.noticed(place.objects, everything)) is not None:
            sys.exit(f"error: the tests fail without any mistake: {problem}")
        for name, file, text, mistake, tests in mistakes:
            tree = place.folder / "planted"
            shutil.rmtree(tree, ignore_errors=True)
            shutil.copytree(ROOT / "kernels/cuda", tree / "kernels/cuda")
            patched = tree / "kernels/cuda" / file
            before = patched.read_text()
            if text not in before:
                sys.exit(f"error: {file} has no {text!r}; mend the list in {__file__}")
            patched.write_text(before.replace(text, mistake, 1))
            objects = dict(place.objects)
            for source in place.sources:
                if source.name == file or (file.endswith(".h") and f'"kernels/cuda/{file}"' in source.read_text()):
                    objects[source.name] = place.compiled(tree / "kernels/cuda" / source.name, tree / "objects", tree)
            found = place.noticed(objects, tests)
            print(f"{name:70} {'noticed: ' + found if found else 'NOT NOTICED'}", flush=True)
            if not found:
                missed.append(name)
    print(f"{len(mistakes)} mistakes, {len(missed)} not noticed")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
