#!/usr/bin/env python3
"""Compare every normalizer with PyPI tokenizers: every code point alone, and COUNT random sequences.

    scripts/normalizer_diff.py [-n COUNT] [--seed S] [NAME ...]

Ours runs as `tprun tokenize` with a vocabulary of the 256 bytes, so that ids are the normalized text. Differences are
printed as ranges of code points: the tables of format/text/unicode_form.c and format/text/reference_chars.c were found so. Exit 1:
something differs; 77: no PyPI tokenizers here.
"""
import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
import unicodedata

os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
try:
    from tokenizers import Regex, Tokenizer, models, normalizers as n, pre_tokenizers
except ImportError:
    print("SKIP: the Python package tokenizers is not here", file=sys.stderr)
    sys.exit(77)

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
BUILD = os.path.join(ROOT, os.environ.get("BUILD", "build"))
ALL = [c for c in range(0x110000) if not 0xd800 <= c < 0xe000]
NORMALIZERS = {"NFC": n.NFC(), "NFD": n.NFD(), "NFKC": n.NFKC(), "NFKD": n.NFKD(), "Lowercase": n.Lowercase(), "StripAccents": n.StripAccents(),
               "Nmt": n.Nmt(), "Strip": n.Strip(), "Strip left": n.Strip(True, False), "Strip right": n.Strip(False, True),
               "Prepend": n.Prepend("▁"), "Replace": n.Replace("a", "éé"), "Replace empty": n.Replace("", "-"),
               "Replace regex": n.Replace(Regex(r"\s+"), " "), "Replace regex empty": n.Replace(Regex("x*"), "-"),
               **{f"Bert {i:04b}": n.BertNormalizer(bool(i & 1), bool(i & 2), bool(i & 4), bool(i & 8)) for i in range(1, 16)}}


def letters():
    own = [b for b in range(256) if 0x21 <= b <= 0x7e or 0xa1 <= b <= 0xac or b >= 0xae]
    rest = [b for b in range(256) if b not in own]
    return {**{b: chr(b) for b in own}, **{b: chr(256 + i) for i, b in enumerate(rest)}}


def ours(normalizer, texts):
    """Every text normalized; None where tpshard refuses the normalizer."""
    t = Tokenizer(models.BPE(vocab={c: b for b, c in letters().items()}, merges=[]))
    t.normalizer = normalizer
    t.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    with tempfile.TemporaryDirectory() as d:
        t.save(d + "/tokenizer.json")
        subprocess.run([BUILD + "/tpshard", "tokenizer", d, "-o", d + "/t.tpt", "-q"], check=True)
        with open(d + "/in", "w") as f:
            f.writelines(json.dumps(x) + "\n" for x in texts)
        with open(d + "/in") as f, open(d + "/out", "wb") as out:
            subprocess.run([BUILD + "/tprun", "tokenize", d + "/t.tpt"], stdin=f, stdout=out, check=True)
        with open(d + "/out") as f:
            return [bytes(json.loads(line)).decode() for line in f]


def sequences(seed, count):
    rng = random.Random(seed)
    marks = [c for c in ALL if unicodedata.combining(chr(c))]
    composed = [c for c in ALL if unicodedata.decomposition(chr(c))]
    parts = [ord(x) for c in composed for x in unicodedata.normalize("NFD", chr(c))]
    jamo = [*range(0x1100, 0x1200), *range(0xac00, 0xd7a4, 7), *range(0xac00, 0xd7a4, 28)]
    pools = [marks, composed, parts, jamo, ALL, list(range(128)), list(range(0x900, 0xd00)), list(range(0x3040, 0x3100)), list(range(0x11000, 0x12000))]
    for i in range(count):
        some = rng.sample(pools, rng.randint(1, 4))
        yield "".join(chr(rng.choice(rng.choice(some))) for _ in range(rng.randint(1, 40 if i % 50 else 300)))


def ranges(points):
    found = []
    for c in points:
        if found and c == found[-1][1] + 1:
            found[-1][1] = c
        else:
            found.append([c, c])
    return ", ".join(f"{a:#x}-{b:#x}" for a, b in found[:50])


def main():
    p = argparse.ArgumentParser()
    p.add_argument("-n", dest="count", type=int, default=100000)
    p.add_argument("--seed", type=int, default=1)
    p.add_argument("names", nargs="*")
    o = p.parse_args()
    texts = [chr(c) for c in ALL] + list(sequences(o.seed, o.count))
    bad = 0
    for name in o.names or NORMALIZERS:
        reference = NORMALIZERS[name]
        differ = [(x, y, z) for x, y in zip(texts, ours(reference, texts)) if y != (z := reference.normalize_str(x))]
        alone = [ord(x) for x, _, _ in differ if len(x) == 1]
        print(f"{name}: {len(ALL)} code points, {len(alone)} differ {ranges(alone)}; {o.count} sequences, {len(differ) - len(alone)} differ", flush=True)
        for x, y, z in [d for d in differ if len(d[0]) > 1][:3]:
            print(f"  {ascii(x)}: {ascii(z)} expected, {ascii(y)} found")
        bad += len(differ)
    sys.exit(1 if bad else 0)


main()
