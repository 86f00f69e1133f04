#!/usr/bin/env python3
"""The kept inputs of the fuzzers go through their targets without a finding."""
import glob
import os
import subprocess
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))
import harness


def targets():
    return sorted(os.path.basename(p)[:-2] for p in glob.glob(os.path.join(harness.ROOT, "tests/fuzz/fuzz_*.c")))


def test_every_target_replays_its_corpus():
    for target in targets():
        corpus = os.path.join(harness.ROOT, "tests/fuzz/corpus", target)
        assert os.path.isdir(corpus) and os.listdir(corpus), f"no corpus of {target}"
        done = subprocess.run([os.path.join(harness.BUILD, "tests", target), corpus], cwd=harness.ROOT,
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=300)
        text = done.stdout.decode(errors="replace")
        assert done.returncode == 0, f"{target}: status {done.returncode}\n{text[-3000:]}"
        assert text.split()[0] == str(len(os.listdir(corpus))), text
        print(f"    {target}: {text.strip()}")


harness.main(globals())
