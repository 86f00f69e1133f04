#!/usr/bin/env python3
"""The first step reads weights that nothing has checked and hashes them on the way: the same bits as without, and of damage nothing is seen.

Matrices of the model here have several chunks, and threads share some of them.
"""
import contextlib
import itertools
import json
import os
import random
import sys
import tempfile

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))
import harness
from harness import Folder, convert, error_line, synthetic, tprun, tpshard
from read_bundle import chunks_of

FOLDER = tempfile.TemporaryDirectory(prefix="tpshard-test-")
ROLES = ("", "embed", "attn_norm", "q", "k", "v", "q_norm", "k_norm", "o", "mlp_norm", "gate", "up", "down", "final_norm", "lm_head")
IDS = [5, 6000, 77, 4095, 8191, 1, 2, 3, 5, 8, 13]


def bundle(tp, *more, tied=False):
    """Of a model whose matrices have two chunks or more, converted once."""
    name = "-".join(map(str, (tp, tied, *more)))
    model, out = f"{FOLDER.name}/m{tied}", f"{FOLDER.name}/b{name}"
    if not os.path.exists(model):
        synthetic(model, architectures=["Qwen3ForCausalLM"], model_type="qwen3", hidden_size=512, num_attention_heads=80, num_key_value_heads=8,
                  head_dim=64, intermediate_size=5000, vocab_size=9001, num_hidden_layers=1, max_position_embeddings=512,
                  tie_word_embeddings=tied, torch_dtype="bfloat16")
    if not os.path.exists(out):
        convert(model + "/m", out, "--tp", tp, *more)
    return out


def rank_file(path, rank):
    return next(f"{path}/{f}" for f in sorted(os.listdir(path)) if f.startswith(f"rank-{rank:03}"))


@contextlib.contextmanager
def damaged(path, at, change):
    """The file with change(what is there) at a place."""
    n = len(change(b"\0"))
    with open(path, "r+b", buffering=0) as f:
        was = os.pread(f.fileno(), n, at)
        os.pwrite(f.fileno(), change(was), at)
        try:
            yield
        finally:
            os.pwrite(f.fileno(), was, at)


def flipped(path, at, mask=1):
    return damaged(path, at, lambda was: bytes([was[0] ^ mask]))


def what_verify_says(path):
    return error_line(tpshard("verify", path, status=None), 7).split(": ", 2)[2]


def commands(path, d):
    """What a first step may be of, each with what would be seen of it."""
    long = ",".join(map(str, IDS))
    yield ["generate", path, "--prompt-ids", "7", "-n", "1", "--ids"]
    yield ["generate", path, "--prompt-ids", long, "-n", "3", "--ids", "--chunk", "4", "--trace", f"{d}/trace"]
    yield ["logits", path, "--prompt-ids", long, "-o", f"{d}/logits"]
    yield ["logits", path, "--prompt-ids", long, "-o", f"{d}/logits.npy", "--chunk", "3"]
    yield ["generate", path, "--prompt-ids", long, "-n", "2", "--json"]
    yield ["logits", path, "--prompt-ids", "3", "-o", "-"]


def refused(args, d, status=7):
    """The error of a run that shows nothing."""
    before = sorted(os.listdir(d))
    done = tprun(*args, "-q", status=None)
    line = error_line(done, status)
    assert not done.stdout, done.stdout
    assert sorted(os.listdir(d)) == before, sorted(os.listdir(d))
    return line.split(": ", 2)[2]


def places_of(path):
    """(what, place) of the first and last byte of the first and last chunk of each tensor, and of padding."""
    places, end = [], None
    tensors = chunks_of(path)
    for (role, _, part), chunks in tensors.items():
        if chunks:
            for c in sorted({0, len(chunks) - 1}):
                places += [(f"{ROLES[role]}.{part} chunk {c}", at) for at in (chunks[c][0], chunks[c][0] + chunks[c][1] - 1)]
    for at, n in sorted(c for chunks in tensors.values() for c in chunks):
        if end is not None and at > end:
            places += [("padding", end), ("padding", at - 1)]
        end = at + n
    if os.path.getsize(path) > end:
        places.append(("the file's end", os.path.getsize(path) - 1))
    return places


def check_places(path, tp, ranks, d):
    """Each place in turn, the command and the number of threads going round; what is said is what verify says."""
    rounds = itertools.cycle(itertools.product(range(6), (2, 1, 3, 4)))
    for rank in ranks:
        file = rank_file(path, rank)
        for what, at in places_of(file)[::harness.SHARE]:
            command, threads = next(rounds)
            with flipped(file, at):
                said, verify = refused([*list(commands(path, d))[command], "--threads", threads], d), what_verify_says(path)
            assert said == verify, f"tp {tp}, rank {rank}, {what}: {said!r}, {verify!r}"


def test_damage_of_every_tensor_is_found_before_anything_is_seen():
    for tp, ranks in ((1, (0,)), (2, (1,)), (3, (0, 2))):
        with Folder() as d:
            check_places(bundle(tp), tp, ranks, d)


def test_damage_of_quantized_and_tied_weights_is_found():
    with Folder() as d:
        check_places(bundle(2, "--quant", "int8"), 2, (0,), d)
        check_places(bundle(1, "--quant", "int4", tied=True), 1, (0,), d)


def test_of_several_damages_the_first_in_the_file_is_named():
    path, rng = bundle(2), random.Random(11)
    for _ in range(24 // harness.SHARE + 2):
        with Folder() as d, contextlib.ExitStack() as damages:
            for r in (0, 1):
                for _, at in rng.sample(places_of(rank_file(path, r)), 2):
                    damages.enter_context(flipped(rank_file(path, r), at, 0x40))
            said = {refused([*list(commands(path, d))[c], "--threads", t], d) for c, t in ((0, 1), (1, 2), (2, 4))}
            assert said == {what_verify_says(path)}, said


def test_a_chunk_of_anything_is_found_as_damage():
    """Infinities, NaN, random bytes: whatever the step made of them."""
    rng = random.Random(7)
    for more in ((), ("--quant", "int8"), ("--quant", "fp8"), ("--quant", "int4"), ("--quant", "int4", "--group", "64", "--offset", "min")):
        path = bundle(2, *more)
        file = rank_file(path, 0)
        places = [c for chunks in chunks_of(file).values() for c in chunks]
        for fill in (b"\xff", b"\x7f\x80", None):
            at, n = rng.choice(places)
            with Folder() as d, damaged(file, at, lambda _, wrong=rng.randbytes(n) if fill is None else (fill * n)[:n]: wrong):
                for args in list(commands(path, d))[:3]:
                    assert "damaged" in refused(args, d)


def test_bits_do_not_depend_on_it():
    for tp, more, tied in ((1, (), False), (2, ("--quant", "int8"), False), (3, (), True)):
        path = bundle(tp, *more, tied=tied)
        for threads, chunk in ((1, 256), (2, 3), (4, 256)):
            with Folder() as d:
                for name, verify in (("a", "full"), ("b", "header")):
                    tprun("logits", path, "--prompt-ids", ",".join(map(str, IDS * 7)), "-o", f"{d}/{name}", "--trace", f"{d}/{name}-trace", "-q",
                          "--threads", threads, "--chunk", chunk, "--verify", verify)
                for what in ("", "-trace"):
                    with open(f"{d}/a{what}", "rb") as a, open(f"{d}/b{what}", "rb") as b:
                        assert a.read() == b.read(), (tp, threads, chunk, what)


def test_every_byte_is_hashed_and_said_to_be():
    for path in (bundle(1), bundle(3, tied=True)):
        total = sum(n for f in os.listdir(path) if f.endswith(".tps") for chunks in chunks_of(f"{path}/{f}").values() for _, n in chunks)
        for threads in (1, 4):
            done = tprun("generate", path, "--prompt-ids", "1", "-n", "2", "--ids", "--report", "json", "--threads", threads)
            assert json.loads(done.stderr)["hashed_bytes"] == total


def test_a_chat_is_told_before_it_begins():
    with Folder() as d:
        convert(harness.DEMO, d + "/b")
        file = rank_file(d + "/b", 0)
        with flipped(file, max(chunks_of(file).values())[0][0]):
            done = tprun("chat", d + "/b", status=None, input=b"")
        assert "damaged" in error_line(done, 7) and not done.stdout


harness.main(globals())
