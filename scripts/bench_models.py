"""The models that are measured: TinyLlama-1.1B's size, random weights; as a checkpoint, as bundles of ours, as llama.cpp's files.

They are made where they are not there yet, and stay for the next run.
"""
import json
import os
import shutil
import subprocess
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
CONFIG = {"architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": 2048, "intermediate_size": 5632,
          "num_hidden_layers": 22, "num_attention_heads": 32, "num_key_value_heads": 4, "vocab_size": 32000, "head_dim": 64,
          "max_position_embeddings": 2048, "rms_norm_eps": 1e-05, "rope_theta": 10000.0, "hidden_act": "silu",
          "tie_word_embeddings": False, "torch_dtype": "bfloat16", "bos_token_id": 1, "eos_token_id": 2}
LAYER_WEIGHTS = 2 * 2048 * 2048 + 2 * 2048 * 256 + 3 * 2048 * 5632
MULTIPLIED = 22 * LAYER_WEIGHTS  # weights that every token of a prompt is multiplied with
GFLOP_OF_TOKEN = 2 * MULTIPLIED / 1e9
FORMATS = {"bf16": ("none", "bf16"), "int8": ("int8", "q8_0"), "int4": ("int4", "q4_0")}  # --quant, llama.cpp's name
GIB_NEEDED = 14
NEW = object()


class Failed(Exception):
    """What a part of a run needs is not to be had."""


class Models:
    def __init__(self, folder, build, llama):
        self.folder, self.build, self.llama = folder, build, llama
        os.makedirs(folder, exist_ok=True)

    def path(self, name):
        return os.path.join(self.folder, name)

    def make(self, name, *command):
        """command with NEW for the path that it makes; then that gets its name."""
        path, new = self.path(name), self.path(name + ".new")
        if os.path.exists(path):
            return path
        if shutil.disk_usage(self.folder).free < 3 << 30:
            raise Failed(f"{self.folder} has less than 3 GiB free; all models take {GIB_NEEDED}")
        print(f"bench: making {path}", file=sys.stderr, flush=True)
        shutil.rmtree(new, ignore_errors=True)
        command = [new if word == NEW else word for word in command]
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        if done.returncode:
            raise Failed(f"{' '.join(command)} ends with {done.returncode}\n{done.stdout.decode(errors='replace')}")
        os.rename(new, path)
        return path

    def checkpoint(self):
        config = self.path("config.json")
        with open(config, "w") as f:
            json.dump(CONFIG, f)
        return self.make("model", os.path.join(HERE, "synth_checkpoint"), config, "-o", NEW)

    def bundle(self, name, tp=1):
        quant = FORMATS[name][0]
        return self.make(f"{name}-{tp}", os.path.join(self.build, "tpshard"), "convert", self.checkpoint(), "--quant", quant, "--tp", str(tp),
                         "--no-selftest", "-q", "-o", NEW)

    def peer(self, name):
        """llama.cpp's file"""
        first = self.make("bf16.gguf", sys.executable, os.path.join(HERE, "make_gguf.py"), self.checkpoint(), NEW)
        gguf = FORMATS[name][1]
        if gguf == "bf16":
            return first
        return self.make(gguf + ".gguf", os.path.join(self.llama, "llama-quantize"), first, NEW, gguf)

    def make_all(self):
        for name in FORMATS:
            self.bundle(name)
            if self.llama:
                self.peer(name)
        self.bundle("bf16", 2)
