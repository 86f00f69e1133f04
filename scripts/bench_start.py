#!/usr/bin/env python3
"""bench_start.py TPRUN BUNDLE [ROUNDS [PEER GGUF]]: from exec to the end of a run of one token, verified and not, page cache warm and cold.

In turns; medians. Cold stands beside the fastest of several plain reads of the same files past the page cache, in turns too: the disk's
share is that read's time over the run's. PEER is llama.cpp's llama-completion, GGUF a model of the same shapes. The disk's own speed
swings where others use it: look at the ranges.
"""
import mmap
import os
import statistics
import subprocess
import sys
import threading
import time

PIECE = 4 << 20


def files_of(path):
    return [os.path.join(path, f) for f in sorted(os.listdir(path)) if f.endswith(".tps")] if os.path.isdir(path) else [path]


def evict(path):
    for f in files_of(path):
        fd = os.open(f, os.O_RDONLY)
        os.fsync(fd)
        os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
        os.close(fd)


def warm(path):
    for f in files_of(path):
        with open(f, "rb", buffering=0) as fh:
            while fh.read(PIECE):
                pass


def read_direct(path, threads, piece):
    """Seconds of a plain read, so many requests in flight."""
    jobs = [(f, at) for f in files_of(path) for at in range(0, os.path.getsize(f), piece)]
    lock = threading.Lock()

    def work():
        buffer = mmap.mmap(-1, piece)
        while True:
            with lock:
                if not jobs:
                    return
                f, at = jobs.pop(0)
            fd = os.open(f, os.O_RDONLY | os.O_DIRECT)
            os.preadv(fd, [buffer], at)
            os.close(fd)

    start, team = time.time(), [threading.Thread(target=work) for _ in range(threads)]
    for t in team:
        t.start()
    for t in team:
        t.join()
    return time.time() - start


READS = {f"{t} in flight of {p >> 20} MiB": (t, p) for t, p in ((1, PIECE), (2, PIECE), (4, PIECE), (2, 4 * PIECE))}


def timed(args):
    start = time.time()
    subprocess.run(args, check=True, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return time.time() - start


def main():
    tprun, bundle, rounds = sys.argv[1], sys.argv[2], int(sys.argv[3]) if len(sys.argv) > 3 else 5
    ours = [tprun, "generate", bundle, "--prompt-ids", "1", "-n", "1", "--temp", "0", "--ids", "-q"]
    runs = {"verified": (bundle, ours), "plain": (bundle, ours + ["--verify", "header"])}
    if len(sys.argv) > 5:
        runs["llama.cpp"] = (sys.argv[5], [sys.argv[4], "-m", sys.argv[5], "-p", "a", "-n", "1", "-t", str(os.cpu_count()), "--no-warmup", "-no-cnv"])
    for what in ("warm", "cold"):
        seconds, disk = {name: [] for name in runs}, {way: [] for way in READS}
        for i in range(-1 if what == "warm" else 0, rounds):
            if what == "cold":
                for way, (threads, piece) in READS.items():
                    evict(bundle)
                    disk[way].append(read_direct(bundle, threads, piece))
            for name, (path, args) in runs.items():
                (evict if what == "cold" else warm)(path)
                s = timed(args)
                if i >= 0:
                    seconds[name].append(s)
        for name, s in seconds.items():
            ratio = statistics.median(a / b for a, b in zip(seconds["verified"], s))
            line = f"start {what}, {name}: {statistics.median(s):.3f} s ({min(s):.3f}-{max(s):.3f})"
            if name != "verified":
                line += f", verified is {ratio:.2f} of it"
            if what == "cold":
                way = min(disk, key=lambda w: statistics.median(disk[w]))
                share = statistics.median(d / a for d, a in zip(disk[way], s))
                gb = sum(map(os.path.getsize, files_of(bundle))) / 1e9
                line += f"; disk {share:.2f}: a plain read is {statistics.median(disk[way]):.3f} s, {gb / statistics.median(disk[way]):.2f} GB/s, {way}"
            print(line, flush=True)


main()
