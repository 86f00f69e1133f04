#!/usr/bin/env python3
"""bench_convert.py TPSHARD MODEL SCRATCH ROUNDS [BEFORE]: the speed of a conversion to 4 ranks beside cp + sync of the same files, and
beside direct writes of as many bytes (build/tests/bench_disk, in its best way); of int8 and int4 in bytes of the input.

Alternating, the source read into the page cache before each; under a data limit of 256 MiB, anonymous memory
sampled. BEFORE is an older tpshard, measured in the same rounds, first in every second one. Prints a line a round and
the medians.
"""
import os
import re
import resource
import shutil
import statistics
import subprocess
import sys
import time

LIMIT = 256 << 20
FORMATS = {"convert": "none", "int8": "int8", "int4": "int4"}


def warm(folder):
    for f in os.listdir(folder):
        with open(os.path.join(folder, f), "rb", buffering=0) as fh:
            while fh.read(4 << 20):
                pass


def timed_copy(model, scratch):
    start = time.time()
    subprocess.run(["sh", "-c", 'cp -r "$1" "$2" && sync', "sh", model, scratch + "/copy"], check=True)
    return time.time() - start


def timed_convert(tpshard, model, scratch, quant):
    start, peak = time.time(), 0
    p = subprocess.Popen([tpshard, "convert", model, "-o", scratch + "/bundle", "--tp", "4", "--quant", quant, "--mem", "256M",
                          "--no-selftest", "-q"], preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_DATA, (LIMIT, LIMIT)))
    while p.poll() is None:
        try:
            for line in open(f"/proc/{p.pid}/status"):
                if line.startswith("RssAnon"):
                    peak = max(peak, int(line.split()[1]) * 1024)
        except OSError:
            pass
        time.sleep(0.01)
    if p.returncode:
        sys.exit(f"conversion ended with {p.returncode}")
    return time.time() - start, peak


def direct_write(tpshard, scratch, size, way=()):
    """GB/s, and the way: MiB a request, requests in flight"""
    probe = os.path.join(os.path.dirname(tpshard), "tests/bench_disk")
    out = subprocess.run([probe, scratch, str(size), "1", "write", *way], check=True, stdout=subprocess.PIPE).stdout.decode()
    best = re.search(r"disk best write: ([\d.]+) GB/s \((\d+) MiB, (\d+) in flight\)", out)
    return float(best[1]), best.groups()[1:]


def fresh(model, scratch):
    shutil.rmtree(scratch, ignore_errors=True)
    os.makedirs(scratch)
    subprocess.run(["sync"], check=True)
    warm(model)


def main():
    tpshard, model, scratch, rounds = sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4])
    before = sys.argv[5] if len(sys.argv) > 5 else None
    size = sum(os.path.getsize(os.path.join(model, f)) for f in os.listdir(model))
    os.makedirs(scratch, exist_ok=True)
    _, way = direct_write(tpshard, scratch, size)
    copies, directs, peaks, rates = [], [], [], {}
    programs = [("", tpshard)] + ([("before, ", before)] if before else [])
    for i in range(rounds):
        fresh(model, scratch)
        took = timed_copy(model, scratch)
        copies.append(size / 1e9 / took)
        fresh(model, scratch)
        directs.append(direct_write(tpshard, scratch, size, way)[0])
        said = [f"cp {took:.2f} s, {copies[-1]:.2f} GB/s", f"direct write {directs[-1]:.2f} GB/s"]
        for name, quant in FORMATS.items():
            for label, program in programs[::1 if i % 2 else -1]:
                fresh(model, scratch)
                took, peak = timed_convert(program, model, scratch, quant)
                rates.setdefault(label + name, []).append(size / 1e9 / took)
                peaks += [peak] if program == tpshard else []
                said.append(f"{label}{name} {took:.2f} s, {rates[label + name][-1]:.2f} GB/s")
        print("; ".join(said), flush=True)
    shutil.rmtree(scratch, ignore_errors=True)

    def ratio(a, b):
        return statistics.median(x / y for x, y in zip(a, b))

    print(f"median: {ratio(rates['convert'], copies):.2f} times cp, {statistics.median(rates['convert']):.2f} GB/s;"
          f" {ratio(rates['convert'], directs):.2f} of direct writes ({way[0]} MiB, {way[1]} in flight);"
          f" anonymous memory at most {max(peaks) / 2**20:.1f} MiB")
    for name in ("int8", "int4"):
        print(f"median: {name} {statistics.median(rates[name]):.2f} GB/s of input, {ratio(rates[name], rates['convert']):.2f} times bf16,"
              f" {ratio(rates[name], copies):.2f} x cp, {ratio(rates[name], directs):.2f} of direct writes")
    for name in FORMATS if before else ():
        print(f"median: {name} {ratio(rates[name], rates['before, ' + name]):.2f} times the speed of before")


main()
