#!/usr/bin/env python3
"""What nvcc made of the GPU's kernels, as a table: registers, stack and spills of each, and for dots and products the instruction
slots of a weight in the main loop with the rate that they allow at most.

    cuda_table.py [sm_90 [MULTIPROCESSORS GHZ]]      needs nvcc and cuobjdump (CUDA toolkit, or PyPI nvidia-cuda-cuobjdump)
"""
import collections
import os
import re
import subprocess
import sys
import tempfile

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
with open(os.path.join(ROOT, "scripts", "make_fatbin.sh")) as script:
    FLAGS = re.search(r'flags="([^"]*)"', script.read())[1].split()
BYTES = {"f32": 4, "bf16": 2, "f16": 2, "int8": 1, "fp8": 1, "int4": 0.516, "int4_zero": 0.531}


def compiled(arch, folder):
    cubin = os.path.join(folder, "kernels.cubin")
    done = subprocess.run(["nvcc", *FLAGS, f"-arch={arch}", "-Xptxas", "-v", "-cubin", "-o", cubin,
                           os.path.join(ROOT, "kernels/cuda/kernels.cu")], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=True)
    found = {}
    for text in done.stdout.split("Compiling entry function '")[1:]:
        def number(pattern):
            m = re.search(pattern, text)
            return int(m[1]) if m else 0
        found[text.split("'")[0]] = dict(registers=number(r"Used (\d+) registers"), stack=number(r"(\d+) bytes stack frame"),
                                         spills=number(r"(\d+) bytes spill stores") + number(r"(\d+) bytes spill loads"))
    return cubin, found


def pipe(op):
    if op.startswith(("FFMA", "FADD", "FMUL", "IMAD", "HFMA2", "HADD2", "HMUL2")):
        return "fma"
    if op.startswith(("F2FP", "I2F", "F2F")):
        return "cvt"
    if op.startswith(("LDS", "STS", "LDG", "STG", "LDL", "STL", "LD.", "ST.", "ATOM", "SHFL", "MEMBAR", "RED")):
        return "lsu"
    return "other" if op.startswith(("BRA", "BSSY", "BSYNC", "NOP", "EXIT", "ERRBAR", "NANOSLEEP", "BAR", "WARPSYNC")) else "alu"


def main_loop(code):
    """Instructions of the backward branch's span with the most FFMA and HMMA."""
    lines = [(int(m[1], 16), m[2].strip()) for m in re.finditer(r"/\*([0-9a-f]{4,5})\*/\s+(.*?);", code)]
    spans = [(int(m[1], 16), at) for at, text in lines if "BRA" in text for m in [re.search(r"0x([0-9a-f]+)", text)]
             if m and int(m[1], 16) < at]

    def ops(span):
        return [re.sub(r"^@!?U?P\w+\s+", "", t).split()[0] for a, t in lines if span[0] <= a <= span[1]]
    return max((ops(s) for s in spans), key=lambda o: (sum(x.startswith(("FFMA", "HMMA")) for x in o), -len(o)), default=[])


def main():
    arch = sys.argv[1] if len(sys.argv) > 1 else "sm_90"
    sms, ghz = (int(sys.argv[2]), float(sys.argv[3])) if len(sys.argv) > 3 else (132, 1.755)
    with tempfile.TemporaryDirectory() as folder:
        cubin, found = compiled(arch, folder)
        sass = subprocess.run(["cuobjdump", "-sass", cubin], stdout=subprocess.PIPE, text=True, check=True).stdout
    code = {part.split("\n")[0].strip(): part for part in sass.split("Function : ")[1:]}
    print(f"{arch}; rates for {sms} multiprocessors at {ghz} GHz\n")
    print("| kernel | registers | stack | spills | slots a weight | of them fma, alu, cvt, lsu | TB/s of weights at most |")
    print("|---|--:|--:|--:|--:|--:|--:|")
    for name in sorted(found, key=lambda n: [int(w) if w.isdigit() else w for w in re.split(r"(\d+)", n)]):
        k, row = found[name], ["", "", ""]
        m, p = re.fullmatch(r"dot_(\w+)_(\d+)", name), re.fullmatch(r"product_(\w+)_(\w+)_(\d+)(?:_wide)?", name)
        if m or p:
            ops = main_loop(code[name])
            if m:
                stored, weights = m[1], {4: 128, 2: 128, 1: 256}.get(BYTES[m[1]], 512)  # of a lane in a turn: 4 rows of the blocks of a unit
            else:  # an mma has 16 rows, 16 k, 8 tokens
                stored = p[1] if p[2] == "16" else p[2]
                weights = sum(o.startswith("HMMA") for o in ops) * 16 * 16 * 8 / int(p[3]) / 32
            pipes = collections.Counter(pipe(o) for o in ops)
            slots = len(ops) / weights
            row = [f"{slots:.2f}", ", ".join(f"{pipes[p] / weights:.2f}" for p in ("fma", "alu", "cvt", "lsu")),
                   f"{sms * 128 * ghz * 1e9 / slots * BYTES[stored] / 1e12:.1f}"]
        print(f"| {name} | {k['registers']} | {k['stack']} | {k['spills']} | {' | '.join(row)} |")


main()
