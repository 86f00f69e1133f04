#!/usr/bin/env python3
"""Every allocation of every command fails in turn, alone or with all that follow, whoever's it is: the command ends with 0 and what it
makes is right, or with 6, one line, and nothing half made. Then memory is there again, and the same command does its work.
ALLOCS=N: so many places of each command (a sample otherwise; 0: all)."""
import concurrent.futures
import json
import os
import random
import resource
import shutil
import subprocess
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))
import harness
from harness import DEMO, Skip, checkpoint, error_line, run, tiny_model, tpshard, tree_bytes

ALLOCS = int(os.environ.get("ALLOCS", 6 if os.environ.get("TIER") == "check" else 24))
PRELOAD = os.path.join(harness.BUILD, "tests", "fail_alloc.so")
CHAT = b'{"messages": [{"role": "user", "content": "a <b> \xc3\xa9"}], "name": "x", "list": [1, 2.5, null, "c"]}\n'
TEMPLATE = """{% macro twice(x, y=2) %}{{ x|upper|replace('A', 'b') * y }}{% endmacro %}{% for m in messages %}{{ loop.index }}{{ m['role'] }}: {{ m.content|trim|e }}
{{ twice(m.content) }}{{ m|tojson(indent=2) }}{% set ns = namespace(a=[1, 2]) %}{% set ns.a = ns.a + [4] %}{{ ns.a|join(',') }}{{ m.content.split(' ')|list }}{{ {'a': 1, 'b': [1, 2]}|items|list }}
{{ range(5)|map('string')|join('-') }}{{ m.content[::-1] }}{{ name ~ list }}{% endfor %}"""


class Case:
    """A command in a world of its own; MADE is what it makes there, WORLD what is there before."""

    def __init__(self, name, args, stdin=b"", before=()):
        self.name, self.args, self.stdin, self.before = name, args, stdin, before

    def run(self, world, limit=None, **env):
        shutil.rmtree(world, ignore_errors=True)
        os.mkdir(world)
        for path in self.before:
            shutil.copytree(path, os.path.join(world, "out"))
        return self.again(world, limit, **env)

    def again(self, world, limit=None, **env):
        if env:
            env["LD_PRELOAD"] = PRELOAD
        held = (lambda: resource.setrlimit(resource.RLIMIT_AS, (limit, limit))) if limit else None
        return subprocess.run([str(a) for a in self.args], cwd=world, input=self.stdin, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                              env=dict(os.environ, **env), preexec_fn=held, timeout=120)

    def learn(self, world):
        done = self.run(world, FAIL_ALLOC="count")
        assert done.returncode == 0, f"{self.name}: {done.stderr.decode()}"
        self.count = int(done.stderr.decode().rsplit("allocations: ", 1)[1].split()[0])
        self.old = {f"out/{n}": d for path in self.before for n, d in tree_bytes(path).items()}
        self.made, self.said = tree_bytes(world), done.stdout

    def check(self, done, world, what):
        """None, or what is wrong"""
        now, code, text = tree_bytes(world), done.returncode, done.stderr.decode(errors="replace")
        if code == 0:
            wrong = [n for n in {*now, *self.made} if now.get(n) != self.made.get(n)] + (["standard output"] if done.stdout != self.said else [])
            return wrong and f"{what}: status 0, and wrong: {wrong}"
        if code != 6:
            return f"{what}: status {code}: {text[-300:]}"
        if len([l for l in text.splitlines() if ": error MM" in l]) != 1:
            return f"{what}: one line expected: {text[-600:]}"
        finished = {n: d for n, d in now.items() if not n.startswith("out.partial/")}
        return finished not in (self.old, self.made) and f"{what}: made in part: {sorted(finished)}"

    def fail_at(self, k, world, repeat):
        what = f"{self.name}: allocation {k} of {self.count}"
        done = self.run(world, FAIL_ALLOC=k)
        wrong = self.check(done, world, what)
        if not wrong and repeat and done.returncode == 6:
            again = self.again(world)
            if again.returncode == 2 and tree_bytes(world) == self.made:  # it was made, and what failed came after
                return done.returncode, None
            wrong = self.check(again, world, what + ", again") or (again.returncode and f"{what}, again: {again.stderr.decode()}")
        return done.returncode, wrong


def cases(folder):
    """name -> Case, over models made in folder"""
    T, R = harness.TPSHARD, harness.TPRUN
    yarn, tiny = checkpoint("yarn"), f"{folder}/tiny"
    tiny_model(tiny)
    for model, name, args in ((tiny, "t", ("--tp", "2")), (tiny, "t3", ("--tp", "3")), (tiny, "z", ("--tp", "2", "--compress", "zstd")),
                              (yarn, "b", ("--tp", "2", "--no-selftest")), (DEMO, "demo", ("--tp", "2", "--no-selftest"))):
        tpshard("convert", model, "-o", f"{folder}/{name}", "-q", *args)
    with open(f"{folder}/template", "w") as f:
        f.write(TEMPLATE)
    with open(f"{folder}/prompts", "w") as f:
        f.write('{"id": 1, "prompt": "hello world", "n": 3}\n{"id": "x", "prompt_ids": [1, 2, 3]}\n')
    b, t, one, ids = f"{folder}/b", f"{folder}/t", ("--threads", "1"), ("--prompt-ids", "1,2,3")
    fill = ("-o", "out", "-q", "--no-selftest", *one)
    said = json.dumps("hello a b c").encode() + b'\n"x"\n'
    return {c.name: c for c in (
        Case("plan", [T, "plan", f"{yarn}/config.json", "--tp", "1,3"]),
        Case("plan json", [T, "plan", f"{yarn}/config.json", "--json"]),
        Case("dry run", [T, "convert", tiny, "-o", "out", "--dry-run", "--json", "--tp", "2"]),
        Case("convert", [T, "convert", tiny, *fill, "--tp", "2"]),
        Case("convert over another", [T, "convert", tiny, *fill, "--tp", "2", "--force"], before=[f"{folder}/t3"]),
        Case("convert quantized", [T, "convert", tiny, *fill, "--quant", "int8"]),
        Case("convert tokenizer", [T, "convert", yarn, *fill]),
        Case("convert zstd", [T, "convert", tiny, *fill, "--tp", "2", "--compress", "zstd"]),
        Case("convert selftest", [T, "convert", tiny, "-o", "out", "-q", *one]),
        Case("convert threads", [T, "convert", tiny, "-o", "out", "-q", "--no-selftest", "--threads", "3"]),
        Case("reshard", [T, "reshard", t, "-o", "out", "--tp", "3", "-q", *one]),
        Case("export", [T, "export", t, "-o", "out", "-q", *one]),
        Case("verify", [T, "verify", f"{folder}/z", "-q", *one]),
        Case("verify against", [T, "verify", b, "--against", yarn, "-q", *one]),
        Case("inspect", [T, "inspect", b, "--tensors"]),
        Case("inspect json", [T, "inspect", b, "--json", "--tensors"]),
        Case("diff", [T, "diff", t, f"{folder}/t3", *one]),
        Case("tokenizer", [T, "tokenizer", yarn, "-o", "tok.tpt", "-q"]),
        Case("generate", [R, "generate", b, "-p", "hello world", "-n", "4", "-q", *one]),
        Case("generate zstd", [R, "generate", f"{folder}/z", *ids, "-n", "4", "--ids", "-q", "--threads", "2"]),
        Case("generate many", [R, "generate", b, "--prompts", f"{folder}/prompts", "-n", "4", "-q", "--json", "--trace", "trace", *one]),
        Case("generate sampled", [R, "generate", f"{folder}/demo", "-p", "Once", "-n", "4", "-q", "--temp", "0.7", "--top-p", "0.9", "--json", "--stop", "zz", *one]),
        Case("logits", [R, "logits", b, "-p", "hello world", "-o", "l.f32", "-q", *one]),
        Case("selftest", [R, "selftest", t, "-q", *one]),
        Case("tokenize", [R, "tokenize", b], said),
        Case("tokenize back", [R, "tokenize", b, "--decode"], b"[1,2,3,200]\n"),
        Case("render", [R, "render", "--template", f"{folder}/template", "--origin"], CHAT),
        Case("chat", [R, "chat", f"{folder}/demo", "-n", "4", *one], b"hello\n/quit\n"),
        Case("info", [R, "info"]),
    )}


def wanted(folder):
    """Those whose name is CASE, all without; each has run once"""
    if harness.SHARE != 1 and os.environ.get("CONFIG", "release") != "release":
        raise Skip("sanitizers have an allocator of their own")
    for name, case in cases(folder).items():
        if os.environ.get("CASE", name) == name:
            case.learn(f"{folder}/world")
            yield case


def places(case, rng):
    ks = range(1, case.count + 1)
    ks = ks if ALLOCS == 0 else sorted({1, case.count, *rng.sample(ks, min(ALLOCS // 2, case.count))})
    return [str(k) for k in ks] + [f"{k}+" for k in ks]


def in_parallel(folder, jobs, work):
    """work(job, world) of every job, in a world for each processor"""
    n = os.cpu_count()
    with concurrent.futures.ThreadPoolExecutor(n) as team:
        parts = [team.submit(lambda i: [work(job, f"{folder}/world{i}") for job in jobs[i::n]], i) for i in range(n)]
        return [r for part in parts for r in part.result()]


def tell(case, found, wrong):
    """found: (status, what is wrong or None) of every run"""
    print(f"    {case.name}: {case.count} allocations, {len(found)} faults, {sum(code == 6 for code, _ in found)} of them exit 6", flush=True)
    bad = [w for _, w in found if w]
    for w in bad[:4]:
        print(f"      WRONG {w}", flush=True)
    wrong += bad


def test_every_allocation_fails(folder):
    rng, wrong = random.Random(11), []
    for case in wanted(folder):
        jobs = places(case, rng)
        repeated = set(jobs if ALLOCS == 0 else rng.sample(jobs, len(jobs) // 2))
        tell(case, in_parallel(folder, jobs, lambda k, world: case.fail_at(k, world, k in repeated)), wrong)
    assert not wrong, f"{len(wrong)}: {wrong[0]}"


def test_too_little_address_space(folder):
    """From 64 MiB up until a command has what it needs."""
    wrong = []
    for case in wanted(folder):
        found, mib, step = [], 64, 2 if ALLOCS == 0 else 16
        while mib < 4096 and [code for code, _ in found[-3:]] != [0, 0, 0]:
            done = case.run(f"{folder}/world", mib << 20)
            found.append((done.returncode, case.check(done, f"{folder}/world", f"{case.name}: {mib} MiB")))
            mib += step
        tell(case, found, wrong)
    assert not wrong, f"{len(wrong)}: {wrong[0]}"


harness.main(globals())
