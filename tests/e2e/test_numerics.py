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
            for quant in (False, True):
                convert(d + "/m", f"{d}/{quant}", "--tp", "2", *(["--quant", "int8"] if quant else []))
                ids = [1, 5, 9, 2, 14, 7]
                tprun("logits", f"{d}/{quant}", "--prompt-ids", ",".join(map(str, ids)), "-o", d + "/l", "-q")
                want = numerics_model.Model(d + "/m", dtype, quant).logits(ids)
                assert open(d + "/l", "rb").read() == want, (name, quant)


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
