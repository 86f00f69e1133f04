#!/usr/bin/env python3
"""Compare `tprun tokenize` with PyPI tokenizers on many strings, by seed.

    scripts/tokenizer_diff.py [-n COUNT] [--seed S] [--shared DIR] [FOLDER ...]

For every folder with a tokenizer.json (or .gz): ids of COUNT strings equal, what those ids decode to with and
without control tokens, and what random ids decode to. Without folders: all of DIR/data/tokenizers. First differences
are made small. A tokenizer that tpshard refuses is listed with its reason. Exit 1: something differs; 77: no PyPI
tokenizers here.
"""
import argparse
import glob
import gzip
import json
import os
import random
import subprocess
import sys
import tempfile

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import tokenizer_strings

os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
try:
    import tokenizers
except ImportError:
    print("SKIP: the Python package tokenizers is not here", file=sys.stderr)
    sys.exit(77)

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
BUILD = os.path.join(ROOT, os.environ.get("BUILD", "build"))


class Ours:
    """tprun tokenize on one compiled tokenizer: a file of lines at once, or a conversation."""

    def __init__(self, path):
        self.path, self.talks = path, {}

    def lines(self, values, *options):
        with tempfile.TemporaryFile() as f, tempfile.TemporaryFile() as out:
            for v in values:
                f.write(json.dumps(v).encode() + b"\n")
            f.seek(0)
            done = subprocess.run([BUILD + "/tprun", "tokenize", self.path, *options], stdin=f, stdout=out, stderr=subprocess.PIPE)
            out.seek(0)
            found = [json.loads(line) for line in out]
        if done.returncode or len(found) != len(values):
            return found + [f"exit {done.returncode}: {done.stderr.decode()[-300:]}"] * (len(values) - len(found))
        return found

    def one(self, value, *options):
        if options not in self.talks:
            self.talks[options] = subprocess.Popen([BUILD + "/tprun", "tokenize", self.path, *options], stdin=subprocess.PIPE,
                                                   stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        p = self.talks[options]
        try:
            p.stdin.write(json.dumps(value).encode() + b"\n")
            p.stdin.flush()
            return json.loads(p.stdout.readline())
        except (OSError, ValueError):
            del self.talks[options]
            return "error"

    def close(self):
        for p in self.talks.values():
            p.stdin.close()
            p.wait()


def smaller(value, differs):
    """A small part of a string or list that still differs."""
    step = max(1, len(value) // 2)
    while True:
        at, cut = 0, False
        while at < len(value):
            shorter = value[:at] + value[at + step:]
            if differs(shorter):
                value, cut = shorter, True
            else:
                at += step
        if step == 1 and not cut:
            return value
        step = max(1, step // 2)


def real_lines(shared):
    found = []
    for path in sorted(glob.glob(os.path.join(shared, "data", "text", "*.txt"))) + \
            sorted(glob.glob(os.path.join(shared, "data", "tokenizer-expectations", "kitoken", "*.txt"))):
        with open(path, encoding="utf-8", errors="replace", newline="\n") as f:
            found += [l.rstrip("\n")[:2000] for l in f if l.strip()]
    return found or ["No text here."]


def prepare(folder, scratch):
    """A folder as tpshard reads it: tokenizer.json unpacked, or a single file given its name."""
    path = folder if os.path.isfile(folder) else None
    for name in ("tokenizer.json", "tokenizer.json.gz"):
        if path is None and os.path.exists(os.path.join(folder, name)):
            path = os.path.join(folder, name)
    if path is None:
        return None
    with (gzip.open if path.endswith(".gz") else open)(path, "rb") as f:
        data = f.read()
    os.makedirs(scratch, exist_ok=True)
    with open(os.path.join(scratch, "tokenizer.json"), "wb") as f:
        f.write(data)
    return scratch


def report(kind, value, wanted, got, shown):
    if shown < 5:
        print(json.dumps({"differs": kind, "input": value, "expected": wanted, "got": got}), flush=True)


def compare(kind, ours, values, wanted, got, options, reference):
    bad = 0
    for v, w, g in zip(values, wanted, got):
        if w != g:
            if bad < 5:
                small = smaller(v, lambda x: ours.one(x, *options) != reference(x))
                report(kind, small, reference(small), ours.one(small, *options), bad)
            bad += 1
    return bad


def family(name, folder, o, lines):
    with tempfile.TemporaryDirectory() as d:
        model = prepare(folder, os.path.join(d, "model"))
        if model is None:
            return 0
        done = subprocess.run([BUILD + "/tpshard", "tokenizer", model, "-o", d + "/t.tpt", "-q"], stderr=subprocess.PIPE)
        if done.returncode:
            print(f"{name}: refused ({done.returncode}): {done.stderr.decode().strip()}", flush=True)
            return 0
        try:
            ref = tokenizers.Tokenizer.from_file(model + "/tokenizer.json")
        except Exception as why:
            print(f"{name}: not read by the reference: {why}", flush=True)
            return 0
        ref.no_truncation()
        ref.no_padding()
        added = [t.content for t in ref.get_added_tokens_decoder().values()]
        vocab = ref.get_vocab_size()
        rng = random.Random(o.seed)
        pieces = [p for p in (ref.decode([rng.randrange(vocab)], skip_special_tokens=False) for _ in range(3000)) if p]
        texts = tokenizer_strings.strings(o.seed, o.count, lines, added, pieces)
        ours, bad, step = Ours(d + "/t.tpt"), {}, 5000
        for at in range(0, len(texts), step):
            part = texts[at:at + step]
            wanted = [e.ids for e in ref.encode_batch_fast(part)]
            ids = ours.lines(part)
            bad["encode"] = bad.get("encode", 0) + compare("encode", ours, part, wanted, ids, (), lambda x: ref.encode(x).ids)
            plain = part[:step // 10]
            bad["encode --no-special"] = bad.get("encode --no-special", 0) + compare(
                "encode --no-special", ours, plain, [e.ids for e in ref.encode_batch_fast(plain, add_special_tokens=False)],
                ours.lines(plain, "--no-special"), ("--no-special",), lambda x: ref.encode(x, add_special_tokens=False).ids)
            rows = wanted + [[rng.randrange(vocab + 3) if rng.random() < 0.5 else rng.randrange(min(300, vocab)) for _ in range(rng.randint(0, 24))]
                             for _ in range(step // 5)]
            for skip in (False, True):
                options = ("--decode", "--no-special") if skip else ("--decode",)
                kind = " ".join(options)
                bad[kind] = bad.get(kind, 0) + compare(
                    kind, ours, rows, ref.decode_batch(rows, skip_special_tokens=skip), ours.lines(rows, *options), options,
                    lambda x: ref.decode(x, skip_special_tokens=skip))
        ours.close()
        print(f"{name}: {len(texts)} strings, " + ", ".join(f"{k}: {v} differ" for k, v in bad.items()), flush=True)
        return sum(bad.values())


def main():
    p = argparse.ArgumentParser()
    p.add_argument("-n", dest="count", type=int, default=200000)
    p.add_argument("--seed", type=int, default=1)
    p.add_argument("--shared", default=os.environ.get("SHARED", os.path.join(ROOT, "..", "shared")))
    p.add_argument("folders", nargs="*")
    o = p.parse_args()
    folders = o.folders
    if not folders:
        base = os.path.join(o.shared, "data", "tokenizers")
        folders = sorted(glob.glob(base + "/*/")) + sorted(glob.glob(base + "/tiny/*.json"))
    lines = real_lines(o.shared)
    print(f"tokenizers {tokenizers.__version__}, seed {o.seed}", flush=True)
    differ = sum(family(os.path.basename(f.rstrip("/")), f, o, lines) for f in folders)
    sys.exit(1 if differ else 0)


main()
