#!/usr/bin/env python3
"""Compare a bundle's logits and greedy tokens with the golden results of its checkpoint.

    golden_check.py TPRUN BUNDLE CHECKPOINT_DIR [tprun options ...]

The checkpoint folder holds golden.json and golden-logits.f32: logits of a float64 run for every prompt position
of three cases, 24 greedy tokens each, and how far PyTorch is from that truth in each dtype. The bar: no further
from the truth than PyTorch in the checkpoint's own dtype (twice that where it is float32).
"""
import array
import json
import math
import os
import subprocess
import sys
import tempfile


class Failure(Exception):
    pass


def load_golden(checkpoint):
    with open(os.path.join(checkpoint, "golden.json")) as f:
        golden = json.load(f)
    truth = array.array("f")
    with open(os.path.join(checkpoint, golden["logits"]), "rb") as f:
        truth.frombytes(f.read())
    if len(truth) != golden["rows"] * golden["vocab"]:
        raise Failure(f"{checkpoint}: golden logits have {len(truth)} values")
    return golden, truth


def run(args):
    """stdout of a program that must succeed."""
    done = subprocess.run([str(a) for a in args], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    if done.returncode != 0:
        raise Failure(f"exit {done.returncode}: {' '.join(str(a) for a in args)}\n{done.stderr.decode()}")
    return done.stdout


def write_prompts(path, golden, n):
    with open(path, "w") as f:
        for i, case in enumerate(golden["cases"]):
            f.write(json.dumps({"id": i, "prompt_ids": case["prompt_ids"], "n": n}) + "\n")


def logits(tprun, bundle, golden, options, folder):
    prompts, out = os.path.join(folder, "prompts.jsonl"), os.path.join(folder, "logits.f32")
    write_prompts(prompts, golden, 0)
    run([tprun, "logits", bundle, "--prompts", prompts, "-o", out, "-q", *options])
    found = array.array("f")
    with open(out, "rb") as f:
        found.frombytes(f.read())
    return found


def errors(found, truth):
    """(rms, max) of the difference"""
    if len(found) != len(truth):
        raise Failure(f"{len(found)} logits, {len(truth)} expected")
    total, most = 0.0, 0.0
    for a, b in zip(found, truth):
        d = abs(a - b)
        if not d <= most:
            most = d
        total += d * d
    return math.sqrt(total / len(truth)), most


def greedy(tprun, bundle, golden, options, folder):
    """New ids of every case, all in one batch."""
    prompts = os.path.join(folder, "prompts.jsonl")
    write_prompts(prompts, golden, len(golden["cases"][0]["greedy_ids"]))
    out = run([tprun, "generate", bundle, "--prompts", prompts, "--temp", "0", "--ignore-eos", "--json", "-q",
               *options])
    lines = {line["id"]: line["ids"] for line in map(json.loads, out.splitlines())}
    return [lines[i] for i in range(len(golden["cases"]))]


def greedy_alone(tprun, bundle, case, options):
    out = run([tprun, "generate", bundle, "--prompt-ids", ",".join(map(str, case["prompt_ids"])), "--temp", "0", "-n",
               len(case["greedy_ids"]), "--ignore-eos", "--ids", "-q", *options])
    return [int(x) for x in out.split()]


def check(tprun, bundle, checkpoint, options=(), tokens=True):
    """Raises Failure. Returns (rms, max) against the bar, as shares of it."""
    golden, truth = load_golden(checkpoint)
    dtype = golden["own_dtype"]
    bar = golden["error_transformers"][dtype]
    factor = 2.0 if dtype == "float32" else 1.0
    with tempfile.TemporaryDirectory() as folder:
        rms, most = errors(logits(tprun, bundle, golden, options, folder), truth)
        if not rms <= factor * bar["rms"] or not most <= factor * bar["max"]:
            raise Failure(f"{bundle}: distance of the logits: rms {rms:.3g}, max {most:.3g}; "
                          f"allowed {factor * bar['rms']:.3g}, {factor * bar['max']:.3g}")
        if tokens:
            found = greedy(tprun, bundle, golden, options, folder)
            for i, case in enumerate(golden["cases"]):
                if found[i] != case["greedy_ids"]:
                    raise Failure(f"{bundle}: case {i}: greedy ids {found[i]}, {case['greedy_ids']} expected")
                if greedy_alone(tprun, bundle, case, options) != case["greedy_ids"]:
                    raise Failure(f"{bundle}: case {i} alone: other greedy ids than in a batch")
    return rms / (factor * bar["rms"]), most / (factor * bar["max"])


if __name__ == "__main__":
    if len(sys.argv) < 4:
        sys.exit(__doc__)
    try:
        shares = check(sys.argv[1], sys.argv[2], sys.argv[3], sys.argv[4:])
    except Failure as failure:
        sys.exit(f"FAIL: {failure}")
    print("ok: rms %.2f, max %.2f of the bar" % shares)
