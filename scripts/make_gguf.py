#!/usr/bin/env python3
"""make_gguf.py MODEL_DIR FILE: a Llama checkpoint in bf16 as a GGUF file without vocabulary, for timings of llama.cpp: rows of q and k are
not put into its order of RoPE, so its results mean nothing."""
import array
import json
import os
import struct
import sys

NAMES = {"self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k", "self_attn.v_proj": "attn_v", "self_attn.o_proj": "attn_output",
         "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up", "mlp.down_proj": "ffn_down", "input_layernorm": "attn_norm",
         "post_attention_layernorm": "ffn_norm"}
WHOLE = {"model.embed_tokens": "token_embd", "model.norm": "output_norm", "lm_head": "output"}
F32, BF16, ALIGNMENT = 0, 30, 32
UINT32, FLOAT32, STRING = 4, 6, 8


def name_of(name):
    stem = name.removesuffix(".weight")
    if stem in WHOLE:
        return WHOLE[stem] + ".weight"
    _, _, layer, part = stem.split(".", 3)
    return f"blk.{layer}.{NAMES[part]}.weight"


def text(s):
    return struct.pack("<Q", len(s)) + s.encode()


def metadata(c):
    values = {"general.architecture": "llama", "llama.context_length": c["max_position_embeddings"],
              "llama.embedding_length": c["hidden_size"], "llama.block_count": c["num_hidden_layers"],
              "llama.feed_forward_length": c["intermediate_size"], "llama.attention.head_count": c["num_attention_heads"],
              "llama.attention.head_count_kv": c["num_key_value_heads"], "llama.attention.layer_norm_rms_epsilon": float(c["rms_norm_eps"]),
              "llama.rope.freq_base": float(c["rope_theta"]), "llama.vocab_size": c["vocab_size"], "tokenizer.ggml.model": "no_vocab"}
    out = b""
    for key, v in values.items():
        value = (struct.pack("<I", STRING) + text(v) if isinstance(v, str) else struct.pack("<If", FLOAT32, v) if isinstance(v, float)
                 else struct.pack("<II", UINT32, v))
        out += text(key) + value
    return len(values), out


def widened(data):
    """bf16 as f32, which norms are there"""
    values = array.array("H", data)
    return array.array("I", (v << 16 for v in values)).tobytes()


def padding(n):
    return -n % ALIGNMENT


def main(folder, out):
    with open(os.path.join(folder, "config.json")) as f:
        n_values, values = metadata(json.load(f))
    with open(os.path.join(folder, "model.safetensors"), "rb") as source, open(out, "wb") as f:
        n = struct.unpack("<Q", source.read(8))[0]
        tensors = {k: t for k, t in json.loads(source.read(n)).items() if k != "__metadata__"}
        infos, at = b"", 0
        for name, t in tensors.items():
            assert t["dtype"] == "BF16", name
            matrix, count = len(t["shape"]) > 1, (t["data_offsets"][1] - t["data_offsets"][0]) // 2
            infos += text(name_of(name)) + struct.pack("<I", len(t["shape"])) + struct.pack(f"<{len(t['shape'])}Q", *reversed(t["shape"]))
            infos += struct.pack("<IQ", BF16 if matrix else F32, at)
            size = count * (2 if matrix else 4)
            at += size + padding(size)
        f.write(b"GGUF" + struct.pack("<IQQ", 3, len(tensors), n_values) + values + infos)
        f.write(bytes(padding(f.tell())))
        for t in tensors.values():
            source.seek(8 + n + t["data_offsets"][0])
            data = source.read(t["data_offsets"][1] - t["data_offsets"][0])
            data = data if len(t["shape"]) > 1 else widened(data)
            f.write(data + bytes(padding(len(data))))


main(*sys.argv[1:])
