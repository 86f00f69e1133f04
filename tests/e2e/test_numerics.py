"""docs/numerics.md is enough: a program written from it alone has the same bits (tests/numerics_model.py)."""
import os
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


harness.main(globals())
