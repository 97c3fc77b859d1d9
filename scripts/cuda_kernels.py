#!/usr/bin/env python3
"""What nvcc and ptxas say of the kernels in kernels/cuda, for sm_90a: registers, shared memory, spills,
and which instructions of tensor cores are in them.

    scripts/cuda_kernels.py           a table in Markdown
    scripts/cuda_kernels.py --check   exit status 1 if a kernel spills registers to memory, takes more of
                                      them than it is known to need, lacks the tensor cores' products that
                                      it is made of, or has wgmma one at a time (a ctest)

NVCC=PROGRAM overrides which nvcc runs. Exits with 77 where there is none (ctest then counts the test as
skipped). No GPU is needed.
"""
import argparse
import concurrent.futures
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile

# 128 registers leave room for 512 threads on a multiprocessor.
MOST_REGISTERS = 128
# Sums of four tokens by all rows of mHC's projection, and of its gradient's rows by four streams; of 64 heads by
# an eighth of 512 channels, which leave room for one block of 256 threads.
MORE_REGISTERS = {"enter_forward_kernel": 255, "parameters_kernel": 168, "attention_mma_forward_kernel": 255,
                  "attention_mma_backward_kernel": 255, "attention_warpgroup_forward_kernel": 255,
                  "attention_warpgroup_backward_kernel": 255, "kl_target_kernel": 136,
                  # By wgmma, of 128 x 256 sums.
                  "expert_rows_kernel<false, true>": 255, "expert_rows_kernel<true, true>": 255,
                  "expert_gradient_kernel<true>": 255, "matrix_product_kernel<false, true>": 255,
                  "matrix_product_kernel<true, true>": 255}

# The instructions of which kernels are made, by their names.
WGMMA, MMA = "wgmma.mma_async", "mma.sync"
PRODUCTS = {"attention_warpgroup_forward_kernel": WGMMA, "attention_warpgroup_backward_kernel": WGMMA,
            "fp4_warpgroup_kernel": WGMMA,
            "index_tensor_scores_kernel<WarpgroupScores": WGMMA, "kl_target_kernel<WarpgroupHeads": WGMMA,
            "kl_scores_kernel<WarpgroupScores": WGMMA, "kl_gradient_kernel<WarpgroupHeads": WGMMA,
            "attention_mma_forward_kernel": MMA, "attention_mma_backward_kernel": MMA, "fp4_product_kernel": MMA,
            "index_tensor_scores_kernel<TensorHeads": MMA, "kl_target_kernel<TensorHeads": MMA, "kl_scores_kernel<TensorHeads": MMA,
            "kl_gradient_kernel<TensorHeads": MMA,
            # The last argument of their templates says which.
            **{f"{kernel}{arguments}{by_warpgroups}>": products
               for by_warpgroups, products in (("true", WGMMA), ("false", MMA))
               for kernel, arguments in (("expert_rows_kernel", "<false, "), ("expert_rows_kernel", "<true, "),
                                         ("expert_gradient_kernel", "<"), ("matrix_product_kernel", "<false, "),
                                         ("matrix_product_kernel", "<true, "))}}

ROOT = pathlib.Path(__file__).resolve().parent.parent
SPILLS = re.compile(r"(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads")
USED = re.compile(r"Used (\d+) registers(?:.*?(\d+) bytes smem)?")


def find_nvcc():
    candidates = [os.environ.get("NVCC"), shutil.which("nvcc"), "/usr/local/cuda/bin/nvcc"]
    return next((c for c in candidates if c and pathlib.Path(c).exists()), None)


def products_of(ptx):
    """Which of the tensor cores' instructions each kernel of a PTX file has."""
    found = {}
    for part in re.split(r"\.entry ", ptx)[1:]:
        found[re.match(r"\w+", part).group()] = {name for name in (WGMMA, MMA) if name + "." in part}
    return found


def compiled(nvcc, source):
    """The report of one file: (kernel, registers, shared memory, stack and spills in bytes, products), and whether
    ptxas says that it makes products of warpgroups one at a time."""
    with tempfile.TemporaryDirectory() as folder:
        run = subprocess.run(
            [nvcc, "-std=c++20", "-O3", "-gencode=arch=compute_90a,code=sm_90a", "-Xptxas", "-v", f"-I{ROOT}",
             "-cubin", str(source), "-o", f"{folder}/kernels.cubin", "--keep", "--keep-dir", folder],
            capture_output=True, text=True)
        products = {}
        for ptx in pathlib.Path(folder).glob("*.ptx"):
            products.update(products_of(ptx.read_text()))
    report = run.stdout + run.stderr
    if run.returncode != 0:
        sys.exit(f"error: nvcc does not compile {source.relative_to(ROOT)}:\n{report}")
    kernels, name, spilled = [], None, 0
    for line in report.splitlines():
        if "Compiling entry function" in line:
            name, spilled = re.search(r"'(\w+)'", line).group(1), 0
        elif found := SPILLS.search(line):
            spilled = sum(int(number) for number in found.groups())
        elif (found := USED.search(line)) and name:
            kernels.append((name, int(found.group(1)), int(found.group(2) or 0), spilled, products[name]))
            name = None
    return kernels, "wgmma.mma_async instructions are serialized" in report


def plain_names(mangled):
    """rms_norm_forward_kernel<RowLayout<32, true>, float> of what the compiler calls it."""
    text = subprocess.run(["c++filt"], input="\n".join(mangled), capture_output=True, text=True, check=True).stdout
    names = []
    for name in text.splitlines():
        name = re.sub(r"\(anonymous namespace\)::|braid::cuda::|braid::|^void ", "", name)
        names.append(name.split("(")[0])
    return names


def span(numbers):
    return f"{numbers[0]}" if numbers[0] == numbers[-1] else f"{numbers[0]} to {numbers[-1]}"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true")
    arguments = parser.parse_args()
    nvcc = find_nvcc()
    if nvcc is None:
        print("no nvcc, so no kernel is compiled (set NVCC=PROGRAM)", file=sys.stderr)
        return 77
    sources = sorted((ROOT / "kernels/cuda").glob("*.cu"))
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        reports = list(pool.map(lambda source: compiled(nvcc, source), sources))
    wrong = 0
    variants = {}  # by the kernel's name: registers, shared memory and products of each
    for source, (kernels, one_at_a_time) in zip(sources, reports):
        if one_at_a_time:
            wrong += 1
            print(f"{source.relative_to(ROOT)}: ptxas makes products of warpgroups one at a time; nothing between them "
                  "may touch their registers, and no branch", file=sys.stderr)
        names = plain_names([kernel[0] for kernel in kernels])
        for name, (_, registers, shared, spilled, products) in sorted(zip(names, kernels)):
            for beginning, needed in PRODUCTS.items():
                if name.startswith(beginning) and needed not in products:
                    wrong += 1
                    print(f"{source.relative_to(ROOT)}: {name} has no {needed}", file=sys.stderr)
            if spilled:
                wrong += 1
                print(f"{source.relative_to(ROOT)}: {name} keeps {spilled} bytes of its registers in memory; let a "
                      "thread have less to do, or a block fewer threads", file=sys.stderr)
            most = max([MOST_REGISTERS] + [most for beginning, most in MORE_REGISTERS.items() if name.startswith(beginning)])
            if registers > most:
                wrong += 1
                print(f"{source.relative_to(ROOT)}: {name} takes {registers} registers, more than {most}; let a thread "
                      "have less to do, or change the limit in scripts/cuda_kernels.py", file=sys.stderr)
            variants.setdefault(name.split("<")[0], []).append((registers, shared, products))
    if not arguments.check:
        print("| kernel | variants | registers | shared memory, bytes | tensor cores |\n|---|---|---|---|---|")
        for name, numbers in sorted(variants.items()):
            registers, shared = (sorted(column) for column in list(zip(*numbers))[:2])
            products = sorted({f"`{product}`" for number in numbers for product in number[2]})
            print(f"| `{name}` | {len(numbers)} | {span(registers)} | {span(shared)} | {', '.join(products)} |")
    print(f"{sum(len(kernels) for kernels, _ in reports)} kernels of {len(sources)} files, {wrong} wrong", file=sys.stderr)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
