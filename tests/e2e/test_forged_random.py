#!/usr/bin/env python3
"""Bundles forged at random, hashes made right: every reader of both programs refuses them with a code of the contract, or runs
them. FORGED=COUNT of them (200; 100 where a run has a sample of the combinations), SEED=N."""
import os
import re
import sys
import tempfile

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))
import harness

COUNT = int(os.environ.get("FORGED", 200 if harness.SHARE == 1 else 100))
SEED = os.environ.get("SEED", "1")
FORGE = os.path.join(harness.BUILD, "tests", "forge_random")
WIDE = dict(hidden_size=64, intermediate_size=128, num_attention_heads=4, head_dim=16, torch_dtype="float32")
QWEN = dict(model_type="qwen3", architectures=["Qwen3ForCausalLM"], num_hidden_layers=2, torch_dtype="float32")


def bundles(folder):
    """Small ones of every layout, with and without frames, one with a tokenizer."""
    models = {"tiny": {}, "wide": WIDE, "qwen": QWEN}
    for name, changes in models.items():
        harness.tiny_model(os.path.join(folder, name), **changes)
    int4 = ["--quant", "int4", "--group", "32", "--offset"]
    for n, (model, *args) in enumerate((
            ("tiny", "--tp", "2"), ("tiny", "--tp", "2", "--compress", "zstd"), ("qwen", "--tp", "1"),
            ("qwen", "--tp", "3", "--quant", "int8"), ("qwen", "--quant", "fp8", "--compress", "zstd"),
            ("wide", "--tp", "2", *int4, "zero"), ("wide", "--tp", "3", "--compress", "zstd", *int4, "min"),
            ("yarn", "--tp", "2"))):
        source = os.path.join(folder, model) if model in models else harness.checkpoint(model)
        bundle = os.path.join(folder, f"bundle{n}")
        harness.convert(source, bundle, *args, selftest=True)
        yield bundle


def test_every_reader_keeps_to_the_contract():
    memory = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    with tempfile.TemporaryDirectory(dir=memory) as folder:
        done = harness.run([FORGE, folder, SEED, 0, COUNT, *bundles(folder)], None)
    text = done.stdout.decode(errors="replace")
    print(text)
    assert done.returncode == 0, f"status {done.returncode}\n{text[-3000:]}{done.stderr.decode(errors='replace')[-3000:]}"
    assert f"{COUNT} cases, 0 findings" in text
    if COUNT >= 200:  # the hashes are right: some are run, and all kinds of refusal are seen
        generate = re.findall(r"generate((?: \d+:\d+)*)", text)
        seen = {status for line in generate for status in re.findall(r"(\d+):", line)}
        assert {"0", "3", "7", "8"} <= seen, seen


harness.main(globals())
