#!/usr/bin/env python3
"""bench_convert.py TPSHARD MODEL SCRATCH ROUNDS [BEFORE]: the speed of a conversion to 4 ranks beside cp + sync of the same files.

Alternating, the source read into the page cache before each; under a data limit of 256 MiB, anonymous memory
sampled. BEFORE is an older tpshard, measured in the same rounds, first in every second one. Prints a line a round and
the medians.
"""
import os
import resource
import shutil
import statistics
import subprocess
import sys
import time

LIMIT = 256 << 20


def warm(folder):
    for f in os.listdir(folder):
        with open(os.path.join(folder, f), "rb", buffering=0) as fh:
            while fh.read(4 << 20):
                pass


def timed_copy(model, scratch):
    start = time.time()
    subprocess.run(["sh", "-c", 'cp -r "$1" "$2" && sync', "sh", model, scratch + "/copy"], check=True)
    return time.time() - start


def timed_convert(tpshard, model, scratch):
    start, peak = time.time(), 0
    p = subprocess.Popen([tpshard, "convert", model, "-o", scratch + "/bundle", "--tp", "4", "--mem", "256M", "--no-selftest", "-q"],
                         preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_DATA, (LIMIT, LIMIT)))
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


def fresh(model, scratch):
    shutil.rmtree(scratch, ignore_errors=True)
    os.makedirs(scratch)
    subprocess.run(["sync"], check=True)
    warm(model)


def main():
    tpshard, model, scratch, rounds = sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4])
    before = sys.argv[5] if len(sys.argv) > 5 else None
    size = sum(os.path.getsize(os.path.join(model, f)) for f in os.listdir(model)) / 1e9
    ratios, rates, peaks, gains = [], [], [], []
    for i in range(rounds):
        fresh(model, scratch)
        copy = timed_copy(model, scratch)
        took = {}
        for program in sorted({tpshard, before} - {None}, key=lambda p: (p == before) == (i % 2 == 0)):
            fresh(model, scratch)
            took[program], peak = timed_convert(program, model, scratch)
            if program == tpshard:
                peaks.append(peak)
        convert = took[tpshard]
        ratios.append(copy / convert)
        rates.append(size / convert)
        beside = ""
        if before:
            gains.append(took[before] / convert)
            beside = f"; before {took[before]:.2f} s, {size / took[before]:.2f} GB/s"
        print(f"cp {copy:.2f} s, {size / copy:.2f} GB/s; convert {convert:.2f} s, {size / convert:.2f} GB/s;"
              f" ratio {copy / convert:.2f}{beside}", flush=True)
    shutil.rmtree(scratch, ignore_errors=True)
    print(f"median: {statistics.median(ratios):.2f} times cp, {statistics.median(rates):.2f} GB/s;"
          f" anonymous memory at most {max(peaks) / 2**20:.1f} MiB")
    if before:
        print(f"median: {statistics.median(gains):.2f} times the speed of before")


main()
