"""docs/numerics.md is enough: a program written from it alone has the same bits (tests/numerics_model.py)."""
import json
import os
import struct
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))
import harness
import numerics_model
from harness import Folder, convert, tiny_model, tprun

CASES = {
    "plain": (dict(), "bf16"),
    "f32": (dict(torch_dtype="float32"), "f32"),
    "f16": (dict(torch_dtype="float16"), "f16"),
    "norms and a window": (dict(architectures=["Qwen3ForCausalLM"], model_type="qwen3", use_sliding_window=True, sliding_window=3,
                                max_window_layers=0), "bf16"),
    "biases, odd widths": (dict(attention_bias=True, mlp_bias=True, intermediate_size=77, hidden_size=40,
                                num_attention_heads=3, num_key_value_heads=3, torch_dtype="float32"), "f32"),
}


def test_a_program_written_from_the_document_has_the_same_bits():
    for name, (changes, dtype) in CASES.items():
        with Folder() as d:
            tiny_model(d + "/m", **changes)
            for quant in (None, "int8", "fp8"):
                same(d, name, dtype, quant, 2, [1, 5, 9, 2, 14, 7])


def same(d, name, dtype, quant, tp, ids):
    """The logits of d's model are those of the document."""
    args = ("none",) if quant is None else (quant,)
    if quant in numerics_model.INT4:
        group, offset = numerics_model.INT4[quant]
        args = "int4", "--group", group, "--offset", offset
    bundle = f"{d}/{quant}-{tp}"
    convert(d + "/m", bundle, "--tp", tp, "--quant", *args)
    tprun("logits", bundle, "--prompt-ids", ",".join(map(str, ids)), "-o", d + "/l", "-q")
    assert open(d + "/l", "rb").read() == numerics_model.Model(d + "/m", dtype, quant).logits(ids), (name, quant, tp)


def heads(n, head_dim, **more):
    return dict(num_attention_heads=n, num_key_value_heads=1, head_dim=head_dim, **more)


GROUPS = {
    "rows below a group": (dict(), "bf16"),
    "rows of one group and a bit": (heads(2, 4, hidden_size=140, intermediate_size=33), "bf16"),
    "rows of groups": (heads(2, 64, hidden_size=256, intermediate_size=40), "bf16"),
    "odd widths, biases": (heads(3, 8, hidden_size=40, intermediate_size=77, attention_bias=True, mlp_bias=True,
                                 torch_dtype="float32"), "f32"),
    "heads of 16": (heads(9, 16, intermediate_size=77), "bf16"),
    "heads of 24": (heads(6, 24, hidden_size=40, torch_dtype="float16"), "f16"),
    "heads of 48": (heads(5, 48, torch_dtype="float32"), "f32"),
    "heads of 80": (heads(4, 80), "bf16"),
    "heads of more than a group": (heads(3, 150), "bf16"),
    "a leaf at every even place of a group": (heads(64, 6), "bf16"),
    "two heads to a leaf": (heads(67, 10), "bf16"),
    "leaves of one and two units": (dict(intermediate_size=1601), "bf16"),
}


def test_groups_are_those_of_the_document():
    """int4: rows and leaves of every kind, which cut groups everywhere."""
    for i, (name, (changes, dtype)) in enumerate(GROUPS.items()):
        with Folder() as d:
            tiny_model(d + "/m", **changes)
            for j, quant in enumerate(numerics_model.INT4):
                same(d, name, dtype, quant, 1 + (i + j) % 3, [1, 5, 9])


def test_the_same_across_a_chunk_of_the_cache():
    with Folder() as d:
        tiny_model(d + "/m", num_attention_heads=1, num_key_value_heads=1, max_position_embeddings=512)
        convert(d + "/m", d + "/b")
        ids = [1 + (7 * i) % 15 for i in range(259)]
        tprun("logits", d + "/b", "--prompt-ids", ",".join(map(str, ids)), "-o", d + "/l", "-q")
        assert open(d + "/l", "rb").read() == numerics_model.Model(d + "/m", "bf16").logits(ids)


SAMPLING = (dict(temperature=1.0), dict(temperature=0.7, seed=2 ** 40 + 7), dict(temperature=1.3, top_k=40), dict(temperature=0.9, top_p=0.9),
            dict(temperature=2.0, top_p=0.5, top_k=300), dict(temperature=1.5, min_p=0.2), dict(temperature=1.0, penalty=1.7),
            dict(temperature=0.0, penalty=3.0), dict(temperature=3.0, top_p=0.99, min_p=0.05, top_k=1500, penalty=0.8, seed=5))


def test_picks_are_those_of_the_document():
    """What is drawn of two prompts, from the logits that the runtime says and the document's section 10."""
    vocab, n = 3000, 12
    with Folder() as d:
        tiny_model(d + "/m", vocab_size=vocab, eos_token_id=2999)
        convert(d + "/m", d + "/b", "--tp", "2")
        prompts = [[1, 5, 900], [7, 2000]]
        with open(d + "/p", "w") as f:
            f.writelines(json.dumps({"id": i, "prompt_ids": ids, "n": n}) + "\n" for i, ids in enumerate(prompts))
        for o in SAMPLING:
            args = [f"--{name}={o[key]}" for name, key in (("temp", "temperature"), ("top-k", "top_k"), ("top-p", "top_p"), ("min-p", "min_p"),
                                                            ("repetition-penalty", "penalty"), ("seed", "seed")) if key in o]
            done = tprun("generate", d + "/b", "--prompts", d + "/p", "--ids", "--ignore-eos", "-q", *args)
            for request, line in enumerate(done.stdout.decode().splitlines()):
                ids = prompts[request] + [int(t) for t in line.split()]
                tprun("logits", d + "/b", "--prompt-ids", ",".join(map(str, ids)), "-o", d + "/l", "-q")
                logits = struct.unpack(f"<{len(ids) * vocab}f", open(d + "/l", "rb").read())
                for at in range(len(prompts[request]), len(ids)):
                    row = logits[(at - 1) * vocab:at * vocab]
                    assert numerics_model.sample(row, request=request, position=at, seen=ids[:at], **o) == ids[at], (o, request, at)


harness.main(globals())
