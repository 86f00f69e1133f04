#!/usr/bin/env python3
"""bench_peers.py TPRUN LLAMA_BENCH DIR ROUNDS: both programs in turns on the models of DIR (bench_peers.sh makes them)."""
import json
import os
import statistics
import subprocess
import sys

TPRUN, PEER, DIR, ROUNDS = sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4])
PAIRS = (("none", "bf16"), ("int8", "q8_0"), ("int4", "q4_0"))
PROMPTS, TOKENS = (128, 512), 32


def ours(bundle, prompt, tokens, threads):
    """(prefill, decode) in tokens a second"""
    ids = ",".join(str(1 + i % 30000) for i in range(prompt))
    done = subprocess.run([TPRUN, "generate", bundle, "--prompt-ids", ids, "-n", str(tokens), "--temp", "0", "--ignore-eos", "--ids",
                           "--threads", str(threads), "--report", "json"], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, check=True)
    report = json.loads(done.stderr)
    return report["prefill_tok_s"], report["decode_tok_s"]


def peers(model, prompt, tokens, threads):
    done = subprocess.run([PEER, "-m", model, "-p", str(prompt), "-n", str(tokens), "-t", str(threads), "-r", "1", "-o", "json"],
                          stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=True)
    return [r["avg_ts"] for r in json.loads(done.stdout)][0]


def row(what, mine, theirs):
    a, b = statistics.median(mine), statistics.median(theirs)
    ratio = statistics.median(x / y for x, y in zip(mine, theirs))
    print(f"| {what} | {ratio:.2f} | {a:.1f} beside {b:.1f} tok/s ({min(mine):.1f}-{max(mine):.1f}, {min(theirs):.1f}-{max(theirs):.1f}) |", flush=True)


def main():
    print("| what | ratio | tokens a second, ours beside llama.cpp's (range) |\n|---|--:|---|", flush=True)
    for quant, gguf in PAIRS:
        bundle, model = os.path.join(DIR, quant), os.path.join(DIR, gguf + ".gguf")
        for threads in (1, 2):
            rounds = [(ours(bundle, 8, TOKENS, threads)[1], peers(model, 0, TOKENS, threads)) for _ in range(ROUNDS)]
            row(f"decode {quant} / {gguf}, {threads} thread{'s' * (threads > 1)}", *zip(*rounds))
        for prompt in PROMPTS:
            rounds = [(ours(bundle, prompt, 2, 2)[0], peers(model, prompt, 0, 2)) for _ in range(ROUNDS)]
            row(f"prefill of {prompt}, {quant} / {gguf}, 2 threads", *zip(*rounds))


main()
