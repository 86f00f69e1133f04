#!/usr/bin/env python3
"""How fast `tprun tokenize` encodes beside PyPI tokenizers on one thread, interleaved in one run.

    scripts/bench_tokenizers.py TPSHARD TPRUN SHARED [ROUNDS]

Text: the files of SHARED/data/text in paragraphs of about 2 kB. tprun's time is that of a run over all of it, JSON in
and out included, less that of a run over nothing; the other's is that of encode, paragraph by paragraph, in a process
that has the tokenizer loaded. A line of JSON for each tokenizer: MB/s of ROUNDS (default 5), ours and theirs in turn, and milliseconds
from exec to the answer to an empty text.
"""
import glob
import gzip
import json
import os
import subprocess
import sys
import tempfile
import time

os.environ.update(RAYON_NUM_THREADS="1", TOKENIZERS_PARALLELISM="false")
PARAGRAPH = 2000


def paragraphs(shared):
    found = []
    for path in sorted(glob.glob(os.path.join(shared, "data", "text", "*.txt"))):
        with open(path, encoding="utf-8", newline="\n") as f:
            text = f.read()
        at = 0
        while at < len(text):
            end = text.find("\n", at + PARAGRAPH)
            end = len(text) if end < 0 else end + 1
            found.append(text[at:end])
            at = end
    return found


def seconds(args, lines):
    with open(lines) as f:
        start = time.perf_counter()
        subprocess.run(args, stdin=f, stdout=subprocess.DEVNULL, check=True)
        return time.perf_counter() - start


def family(name, folder, programs, texts, rounds, d):
    import tokenizers
    with open(folder + "/tokenizer.json", "rb") if os.path.exists(folder + "/tokenizer.json") else gzip.open(folder + "/tokenizer.json.gz") as f:
        data = f.read()
    with open(d + "/tokenizer.json", "wb") as f:
        f.write(data)
    done = subprocess.run([programs[0], "tokenizer", d, "-o", d + "/t.tpt", "-q"], stderr=subprocess.PIPE)
    if done.returncode:
        print(f"SKIP {name}: {done.stderr.decode().strip()}")
        return
    reference = tokenizers.Tokenizer.from_str(data.decode())
    args = [programs[1], "tokenize", d + "/t.tpt"]
    mb = sum(len(t.encode()) for t in texts) / 1e6
    found = {"what": name, "ours": [], "theirs": [], "ready_ms": []}
    for _ in range(rounds):
        nothing = min(seconds(args, os.devnull) for _ in range(3))
        found["ready_ms"].append(nothing * 1000)
        found["ours"].append(mb / (seconds(args, d + "/lines") - nothing))
        start = time.perf_counter()
        reference.encode_batch_fast(texts)
        found["theirs"].append(mb / (time.perf_counter() - start))
    print(json.dumps(found), flush=True)


def main():
    shared, rounds = sys.argv[3], int(sys.argv[4]) if len(sys.argv) > 4 else 5
    try:
        import tokenizers
    except ImportError:
        print("SKIP tokenizers: the Python package tokenizers is not here")
        return
    texts = paragraphs(shared)
    folders = [f for f in sorted(glob.glob(os.path.join(shared, "data", "tokenizers", "*"))) if glob.glob(f + "/tokenizer.json*")]
    if not texts or not folders:
        print(f"SKIP tokenizers: no texts or tokenizers in {shared}/data")
        return
    print(f"tokenizers {tokenizers.__version__}, {sum(len(t.encode()) for t in texts) / 1e6:.1f} MB in {len(texts)} paragraphs, one thread")
    with tempfile.TemporaryDirectory() as d:
        with open(d + "/lines", "w") as f:
            f.writelines(json.dumps(t) + "\n" for t in texts)
        for folder in folders:
            family(os.path.basename(folder), folder, sys.argv[1:3], texts, rounds, d)


main()
