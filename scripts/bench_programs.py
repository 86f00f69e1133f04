"""What the parts of a run call: our programs and benches, peers, limits of the moment."""
import glob
import json
import os
import re
import statistics
import subprocess
import time

import bench_models
from bench_models import Failed
from bench_rows import row

PEAKS = {"amx": ("TDPBF16PS 2x2",), "zen": ("VDPBF16PS", "FMA 512", "FMA 256"), "avx512": ("VDPBF16PS", "FMA 512", "FMA 256"),
         "avx2": ("FMA 256",), "other": ("FMA 256",)}
INT8_PEAKS = {"zen": ("VPDPBUSD",), "avx512": ("VPDPBUSD",)}
TILE_TURN_GFLOP = 4 * 16384e-9


class Bench:
    """What the parts need: programs, models, peers, the kind of processor."""

    def __init__(self, build, folder, shared, llama, kind):
        self.build, self.shared, self.llama, self.kind = build, shared, llama, kind
        self.models = bench_models.Models(folder, build, llama)
        self.tile_ns = None  # of a turn of 2x2 tiles, when it was last seen

    def program(self, name):
        return os.path.join(self.build, name)

    def run(self, *command, env=None):
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=dict(os.environ, **(env or {})))
        if done.returncode:
            raise Failed(f"{' '.join(command)} ends with {done.returncode}: {done.stderr.decode(errors='replace').strip()[-400:]}")
        return done

    def samples(self, *command, env=None):
        """{what: samples} of a program that prints lines of JSON"""
        lines = self.run(*command, env=env).stdout.decode().splitlines()
        try:
            return {e["what"]: e["samples"] for e in map(json.loads, lines)}
        except (ValueError, KeyError, TypeError):
            raise Failed(f"{' '.join(command)} prints no lines of JSON")

    def bench(self, name, *args):
        return self.samples(self.program("tests/bench_" + name), *map(str, args))

    def our_prompt(self, name, tokens, threads):
        """Tokens a second of a prompt that is not the first: files are mapped then, as the peer maps them before it measures."""
        return self.bench("decode", "-t", threads, "-r", 1, "-p", tokens, self.models.bundle(name))[f"prompt, {plural(threads)}"][0]

    # ---- peers ----

    def llama_rate(self, name, prompt, tokens, threads):
        """Tokens a second; a short run before it warms up, a long prompt is warm by itself."""
        warm = ["--no-warmup"] if prompt > 128 else []
        done = self.run(os.path.join(self.llama, "llama-bench"), "-m", self.models.peer(name), "-p", str(prompt), "-n", str(tokens),
                        "-t", str(threads), "-r", "1", "-o", "json", *warm)
        return [r["avg_ts"] for r in json.loads(done.stdout)][0]

    def llama_label(self, name):
        return f"llama.cpp {bench_models.FORMATS[name][1]}"

    def beside_llama(self, part, what, name, unit, ours, theirs):
        missing = {} if self.llama else {"absent": "absent (LLAMA=DIR)"}
        return row(part, what, unit, ours, self.llama_label(name), theirs or None, "llama.cpp", **missing)

    def onednn(self, tokens, threads):
        """(tokens a second of its products alone, type), or None"""
        program = self.program("tests/bench_onednn")
        if not os.path.exists(program):
            return None
        found = self.samples(program, str(tokens), "1", env={"OMP_NUM_THREADS": str(threads)})
        return next((s[0], name) for name, s in found.items())

    # ---- limits of the moment ----

    def disk(self):
        """{"read": GB/s, "write": GB/s} of large direct requests"""
        out = self.run(self.program("tests/bench_disk"), self.models.folder, str(2 << 30), "3").stdout.decode()
        return {what: float(rate) for what, rate in re.findall(r"(?m)^disk best (\w+): ([\d.]+) GB/s", out)}

    def two_threads(self):
        """How many times the additions of one thread two do at this moment: less than two where processors share a core of the host's."""
        found = self.bench("limits", "peaks", 3)
        if not found:
            return None  # no instruction that is known
        one, two = (statistics.median(next(s for w, s in found.items() if w.endswith(plural(n)))) for n in (1, 2))
        return round(two / one, 2)

    def peak(self, name, threads):
        """(10^9 operations a second of the best instruction for prompts of that format, its name)"""
        found = self.bench("limits", "peaks", 3)
        names = [n for n in (*PEAKS[self.kind], *INT8_PEAKS.get(self.kind, ())[:name == "int8"]) if f"{n}, {plural(threads)}" in found]
        rates = {n: statistics.median(found[f"{n}, {plural(threads)}"]) for n in names}
        best = max(rates, key=rates.get)
        if best.startswith("TDPBF16PS"):
            self.tile_ns = TILE_TURN_GFLOP * threads / rates[best] * 1e9
        return rates[best], best


def plural(threads):
    return f"{threads} thread{'s' * (threads > 1)}"


def rounds(most, seconds):
    """Numbers of rounds, at most so many, none begun after so many seconds: the least is one."""
    begin = time.monotonic()
    for i in range(most):
        if i and time.monotonic() - begin > seconds:
            return
        yield i


def forget(folder_or_file):
    """Its pages leave the page cache, as far as the system lets them."""
    for path in glob.glob(os.path.join(folder_or_file, "*")) if os.path.isdir(folder_or_file) else [folder_or_file]:
        fd = os.open(path, os.O_RDONLY)
        os.fsync(fd)
        os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
        os.close(fd)


def seconds_to_output(*command):
    """From exec to the first byte of standard output."""
    begin = time.monotonic()
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as p:
        first = p.stdout.read(1)
        took = time.monotonic() - begin
        p.stdout.read()
    if not first or p.returncode:
        raise Failed(f"{' '.join(command)} ends with {p.returncode}")
    return took
