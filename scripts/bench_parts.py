"""The parts of a run: each measures something and yields rows of bench_rows.py. Whatever stands beside another thing is measured in turn with it."""
import json
import os
import re
import statistics
import sys

import bench_models
from bench_programs import forget, plural, rounds, seconds_to_output
from bench_rows import row

HERE = os.path.dirname(os.path.abspath(__file__))


def limits(b):
    found = b.bench("limits")
    for threads in (1, 2):
        reads = {w: s for w, s in found.items() if w.startswith("read ") and w.endswith(plural(threads))}
        best = max(reads, key=lambda w: statistics.median(reads[w]))
        yield row("limits", f"read, {plural(threads)}", "GB/s", reads[best], note=best[5:].rsplit(",", 1)[0])
    for what, samples in found.items():
        name, threads = what.rsplit(", ", 1)
        if name.startswith("read "):
            continue
        alone = () if threads == plural(1) else (plural(1), found[f"{name}, {plural(1)}"])
        yield row("limits", what, "Gop/s", samples, *alone)
    for what, rate in b.disk().items():
        yield row("limits", f"disk, direct {what}", "GB/s", [rate])


def dots(b):
    """The best kernels' dots of one row from memory, and of 64 from the cache."""
    isa = json.loads(b.run(b.program("tprun"), "info", "--json").stdout)["cpu"]["kernels_used"]
    found = b.bench("kernels", 5, 256, isa)
    peaks = b.bench("limits", "peaks", 5)
    for what, samples in found.items():
        stored = what.removeprefix(f"dot {isa} ")
        if not what.startswith("dot ") or stored.split(",")[0] not in ("bf16", "int8", "fp8", "int4-g128", "f32", "int4"):
            continue
        if stored.endswith(" rows"):
            if stored.endswith(" 64 rows"):
                best = max((p for p in peaks if p.startswith("FMA") and p.endswith("1 thread")), key=lambda p: statistics.median(peaks[p]))
                yield row("dots", f"{stored} in cache, 1 thread", "GFLOP/s", samples, f"{best.split(',')[0]} peak", peaks[best], "peak")
        else:
            yield row("dots", f"{stored}, from memory", "GB/s", samples, "read", found["read beside " + what[4:]])


def decode(b):
    for name in bench_models.FORMATS:
        bundle, ours, theirs = b.models.bundle(name), {}, {}
        if b.llama:
            b.models.peer(name)
        for _ in rounds(3, 40):
            for threads in (1, 2):
                for what, samples in b.bench("decode", "-r", 3, "-s", 3, "-t", threads, bundle).items():
                    ours.setdefault(what, []).extend(samples)
                if b.llama:
                    theirs.setdefault(threads, []).append(b.llama_rate(name, 0, 16, threads))
        for threads in (1, 2):
            rates = ours[f"decode, {plural(threads)}, batch 1"]
            in_turn = [statistics.median(rates[i:i + 3]) for i in range(0, len(rates), 3)]
            yield row("decode", f"{name}, {plural(threads)}", "GB/s", ours[f"weights, {plural(threads)}"], "read", ours[f"read, {plural(threads)}"])
            yield b.beside_llama("decode", f"{name}, {plural(threads)}", name, "tok/s", in_turn, theirs.get(threads))


def batch(b):
    for name in bench_models.FORMATS:
        found = b.bench("decode", "-r", 3, "-s", 2, "-t", 2, "-b", 16, b.models.bundle(name))
        one = found["decode, 2 threads, batch 1"]
        for n in (2, 4, 8, 16):
            yield row("batch", f"{name}, {n} sequences, 2 threads", "tok/s", found[f"decode, 2 threads, batch {n}"], "one sequence", one)


def roofline(b, name, tokens):
    """(tokens a second that the arithmetic allows, or where tiles are that fast the reading of the weights; the instruction)"""
    peak, instruction = b.peak(name, 2)
    limit = peak / bench_models.GFLOP_OF_TOKEN
    if b.kind == "amx":
        found = b.bench("limits", "read", 1)
        read = max(s[0] for w, s in found.items() if w.endswith("2 threads"))
        bytes_of = {"bf16": 2, "int8": 1, "int4": 0.52}[name]
        limit = min(limit, tokens * read / (bench_models.MULTIPLIED * bytes_of / 1e9))
    return limit, instruction


def prefill(b):
    for tokens, most, seconds in ((128, 3, 30), (512, 3, 40)):
        ours, limit, theirs, products, instruction = {}, {}, {}, [], {}
        for _ in rounds(most, seconds):
            found = b.onednn(tokens, 2)
            if found:
                products.append(found)
            for name in bench_models.FORMATS:
                rate, instruction[name] = roofline(b, name, tokens)
                limit.setdefault(name, []).append(rate)
                ours.setdefault(name, []).append(b.our_prompt(name, tokens, 2))
                if b.llama:
                    theirs.setdefault(name, []).append(b.llama_rate(name, tokens, 0, 2))
        for name in bench_models.FORMATS:
            what = f"{name}, {tokens} tokens"
            state = f", a turn of tiles {b.tile_ns:.0f} ns" if b.tile_ns else ""
            yield dict(row("prefill", what, "tok/s", ours[name], f"{instruction[name]} peak{state}", limit[name], "peak"), tile_ns=b.tile_ns)
            yield b.beside_llama("prefill", what, name, "tok/s", ours[name], theirs.get(name))
            if products:
                yield row("prefill", what, "tok/s", ours[name], f"oneDNN {products[0][1]}, products alone", [p[0] for p in products], "oneDNN")
            else:
                yield row("prefill", what, "tok/s", ours[name], "oneDNN", absent="absent (libdnnl-dev)")


def first_token(b, name, ours, cold):
    path = b.models.bundle(name) if ours else b.models.peer(name)
    if cold:
        forget(path)
    if ours:
        return seconds_to_output(b.program("tprun"), "generate", path, "--prompt-ids", "1", "-n", "1", "--temp", "0", "--ignore-eos", "--ids", "--threads", "2")
    return seconds_to_output(os.path.join(b.llama, "llama-bench"), "-m", path, "-p", "0", "-n", "1", "-r", "1", "--no-warmup", "-t", "2", "-o", "jsonl")


def start(b):
    """The first step of an engine, with verification and without; from exec to the first token, two threads: llama-bench decodes one without
    warming up, and prints when it has."""
    for name in bench_models.FORMATS:
        found = b.bench("start", b.models.bundle(name), 5, 3)
        for threads in (plural(1), plural(2)):
            yield row("start", f"{name}, first step, verified, {threads}", "ms", found[f"first step verified, {threads}"], "plain",
                      found[f"first step plain, {threads}"])
        yield row("start", f"{name}, cold, first logits", "s", found["cold first logits"], "a plain read of the files", found["cold plain read"])
        for state, most in (("warm", 5), ("cold", 3)):
            first_token(b, name, True, False)
            both = [(first_token(b, name, True, state == "cold"), first_token(b, name, False, state == "cold") if b.llama else None)
                    for _ in rounds(most, 20)]
            yield b.beside_llama("start", f"{name}, {state}", name, "s", [o for o, _ in both], [t for _, t in both] if b.llama else None)


def per_line(pattern, text):
    return [float(x) for x in re.findall(pattern, text)]


def convert(b):
    out = b.run(os.path.join(HERE, "bench_convert.py"), b.program("tpshard"), b.models.checkpoint(), b.models.path("converted"), "4").stdout.decode()
    ours, what = per_line(r"; convert [\d.]+ s, ([\d.]+) GB/s", out), "bf16 to 4 ranks"
    yield row("convert", what, "GB/s", ours, "cp + sync", per_line(r"(?m)^cp [\d.]+ s, ([\d.]+) GB/s", out), "cp")
    yield row("convert", what, "GB/s", ours, "direct write", per_line(r"direct write ([\d.]+) GB/s", out))
    yield row("convert", "anonymous memory", "MiB", per_line(r"anonymous memory at most ([\d.]+) MiB", out), "128 MiB", [128.0])
    for name in ("int8", "int4"):
        yield row("convert", f"{name} to 4 ranks", "GB/s of input", per_line(rf"; {name} [\d.]+ s, ([\d.]+) GB/s", out), "bf16", ours)


def ranks(b):
    ours, theirs = [], []
    for _ in rounds(5, 30):
        for tp, to in ((2, ours), (1, theirs)):
            found = b.bench("decode", "-r", 3, "-s", 3, "-t", 2, b.models.bundle("bf16", tp))
            to.append(statistics.median(found["decode, 2 threads, batch 1"]))
    yield row("ranks", "decode of 2 ranks, 2 threads", "tok/s", ours, "one rank", theirs)
    found = b.bench("allreduce", 2, 21)
    handover = [min(found["handover"])]
    yield row("ranks", "a line handed over", "us", found["handover"])
    yield row("ranks", "a meeting", "us", found["meeting"], "the quickest handover", handover)
    for kib in (4, 8, 16, 32, 64):
        beside = ("0.7 us or 8 handovers", [max(0.7, 8 * handover[0])]) if kib == 8 else ("the quickest handover", handover)
        yield row("ranks", f"all-reduce of {kib} KiB", "us", found[f"all-reduce {kib} KiB"], *beside)
        yield row("ranks", f"all-reduce of {kib} KiB with residual and norm", "us", found[f"phase {kib} KiB"], "the same, alone", found[f"alone {kib} KiB"])


def sampler(b):
    found = b.bench("sampler")
    for what, samples in found.items():
        kind, sigma = what.rsplit(", ", 1)
        if kind != "exp":
            yield row("sampler", f"{kind}, logits of {sigma}", "ms", samples, "exp of as many", found[f"exp, {sigma}"])


def tokenizers(b):
    out = b.run(os.environ.get("PYTHON") or sys.executable, os.path.join(HERE, "bench_tokenizers.py"), b.program("tpshard"), b.program("tprun"),
                b.shared, "3").stdout.decode()
    for l in out.splitlines():
        if l.startswith("SKIP"):
            print(l, flush=True)
        elif l.startswith("{"):
            e = json.loads(l)
            yield row("tokenizers", e["what"], "MB/s", e["ours"], "PyPI tokenizers", e["theirs"], note=f"ready in {statistics.median(e['ready_ms']):.1f} ms")


# In the order of a run. `models` makes them, so that no part has to.
PARTS = {f.__name__: f for f in (limits, dots, decode, batch, prefill, start, convert, ranks, sampler, tokenizers)}
