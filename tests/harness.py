"""What all test scripts share: where things are, how to run a program, how to report.

A script defines functions test_*; harness.main(globals()) runs those whose name holds $T (all without), with a
temporary folder where they take an argument, prints "ok NAME", "FAIL NAME: why" or "SKIP NAME: why", and last "N passed, N failed, N skipped". Standard
library only.
"""
import inspect
import json
import os
import random
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
import time
import traceback

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
BUILD = os.path.join(ROOT, os.environ.get("BUILD", "build"))
SHARED = os.path.join(ROOT, os.environ.get("SHARED", "../shared"))
TPSHARD = os.path.join(BUILD, "tpshard")
TPRUN = os.path.join(BUILD, "tprun")
DATA = os.path.join(ROOT, "tests", "data")
DEMO = os.path.join(DATA, "demo", "stories")
# Of the combinations an eighth under the sanitizers, which are many times slower, and fewer in `make check`.
SHARE = 32 if os.environ.get("TIER") == "check" else 8 if os.environ.get("CONFIG", "release") in ("asan", "tsan") else 1
# What starts in the background ignores signals that the programs are tested with, and they would inherit that.
for number in (signal.SIGINT, signal.SIGQUIT, signal.SIGHUP):
    if signal.getsignal(number) == signal.SIG_IGN:
        signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)


class Skip(Exception):
    pass


def checkpoint(name):
    """The folder of a small checkpoint: our own, or shared's; Skip where there is neither."""
    for base in (os.path.join(DATA, "checkpoints"), os.path.join(SHARED, "checkpoints")):
        if os.path.exists(os.path.join(base, name, "config.json")):
            return os.path.join(base, name)
    raise Skip(f"checkpoint {name} is not here")


FLOAT_CHECKPOINTS = ("llama3-rope", "mistral-window", "qwen2-bias", "qwen3-norm", "mqa-bias", "yarn",
                     "qwen2-window", "yarn-keys", "mixed-dtype", "llama-gqa", "qwen2-28x4")


def float_checkpoints():
    """Those that are here; SKIP lines name the others."""
    found = []
    for name in FLOAT_CHECKPOINTS:
        try:
            found.append((name, checkpoint(name)))
        except Skip as why:
            print(f"SKIP {name}: {why}")
    return found


def run(args, status=0, **kw):
    """Run a program; its exit status must be as given (None: any)."""
    done = subprocess.run([str(a) for a in args], stdout=subprocess.PIPE, stderr=subprocess.PIPE, **kw)
    if status is not None and done.returncode != status:
        raise AssertionError(f"{' '.join(str(a) for a in args)}: status {done.returncode}, {status} expected: "
                             f"{done.stderr.decode(errors='replace')[-600:]}")
    return done


def tpshard(*args, status=0, **kw):
    return run([TPSHARD, *args], status, **kw)


def tprun(*args, status=0, **kw):
    return run([TPRUN, *args], status, **kw)


def synthetic(folder, **changes):
    """The folder of a random checkpoint; changes are keys of its config.json."""
    config = dict(architectures=["LlamaForCausalLM"], model_type="llama", hidden_size=64, num_attention_heads=4,
                  num_key_value_heads=2, head_dim=16, intermediate_size=96, vocab_size=96, num_hidden_layers=2,
                  rms_norm_eps=1e-5, rope_theta=10000.0, max_position_embeddings=2048, hidden_act="silu",
                  initializer_range=0.2, tie_word_embeddings=False, torch_dtype="float32", bos_token_id=1, eos_token_id=2)
    config.update(changes)
    os.makedirs(folder)
    with open(folder + "/c.json", "w") as f:
        json.dump(config, f)
    run([sys.executable, os.path.join(ROOT, "scripts/synth_checkpoint"), folder + "/c.json", "-o", folder + "/m"])
    return folder + "/m"


def tiny_model(folder, **changes):
    """A random model of a few hundred weights, so that its bundle is small; changes are keys of config.json."""
    config = dict(architectures=["LlamaForCausalLM"], model_type="llama", hidden_size=8, num_attention_heads=2,
                  num_key_value_heads=1, head_dim=4, intermediate_size=16, vocab_size=16, num_hidden_layers=1,
                  rms_norm_eps=1e-5, rope_theta=10000.0, max_position_embeddings=64, hidden_act="silu",
                  tie_word_embeddings=True, torch_dtype="bfloat16", bos_token_id=1, eos_token_id=2)
    config.update(changes)
    os.makedirs(folder)
    with open(os.path.join(folder, "config.json"), "w") as f:
        json.dump(config, f)
    h, heads, kv, hd, ff = (config[k] for k in ("hidden_size", "num_attention_heads", "num_key_value_heads", "head_dim", "intermediate_size"))
    shapes = {"model.embed_tokens.weight": [config["vocab_size"], h], "model.norm.weight": [h]}
    for layer in range(config["num_hidden_layers"]):
        p = f"model.layers.{layer}."
        matrices = {"self_attn.q_proj": [heads * hd, h], "self_attn.k_proj": [kv * hd, h], "self_attn.v_proj": [kv * hd, h],
                    "self_attn.o_proj": [h, heads * hd], "mlp.gate_proj": [ff, h], "mlp.up_proj": [ff, h], "mlp.down_proj": [h, ff]}
        for name, shape in matrices.items():
            shapes[p + name + ".weight"] = shape
            if config.get("mlp_bias" if "mlp" in name else "attention_bias"):
                shapes[p + name + ".bias"] = shape[:1]
        for name, n in dict(input_layernorm=h, post_attention_layernorm=h, **(
                {"self_attn.q_norm": hd, "self_attn.k_norm": hd} if config["model_type"] == "qwen3" else {})).items():
            shapes[p + name + ".weight"] = [n]
    rng, header, body = random.Random(3), {}, b""
    wide = config["torch_dtype"] != "bfloat16"
    for name, shape in shapes.items():
        n = shape[0] * (shape[1] if len(shape) > 1 else 1)
        raw = b"".join(struct.pack("<f", rng.gauss(0, 0.5) + ("norm" in name))[0 if wide else 2:] for _ in range(n))
        header[name] = {"dtype": "F32" if wide else "BF16", "shape": shape, "data_offsets": [len(body), len(body) + len(raw)]}
        body += raw
    text = json.dumps(header).encode()
    with open(os.path.join(folder, "model.safetensors"), "wb") as f:
        f.write(struct.pack("<Q", len(text)) + text + body)


def first_layers(model, folder, n):
    """The folder of a checkpoint that has the first n layers of the model alone, its weights in one file."""
    os.makedirs(folder)
    header, body, files = {}, b"", sorted(os.listdir(model))
    for name in files:
        path = os.path.join(model, name)
        if name.endswith(".safetensors"):
            data = open(path, "rb").read()
            size = struct.unpack("<Q", data[:8])[0]
            for tensor, entry in json.loads(data[8:8 + size]).items():
                if tensor == "__metadata__" or (tensor.startswith("model.layers.") and int(tensor.split(".")[2]) >= n):
                    continue
                begin, end = entry["data_offsets"]
                header[tensor] = {**entry, "data_offsets": [len(body), len(body) + end - begin]}
                body += data[8 + size + begin:8 + size + end]
        elif not name.endswith(".index.json") and os.path.isfile(path):
            shutil.copy(path, folder)
    with open(os.path.join(folder, "config.json")) as f:
        config = json.load(f)
    config["num_hidden_layers"] = n
    if config.get("layer_types"):
        config["layer_types"] = config["layer_types"][:n]
    with open(os.path.join(folder, "config.json"), "w") as f:
        json.dump(config, f)
    text = json.dumps(header).encode()
    with open(os.path.join(folder, "model.safetensors"), "wb") as f:
        f.write(struct.pack("<Q", len(text)) + text + body)


def convert(model, bundle, *args, selftest=False, **kw):
    return tpshard("convert", model, "-o", bundle, "-q", *([] if selftest else ["--no-selftest"]), *args, **kw)


def mean_nll(bundle, folder, ids, window, vocab, overlap=True, *args):
    """Mean negative log-likelihood of ids in windows. overlap: a window's last row predicts the next one's first id;
    else windows stand alone and their first ids are not scored."""
    total = count = 0
    for at in range(0, len(ids) - 1 if overlap else len(ids), window):
        part, path = ids[at:at + window], os.path.join(folder, "nll-logits")
        targets = ids[at + 1:at + window + 1] if overlap else part[1:]
        tprun("logits", bundle, "--prompt-ids", ",".join(map(str, part)), "-o", path, "-q", *args)
        done = run([os.path.join(BUILD, "tests", "logits_nll"), path, vocab], input=" ".join(map(str, targets)).encode())
        mean, n = done.stdout.split()
        total, count = total + float(mean) * int(n), count + int(n)
    return total / count


def error_line(done, status, *names):
    """One line on stderr of the contract's form, at most 512 bytes, that holds every name."""
    text = done.stderr.decode(errors="replace")
    assert done.returncode == status, f"status {done.returncode}, {status} expected: {text[-600:]}"
    lines = [l for l in text.splitlines() if ": error " in l]
    assert len(lines) == 1, f"one error line expected: {text[-900:]}"
    assert len(lines[0].encode()) <= 512, lines[0]
    for name in names:
        assert name in lines[0], f"{name!r} is not in {lines[0]!r}"
    return lines[0]


def opened(args, folder):
    """Paths below a folder that a program opened, by strace; Skip where it cannot trace."""
    if not shutil.which("strace"):
        raise Skip("strace is not installed")
    log = os.path.join(folder, "strace.log")
    env = dict(os.environ, ASAN_OPTIONS="detect_leaks=0")  # which a traced process cannot do
    done = run(["strace", "-f", "-o", log, "-e", "trace=open,openat,openat2", *args], None, env=env)
    text = open(log).read() if os.path.exists(log) else ""
    if "exited with" not in text:
        raise Skip("strace cannot trace here")
    return done, [l for l in text.splitlines() if "open" in l]


def tree_bytes(folder):
    """name -> bytes of every file below a folder"""
    found = {}
    for base, _, files in os.walk(folder):
        for f in files:
            path = os.path.join(base, f)
            with open(path, "rb") as fh:
                found[os.path.relpath(path, folder)] = fh.read()
    return found


class Folder:
    """A temporary folder for one test."""

    def __enter__(self):
        self.path = tempfile.mkdtemp(prefix="tpshard-test-")
        return self.path

    def __exit__(self, *_):
        shutil.rmtree(self.path, ignore_errors=True)


def main(names):
    wanted = os.environ.get("T", "")
    passed = failed = skipped = 0
    for name, fn in list(names.items()):
        if not name.startswith("test_") or not callable(fn) or wanted not in name:
            continue
        start = time.time()
        try:
            if inspect.signature(fn).parameters:
                with Folder() as folder:
                    fn(folder)
            else:
                fn()
            passed += 1
            print(f"ok {name} ({time.time() - start:.1f} s)", flush=True)
        except Skip as why:
            skipped += 1
            print(f"SKIP {name}: {why}", flush=True)
        except Exception as why:  # a failing test is reported, the others run
            failed += 1
            where = traceback.extract_tb(why.__traceback__)[-1]
            print(f"FAIL {name}: {type(why).__name__}: {why} ({os.path.basename(where.filename)}:{where.lineno})",
                  flush=True)
    print(f"{passed} passed, {failed} failed, {skipped} skipped")
    sys.exit(1 if failed else 0)
