"""A command of every kind, on small models, each in a world of its own: for tests of what may happen to any of them."""
import json
import os
import re
import shutil
import subprocess

import harness
from harness import DEMO, checkpoint, tiny_model, tpshard, tree_bytes

CHAT = b'{"messages": [{"role": "user", "content": "a <b> \xc3\xa9"}], "name": "x", "list": [1, 2.5, null, "c"]}\n'
TEMPLATE = """{% macro twice(x, y=2) %}{{ x|upper|replace('A', 'b') * y }}{% endmacro %}{% for m in messages %}{{ loop.index }}{{ m['role'] }}: {{ m.content|trim|e }}
{{ twice(m.content) }}{{ m|tojson(indent=2) }}{% set ns = namespace(a=[1, 2]) %}{% set ns.a = ns.a + [4] %}{{ ns.a|join(',') }}{{ m.content.split(' ')|list }}{{ {'a': 1, 'b': [1, 2]}|items|list }}
{{ range(5)|map('string')|join('-') }}{{ m.content[::-1] }}{{ name ~ list }}{% endfor %}"""


def said(done):
    """Standard output, but for how much of the disk is free."""
    return re.sub(rb'"disk_free_bytes": \d+|[\d.]+ \w+ of disk free in .*', b"", done.stdout)


class Case:
    """A command, its input, and what its world holds before it runs."""

    def __init__(self, name, args, stdin=b"", before=(), speaks=True):
        self.name, self.args, self.stdin, self.before, self.speaks = name, args, stdin, before, speaks

    def run(self, world, **kw):
        shutil.rmtree(world, ignore_errors=True)
        os.mkdir(world)
        for path in self.before:
            shutil.copytree(path, os.path.join(world, "out"))
        return self.again(world, **kw)

    def again(self, world, env=(), **kw):
        return subprocess.run([str(a) for a in self.args], cwd=world, input=self.stdin, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                              env=dict(os.environ, **dict(env)), timeout=300, **kw)

    def learn(self, world, **kw):
        """What it makes and says when nothing goes wrong."""
        done = self.run(world, **kw)
        assert done.returncode == 0, f"{self.name}: {done.stderr.decode()}"
        self.old = {f"out/{n}": d for path in self.before for n, d in tree_bytes(path).items()}
        self.made, self.said = tree_bytes(world), said(done)
        return done

    def differs(self, done, world):
        """names of what a run with status 0 has made otherwise"""
        now = tree_bytes(world)
        return [n for n in {*now, *self.made} if now.get(n) != self.made.get(n)] + (
            ["standard output"] if self.speaks and said(done) != self.said else [])


def cases(folder):
    """over models made in folder"""
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
    return (
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
        Case("generate from a pipe", [R, "generate", b, "-f", "/dev/stdin", "-n", "4", "-q", *one], b"hello world"),
        Case("generate zstd", [R, "generate", f"{folder}/z", *ids, "-n", "4", "--ids", "-q", "--threads", "2"]),
        Case("generate many", [R, "generate", b, "--prompts", f"{folder}/prompts", "-n", "4", "-q", "--json", "--trace", "trace", *one]),
        Case("generate sampled", [R, "generate", f"{folder}/demo", "-p", "Once", "-n", "4", "-q", "--temp", "0.7", "--top-p", "0.9", "--json", "--stop", "zz", *one]),
        Case("logits", [R, "logits", b, "-p", "hello world", "-o", "l.f32", "-q", *one]),
        Case("selftest", [R, "selftest", t, "-q", *one]),
        Case("tokenize", [R, "tokenize", b], said),
        Case("tokenize lines", [R, "tokenize", b, "--text"], b"hello\nworld\n"),
        Case("tokenize back", [R, "tokenize", b, "--decode"], b"[1,2,3,200]\n"),
        Case("render", [R, "render", "--template", f"{folder}/template", "--origin"], CHAT),
        Case("chat", [R, "chat", f"{folder}/demo", "-n", "4", *one], b"hello\n/quit\n"),
        Case("info", [R, "info"], speaks=False),
        Case("info json", [R, "info", "--json"], speaks=False),
    )
