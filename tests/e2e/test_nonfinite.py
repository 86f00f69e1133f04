#!/usr/bin/env python3
"""A model whose numbers overflow: the request that meets it ends by name, the others are answered."""
import json
import os
import shutil
import struct
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))
import harness
from harness import convert, error_line, tiny_model, tprun

HUGE = 0x7f00  # 1.7e38 as bf16
BAD = 5  # the token that overflows, in overflowing_token's model


def change(model, name, value):
    """value(row, column, what is there) of every element of a bf16 matrix"""
    path = f"{model}/model.safetensors"
    with open(path, "rb") as f:
        data = bytearray(f.read())
    n, = struct.unpack_from("<Q", data)
    entry = json.loads(data[8:8 + n])[name]
    at, columns = 8 + n + entry["data_offsets"][0], entry["shape"][1]
    for i in range(entry["shape"][0] * columns):
        was, = struct.unpack_from("<H", data, at + 2 * i)
        struct.pack_into("<H", data, at + 2 * i, value(i // columns, i % columns, was))
    with open(path, "wb") as f:
        f.write(data)


def overflowing_layer(folder, layer, n_layers=4):
    """Every row overflows in the MLP of one layer."""
    tiny_model(folder, num_hidden_layers=n_layers)
    change(folder, f"model.layers.{layer}.mlp.down_proj.weight", lambda row, column, was: HUGE | was & 0x8000)
    return folder


def overflowing_token(folder, **changes):
    """Scores overflow in layer 0 where one token looks at itself: it alone has column 0."""
    tiny_model(folder, num_hidden_layers=2, **changes)
    change(folder, "model.embed_tokens.weight", lambda row, column, was: was if column else 0x3f80 if row == BAD else 0)
    for matrix in ("q_proj", "k_proj"):
        change(folder, f"model.layers.0.self_attn.{matrix}.weight", lambda row, column, was: was if column else 0x6000)  # 3.7e19
    return folder


def test_the_layer_is_named(folder):
    for layer in range(4):
        model = overflowing_layer(f"{folder}/m{layer}", layer)
        for tp in (1, 3):
            convert(model, f"{folder}/b{layer}-{tp}", "--tp", tp)
            for more in ((), ("--threads", "1"), ("--chunk", "1"), ("--trace", "-"), ("--temp", "0.7")):
                done = tprun("generate", f"{folder}/b{layer}-{tp}", "--prompt-ids", "1,2,3", "-n", "3", "--ids", "-q", *more, status=None)
                error_line(done, 3, "logits: NaN", f"not finite at layer {layer}")


def test_the_others_are_answered(folder):
    model = overflowing_token(f"{folder}/m")
    good = [[1, 2, 3], [7], [9, 4, 1, 2]]
    prompts = [good[0], [1, BAD, 2], good[1], [BAD], good[2]]
    with open(f"{folder}/p", "w") as f:
        f.writelines(json.dumps({"id": i, "prompt_ids": ids, "n": 6}) + "\n" for i, ids in enumerate(prompts))
    for tp in (1, 2):
        convert(model, f"{folder}/b{tp}", "--tp", tp)
        for machine in ((), ("--threads", "3"), ("--chunk", "2")):
            run = ("generate", f"{folder}/b{tp}", "-q", "--ignore-eos", "--temp", "0", "--json", *machine)
            done = tprun(*run, "--prompts", f"{folder}/p", status=None)
            error_line(done, 3, "prompt 1: ", "not finite at layer 1")  # of its last row, which reads what the second left
            answers = [json.loads(line) for line in done.stdout.splitlines()]
            assert [a["id"] for a in answers] == list(range(5))
            for answer, ids in zip(answers, prompts):
                if BAD in ids:
                    assert answer["finish"] == "failed" and answer["ids"] == [], answer
                else:
                    alone = json.loads(tprun(*run, "--prompt-ids", ",".join(map(str, ids)), "-n", "6").stdout)
                    assert answer["finish"] == "length" and answer["ids"] == alone["ids"], (answer, alone)


def test_threads_that_share_chunks_lose_nothing(folder):
    """What the second token left is in the first chunk of positions, the row that reads it in the third."""
    convert(overflowing_token(f"{folder}/m", max_position_embeddings=1024), f"{folder}/b")
    ids = ",".join(["1", str(BAD)] + ["2"] * 598)
    for threads in (1, 2, 3, 5):
        done = tprun("generate", f"{folder}/b", "--prompt-ids", ids, "-n", 1, "--ids", "-q", "--threads", threads, "--chunk", 1, status=None)
        error_line(done, 3, "logits: NaN", "not finite at layer 1")


def test_a_token_that_was_generated_may_be_the_one(folder):
    """The answer up to there is shown."""
    model = overflowing_token(f"{folder}/m")
    convert(model, f"{folder}/b")
    found = False
    for first in range(16):
        for seed in range(8):
            args = ("generate", f"{folder}/b", "--prompt-ids", str(first), "-n", "12", "--ignore-eos", "--temp", "3", "--seed", seed, "-q", "--json")
            done = tprun(*args, status=None)
            ids = json.loads(done.stdout)["ids"]
            assert done.returncode == (3 if BAD in [first, *ids][:12] else 0), (first, seed, ids, done)  # the last is not run
            if done.returncode and ids:
                assert ids[-1] == BAD and BAD not in ids[:-1], ids
                found = True
    assert found


def test_a_turn_of_a_chat_is_refused_and_the_next_is_answered(folder):
    """Through a pipe the exit status is 3 at the end, and the conversation is what it was without that turn."""
    model = f"{folder}/m"
    shutil.copytree(harness.DEMO, model)
    convert(harness.DEMO, f"{folder}/plain")
    bad, = json.loads(tprun("tokenize", f"{folder}/plain", "--no-special", input=b'" dog"').stdout)
    change(model, "model.embed_tokens.weight", lambda row, column, was: was if column else 0x3f80 if row == bad else 0)
    for matrix in ("q_proj", "k_proj"):
        change(model, f"model.layers.0.self_attn.{matrix}.weight", lambda row, column, was: was if column else 0x6000)
    convert(model, f"{folder}/b")
    chat = ("chat", f"{folder}/b", "-n", "4", "--temp", "0")
    want = tprun(*chat, input=b"Once upon\nthere was\n").stdout
    done = tprun(*chat, input=b"Once upon\na big dog\nthere was\n", status=None)
    error_line(done, 3, "a message was refused", "not finite")
    lines = done.stdout.split(b"\n")
    assert [line for line in lines if line] == [line for line in want.split(b"\n") if line], (done.stdout, want)


harness.main(globals())
