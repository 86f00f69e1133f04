#!/usr/bin/env python3
"""Every allocation of every command fails in turn, alone or with all that follow, whoever's it is: the command ends with 0 and what it
makes is right, or with 6, one line, and nothing half made. Then memory is there again, and the same command does its work.
ALLOCS=N: so many places of each command (a sample otherwise; 0: all)."""
import concurrent.futures
import json
import os
import random
import resource
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))
import harness
from every_command import Case, cases
from harness import Skip, run, tpshard, tree_bytes

ALLOCS = int(os.environ.get("ALLOCS", 6 if os.environ.get("TIER") == "check" else 24))
PRELOAD = os.path.join(harness.BUILD, "tests", "fail_alloc.so")
class Sweep:
    """A command whose allocations fail."""

    def __init__(self, case, world):
        self.case, self.name = case, case.name
        done = case.learn(world, env=self.preload("count"))
        self.count, self.left = self.told(done)

    @staticmethod
    def preload(what):
        return {"LD_PRELOAD": PRELOAD, "FAIL_ALLOC": what}

    @staticmethod
    def told(done):
        """(allocations, blocks that were not freed); a program that gives up at once does not say"""
        if b"allocations: " not in done.stderr:
            return 0, 0
        words = done.stderr.decode(errors="replace").rsplit("allocations: ", 1)[1].split()
        return int(words[0]), int(words[2])

    def check(self, done, world, what):
        """None, or what is wrong"""
        code, text = done.returncode, done.stderr.decode(errors="replace")
        if code == 0:
            wrong = self.case.differs(done, world)
            return wrong and f"{what}: status 0, and wrong: {wrong}"
        if code != 6:
            return f"{what}: status {code}: {text[-300:]}"
        if len([l for l in text.splitlines() if ": error MM" in l]) != 1:
            return f"{what}: one line expected: {text[-600:]}"
        finished = {n: d for n, d in tree_bytes(world).items() if not n.startswith("out.partial/")}
        return finished not in (self.case.old, self.case.made) and f"{what}: made in part: {sorted(finished)}"

    def fail_at(self, k, world, repeat):
        what = f"{self.name}: allocation {k} of {self.count}"
        done = self.case.run(world, env=self.preload(k))
        wrong = self.check(done, world, what)
        if not wrong and self.told(done)[1] > self.left:
            wrong = f"{what}: {self.told(done)[1]} allocations are not freed, {self.left} otherwise"
        if not wrong and repeat and done.returncode == 6:
            again = self.case.again(world)
            if again.returncode == 2 and tree_bytes(world) == self.case.made:  # it was made, and what failed came after
                return done.returncode, None
            wrong = self.check(again, world, what + ", again") or (again.returncode and f"{what}, again: {again.stderr.decode()}")
        return done.returncode, wrong


def wanted(all_cases, folder):
    """Those whose name is CASE, all without"""
    if harness.SHARE != 1 and os.environ.get("CONFIG", "release") != "release":
        raise Skip("sanitizers have an allocator of their own")
    for case in all_cases:
        if os.environ.get("CASE", case.name) == case.name:
            yield Sweep(case, f"{folder}/world")


def places(sweep, rng):
    ks = range(1, sweep.count + 1)
    ks = ks if ALLOCS == 0 else sorted({1, sweep.count, *rng.sample(ks, min(ALLOCS // 2, sweep.count))})
    return [str(k) for k in ks] + [f"{k}+" for k in ks]


def in_parallel(folder, jobs, work):
    """work(job, world) of every job, in a world for each processor"""
    n = os.cpu_count()
    with concurrent.futures.ThreadPoolExecutor(n) as team:
        parts = [team.submit(lambda i: [work(job, f"{folder}/world{i}") for job in jobs[i::n]], i) for i in range(n)]
        return [r for part in parts for r in part.result()]


def tell(sweep, found, wrong):
    """found: (status, what is wrong or None) of every run"""
    print(f"    {sweep.name}: {sweep.count} allocations, {len(found)} faults, {sum(code == 6 for code, _ in found)} of them exit 6", flush=True)
    bad = [w for _, w in found if w]
    for w in bad[:4]:
        print(f"      WRONG {w}", flush=True)
    wrong += bad


def test_every_allocation_fails(folder):
    rng, wrong = random.Random(11), []
    for sweep in wanted(cases(folder), folder):
        jobs = places(sweep, rng)
        repeated = set(rng.sample(jobs, len(jobs) // 2 if ALLOCS else len(jobs) // 8))
        tell(sweep, in_parallel(folder, jobs, lambda k, world: sweep.fail_at(k, world, k in repeated)), wrong)
    assert not wrong, f"{len(wrong)}: {wrong[0]}"


def large_cases(folder):
    """Commands that want more than 64 MiB, on a model of 40 MB"""
    T, R, model = harness.TPSHARD, harness.TPRUN, f"{folder}/large"
    with open(f"{folder}/config.json", "w") as f:
        json.dump(dict(architectures=["LlamaForCausalLM"], model_type="llama", hidden_size=512, num_attention_heads=8, num_key_value_heads=2,
                       intermediate_size=2048, vocab_size=16000, num_hidden_layers=3, rms_norm_eps=1e-5, rope_theta=10000.0,
                       max_position_embeddings=4096, hidden_act="silu", tie_word_embeddings=True, torch_dtype="bfloat16"), f)
    run([sys.executable, os.path.join(harness.ROOT, "scripts/synth_checkpoint"), f"{folder}/config.json", "-o", model])
    for name, args in (("l", ()), ("lz", ("--compress", "zstd"))):
        tpshard("convert", model, "-o", f"{folder}/{name}", "-q", "--no-selftest", *args)
    many, ids = ("-q", "--threads", "6"), ("--prompt-ids", "1,2,3")
    return (
        Case("convert 40 MB", [T, "convert", model, "-o", "out", "--no-selftest", "--tp", "3", *many]),
        Case("convert 40 MB, zstd", [T, "convert", model, "-o", "out", "--no-selftest", "--compress", "zstd", *many]),
        Case("convert 40 MB, selftest", [T, "convert", model, "-o", "out", "--force", "--quant", "int8", *many], before=[f"{folder}/l"]),
        Case("reshard 40 MB", [T, "reshard", f"{folder}/lz", "-o", "out", "--tp", "3", *many]),
        Case("export 40 MB", [T, "export", f"{folder}/l", "-o", "out", *many]),
        Case("verify 40 MB", [T, "verify", f"{folder}/lz", *many]),
        Case("generate 40 MB", [R, "generate", f"{folder}/l", *ids, "-n", "2", "--ids", "--context", "4000", *many]),
        Case("generate 40 MB, zstd", [R, "generate", f"{folder}/lz", *ids, "-n", "2", "--ids", *many]),
        Case("logits 40 MB", [R, "logits", f"{folder}/l", *ids, "-o", "l.f32", *many]),
    )


def test_too_little_address_space(folder):
    """From 64 MiB up, until a command has what it needs."""
    wrong = []
    large = () if os.environ.get("TIER") == "check" else large_cases(folder)
    for sweep in wanted([*cases(folder), *large], folder):
        found, mib, step = [], 64, 4 if ALLOCS == 0 else 64
        while mib < 4096 and [code for code, _ in found[-2:]] != [0, 0]:
            limits = (mib << 20, mib << 20)
            done = sweep.case.run(f"{folder}/world", preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_AS, limits))
            found.append((done.returncode, sweep.check(done, f"{folder}/world", f"{sweep.name}: {mib} MiB")))
            mib += step
        tell(sweep, found, wrong)
    assert not wrong, f"{len(wrong)}: {wrong[0]}"


harness.main(globals())
