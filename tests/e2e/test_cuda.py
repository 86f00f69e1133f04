"""The GPU as a device, emulated (tests/cuda): the host's code as it is, the kernels as C++, the CPU's bits."""
import array
import ctypes
import functools
import json
import math
import os
import random
import re
import shutil
import struct
import subprocess
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))
import harness
from harness import Folder, Skip, convert, error_line, float_checkpoints, run, tiny_model
import golden_check

EMULATED = os.path.join(harness.BUILD, "tests", "tprun_cuda")
DRIVER = os.path.join(harness.BUILD, "tests", "emulated")
IDS = [1, 5, 9, 2, 14, 7, 7, 3, 2, 11, 9, 13, 1, 12, 8, 10, 4, 6, 2, 5, 3, 8]  # more than a group of rows
QUANTS = ([], ["--quant", "int8"], ["--quant", "fp8"]) + tuple(
    ["--quant", "int4", "--group", g, "--offset", o] for g, o in (("32", "none"), ("64", "zero"), ("128", "min")))


def environment(**more):
    """The emulated driver in place of the machine's. HARDWARE=1: the machine's own."""
    env = {**os.environ, **{k: str(v) for k, v in more.items()}}
    if not os.environ.get("HARDWARE"):
        env["LD_LIBRARY_PATH"] = DRIVER
    return env


HARDWARE = bool(os.environ.get("HARDWARE"))
SEEDS = (0, 1, 3) if harness.SHARE <= 8 else (3,)  # orders of the emulated threads
SHARE = 6 if HARDWARE else harness.SHARE  # a GPU takes its time to start


def program():
    return harness.TPRUN if HARDWARE else EMULATED


def emulated_only():
    if HARDWARE:
        raise Skip("a fault of the emulated device")


def restored(test):
    """What the test puts into the environment, for programs that others start, goes with it."""
    @functools.wraps(test)
    def run_and_restore():
        before = dict(os.environ)
        try:
            test()
        finally:
            os.environ.clear()
            os.environ.update(before)
    return run_and_restore


def emulated(*args, status=0, **env):
    return run([program(), *args, "--device", "cuda"], status, env=environment(**env))


def said(call, bundle, d, *args):
    """Logits, trace, greedy and sampled ids, all of them exact."""
    ids = ",".join(map(str, IDS))
    call("logits", bundle, "--prompt-ids", ids, "-o", d + "/l", "--trace", d + "/t", "-q", *args)
    greedy = call("generate", bundle, "--prompt-ids", ids, "-n", "6", "--ids", "--ignore-eos", "-q", "--exact", *args)
    drawn = call("generate", bundle, "--prompt-ids", "3,1", "-n", "6", "--temp", "0.8", "--top-p", "0.9", "--ids", "--ignore-eos", "-q", *args)
    return [open(d + "/" + n, "rb").read() for n in "lt"] + [greedy.stdout, drawn.stdout]


def test_the_first_layers_alone_are_copied_hashed_and_run():
    with Folder() as d:
        for name, *recipe in (("yarn", "--tp", "2"), ("qwen3-norm", "--tp", "2", "--compress", "zstd")):
            bundle = f"{d}/{name}"
            convert(harness.checkpoint(name), bundle, *recipe)
            for n in (1, 2):
                assert said(emulated, bundle, d, "--layers", n, "--share-gpu") == said(harness.tprun, bundle, d, "--layers", n), (name, n)
        rank = d + "/yarn/rank-001-of-002.tps"
        tensors = {t["name"]: t["offset"] for t in json.load(open(d + "/yarn/manifest.json"))["ranks"][1]["tensors"]}
        data = bytearray(open(rank, "rb").read())
        start = int.from_bytes(data[80:88], "little")  # of the data area
        for tensor, status in (("layers.1.mlp.up", 0), ("layers.0.mlp.up", 7), ("model.norm", 7)):
            at = start + next(offset for found, offset in tensors.items() if tensor in found)
            data[at] ^= 1
            open(rank, "wb").write(data)
            emulated("generate", d + "/yarn", "--prompt-ids", "1,2", "-n", "2", "--ids", "--layers", "1", "--share-gpu", status=status)
            data[at] ^= 1


def arrangements(tp):
    """GPUs for so many ranks: one each, all on one, and what lies between."""
    if HARDWARE or tp == 1:
        return [1]
    return [tp, 1] + [2] * (tp > 2)


def arranged(i):
    """(ranks, GPUs): case i of those there are."""
    cases = [(tp, gpus) for tp in (1, 2, 3, 5) for gpus in arrangements(tp)]
    return cases[i * 3 % len(cases)]


def on(gpus, *args, **env):
    return emulated(*args, *(() if HARDWARE and gpus > 1 else ("--share-gpu",)), EMUL_DEVICES=gpus, **env)


def test_every_checkpoint_and_format_has_the_cpus_bits():
    for i, (name, model) in enumerate(float_checkpoints()):
        for j, options in enumerate(QUANTS):
            dtype = ("keep", "bf16", "f16", "f32")[(i + j) % 4]
            if (i + j) % min(SHARE, 11):
                continue
            tp = (2, 3, 5)[(i + j // 2) % 3]
            with Folder() as d:
                convert(model, d + "/b", "--dtype", dtype, *options)
                want = said(harness.tprun, d + "/b", d)
                assert want == said(emulated, d + "/b", d), (name, dtype, options)
                convert(model, d + "/bt", "--dtype", dtype, "--tp", tp, *options)
                gpus = arrangements(tp)[(i * 5 + j) % len(arrangements(tp))]
                got = said(lambda *a: on(gpus, *a), d + "/bt", d)
                assert want == got, (name, dtype, options, tp, gpus, [x == y for x, y in zip(want, got)])
                if gpus > 1 and not j % 2:
                    assert want == said(lambda *a: on(gpus, *a, EMUL_NO_PEERS=1), d + "/bt", d), (name, dtype, options, tp, gpus)


def sanitizer(name):
    """Environment of the emulated device built with a sanitizer, under programs that are not."""
    library = subprocess.run(["gcc", f"-print-file-name=lib{name}.so"], stdout=subprocess.PIPE).stdout.decode().strip()
    return {"LD_PRELOAD": library, "LD_LIBRARY_PATH": os.path.join(harness.ROOT, "build", name, "tests", "emulated"),
            "ASAN_OPTIONS": "detect_stack_use_after_return=0:detect_leaks=0"}


def seen(name, gpus):
    """How threads of the program meet, which is built without, the thread sanitizer does not see: one GPU. With config=tsan all
    tests run with both built with it."""
    return 1 if name == "tsan" else gpus


ODD = (dict(hidden_size=40, num_attention_heads=5, num_key_value_heads=1, head_dim=24, intermediate_size=100, vocab_size=50),
       dict(hidden_size=264, num_attention_heads=3, num_key_value_heads=3, head_dim=80, intermediate_size=33, vocab_size=16, attention_bias=True),
       dict(hidden_size=96, num_attention_heads=9, num_key_value_heads=1, head_dim=48, intermediate_size=1700, vocab_size=33,
            model_type="qwen3", architectures=["Qwen3ForCausalLM"], num_hidden_layers=2))


def prompts(path, count, vocab, longest):
    """A file of prompts of different lengths, so that steps have from one row to many."""
    rng = random.Random(count)
    with open(path, "w") as f:
        for i in range(count):
            ids = [rng.randrange(3, vocab) for _ in range(1 + rng.randrange(longest))]
            f.write('{"id": "%d", "prompt_ids": %s, "n": %d}\n' % (i, ids, 2 + i % 5))


def generated(call, bundle, d, count, *args):
    return call("generate", bundle, "--prompts", d + f"/p{count}", "--ids", "--ignore-eos", "-q", *args).stdout


def odd_bundle(d, shape, options, i):
    tiny_model(f"{d}/m{i}", torch_dtype="float32" if i % 2 else "bfloat16", max_position_embeddings=2048, **shape)
    convert(f"{d}/m{i}", f"{d}/b{i}", *options)
    return f"{d}/b{i}"


def test_one_to_sixteen_rows_of_odd_shapes():
    for i, shape in enumerate(ODD):
        for j, options in enumerate(QUANTS):
            if (i + 6 * j) % min(SHARE, 9):
                continue
            with Folder() as d:
                bundle = odd_bundle(d, shape, options, i + j)
                for count in (1, 2, 3, 5, 8, 16):
                    prompts(d + f"/p{count}", count, shape["vocab_size"], 4)
                    want = generated(harness.tprun, bundle, d, count)
                    sms = (1, 3, 5, 13)[(i + j + count) % 4]
                    assert want == generated(lambda *a: emulated(*a, EMUL_SMS=sms), bundle, d, count), (shape, options, count, sms)


def test_ranks_that_own_nothing_and_more_than_there_are_heads():
    """Heads that do not divide, ranks without heads, without columns of the MLP, without vocabulary; one row to sixteen."""
    shape = dict(hidden_size=40, num_attention_heads=5, num_key_value_heads=1, head_dim=24, intermediate_size=100, vocab_size=50)
    for i, tp in enumerate((2, 3, 7, 16)):
        if i % min(SHARE, 4):
            continue
        with Folder() as d:
            bundle = odd_bundle(d, shape, ["--quant", ("none", "int8", "int4", "fp8")[i], "--tp", tp], i)
            for count in (1, 3, 16):
                prompts(d + f"/p{count}", count, shape["vocab_size"], 4)
                want = generated(harness.tprun, bundle, d, count)
                for gpus in arrangements(tp):
                    assert want == generated(lambda *a: on(gpus, *a), bundle, d, count), (tp, count, gpus)


def test_attention_over_several_chunks_and_a_window():
    with Folder() as d:
        tiny_model(d + "/m", max_position_embeddings=2048, num_hidden_layers=2, model_type="mistral", architectures=["MistralForCausalLM"],
                   sliding_window=300)
        tiny_model(d + "/n", max_position_embeddings=2048, num_attention_heads=3, num_key_value_heads=1, head_dim=40)
        ids = ",".join(str(3 + i * 7 % 13) for i in range(600))
        for model in "mn":
            convert(f"{d}/{model}", f"{d}/b{model}")
            for kv in ("bf16", "f16", "f32"):
                args = ["generate", f"{d}/b{model}", "--prompt-ids", ids, "-n", "3", "--ids", "--ignore-eos", "-q", "--exact", "--kv-dtype", kv]
                assert harness.tprun(*args).stdout == emulated(*args).stdout, (model, kv)


def test_sanitizers_find_nothing_in_three_orders_of_threads():
    """16 prompts that end in halves: steps of 16, 8, 4, 2 rows and of one, and so every kernel of a format."""
    emulated_only()
    if os.environ.get("CONFIG", "release") != "release":
        raise Skip("the release build does it")
    formats = [["--dtype", "f16"], ["--dtype", "f32"], *QUANTS]
    with Folder() as d:
        tiny_model(d + "/m", max_position_embeddings=2048, **ODD[0])
        with open(d + "/p", "w") as f:
            for i, n in enumerate([1] * 8 + [2] * 4 + [3] * 2 + [4, 5]):
                f.write('{"id": "%d", "prompt_ids": [%d], "n": %d}\n' % (i, 3 + i, n))
        for j, options in enumerate(formats[:: min(SHARE, 5)]):
            convert(d + "/m", f"{d}/b{j}", *options)
            args = ["generate", f"{d}/b{j}", "--prompts", d + "/p", "--ids", "--ignore-eos", "-q"]
            want = harness.tprun(*args).stdout
            convert(d + "/m", f"{d}/b{j}r", "--tp", 3, *options)
            ranks = ["generate", f"{d}/b{j}r", *args[2:], "--share-gpu"]
            for name in ("asan", "tsan"):
                for seed in SEEDS:
                    for these in (args, ranks)[: 2 if j % 3 == seed % 3 else 1]:
                        got = run([EMULATED, *these, "--device", "cuda", "--threads", "1"],
                                  env={**os.environ, **sanitizer(name), "EMUL_SEED": str(seed), "EMUL_DEVICES": str(seen(name, 1 + j % 3))})
                        assert got.stdout == want and not got.stderr, (name, options, seed, got.stderr[:400])


# ---- choosing tokens ----

def choose_random(rounds, seed, *vocab, **env):
    name = "choose_gpu" if HARDWARE else "choose_random"
    return run([os.path.join(harness.BUILD, "tests", name), rounds, seed, *vocab], env=environment(**env))


def test_tokens_are_those_of_the_sampler():
    """Every option at every kind of logits, u on edges; and it says so where it leaves a row to the host without need."""
    rounds = 300 if HARDWARE else max(4, 40 // SHARE)
    choose_random(rounds, 1)
    choose_random(max(2, rounds // 10), 2, 152064)


def test_sanitizers_find_nothing_where_tokens_are_chosen():
    emulated_only()
    if os.environ.get("CONFIG", "release") != "release":
        raise Skip("the release build does it")
    for name in ("asan", "tsan"):
        for seed in (0, 1, 3) if SHARE == 1 else (3,):
            for vocab in (1025, 5000):
                done = run([os.path.join(harness.BUILD, "tests", "choose_random"), 1, seed + 1, vocab],
                           env={**os.environ, **sanitizer(name), "EMUL_SEED": str(seed)})
                assert not done.stderr, (name, seed, vocab, done.stderr[:400])


SAMPLED = (["--temp", "0"], ["--temp", "0.8", "--seed", "7"], ["--temp", "1.2", "--top-k", "40", "--top-p", "0.8", "--min-p", "0.02"],
           ["--temp", "0.05", "--top-p", "0.95"])
SOME_BY_HOST = ["--temp", "1", "--top-p", "0.95"]  # of 3,000 ids of random weights
BY_HOST = (["--temp", "0.9", "--repetition-penalty", "1.3"], ["--temp", "1", "--top-k", "2500"])


def test_only_ids_come_to_the_host():
    """Steps of one row to sixteen, prompts longer than a group, and a vocabulary with holes."""
    emulated_only()
    vocab, row = 3000, 4 * 3008
    with Folder() as d:
        tiny_model(d + "/m", vocab_size=vocab)
        convert(d + "/m", d + "/b")
        for count, longest in ((5, 30), (16, 4)):
            prompts(d + f"/p{count}", count, vocab, longest)
            for i, options in enumerate((*SAMPLED, SOME_BY_HOST, *BY_HOST)):
                want = generated(harness.tprun, d + "/b", d, count, *options)
                got = generated(lambda *a: emulated(*a, EMUL_REPORT=d + "/report"), d + "/b", d, count, *options)
                assert want == got, (count, options)
                copied = int(report(d + "/report").split()[6])
                if options != SOME_BY_HOST:
                    assert copied < row if i < len(SAMPLED) else copied > count * row, (count, options, copied)
                if options == BY_HOST[0]:  # little shared memory: the host chooses, too
                    assert want == generated(lambda *a: emulated(*a, EMUL_SHARED=24 << 10), d + "/b", d, count, *options)


def test_a_hole_of_the_vocabulary_is_never_chosen():
    vocab = {"a": 0, "b": 3, "c": 4, "d": 9}
    with Folder() as d:
        tiny_model(d + "/m", vocab_size=64)
        with open(d + "/m/tokenizer.json", "w") as f:
            json.dump({"model": {"type": "BPE", "vocab": vocab, "merges": []}}, f)
        convert(d + "/m", d + "/b")
        for options in (["--temp", "0"], ["--temp", "50"], ["--temp", "50", "--top-k", "50", "--top-p", "0.9"]):
            args = ["generate", d + "/b", "--prompt-ids", "0", "-n", "40", "--ids", "--ignore-eos", "-q", *options]
            assert emulated(*args, EMUL_REPORT=d + "/report").stdout == harness.tprun(*args).stdout, options
            assert HARDWARE or int(report(d + "/report").split()[6]) < 2000, options


def test_logits_that_are_no_numbers_are_the_cpus_error():
    with Folder() as d:
        tiny_model(d + "/m", torch_dtype="float32")
        path = d + "/m/model.safetensors"
        with open(path, "rb") as f:
            data = bytearray(f.read())
        n = int.from_bytes(data[:8], "little")
        at = 8 + n + json.loads(data[8:8 + n])["model.norm.weight"]["data_offsets"][0]
        data[at:at + 32] = bytes.fromhex("ffff7f7f") * 8  # the largest number
        with open(path, "wb") as f:
            f.write(data)
        convert(d + "/m", d + "/b")
        args = ["generate", d + "/b", "--prompt-ids", "3,4,5", "-n", "3", "--ids", "-q"]
        cpu, gpu = harness.tprun(*args, status=None), emulated(*args, status=None)
        assert cpu.returncode and error_line(cpu, cpu.returncode, "logits: ") == error_line(gpu, cpu.returncode)


def test_every_planted_fault_is_found():
    emulated_only()
    if os.environ.get("CONFIG", "release") != "release":
        raise Skip("the release build does it")
    builds = ["build", "build/asan", "build/tsan"]
    good, bad = run([os.path.join(harness.ROOT, "build/tests/planted")]).stdout.decode().splitlines()
    assert len(bad.split()) == 10

    def clean(build, name, seed):
        done = run([os.path.join(harness.ROOT, build, "tests/planted"), name, seed], None,
                   env={**os.environ, "ASAN_OPTIONS": "detect_stack_use_after_return=0"}, timeout=120)
        return done.returncode == 0 and not done.stderr
    for name in good.split():
        for build in builds:
            for seed in range(4):
                assert clean(build, name, seed), (name, build, seed)
    for name in bad.split():
        assert not all(clean(build, name, 2) for build in builds), name


# ---- prompts, fast ----

def logits_of(call, bundle, d, *args):
    call("logits", bundle, *args, "-o", d + "/out", "-q")
    with open(d + "/out", "rb") as f:
        return f.read()


def distance(a, b):
    """rms"""
    a, b = array.array("f", a), array.array("f", b)
    return math.sqrt(sum((x - y) ** 2 for x, y in zip(a, b)) / len(a))


@restored
def test_fast_prompts_are_no_further_from_the_truth_than_pytorch():
    """Of every checkpoint in 16 bits, as it came or rounded; where it came in f32 PyTorch's distance is not known, and twice that
    of the exact order is allowed, and greedy ids are the golden ones (else test_the_golden_results_are_met says so)."""
    for i, (name, model) in enumerate(float_checkpoints()[:: min(SHARE, 4)]):
        golden, truth = golden_check.load_golden(model)
        own = {"bfloat16": "bf16", "float16": "f16", "float32": ("bf16", "f16")[i % 2]}[golden["own_dtype"]]
        tp, gpus = arranged(i)
        with Folder() as d:
            convert(model, d + "/b", "--dtype", own, "--tp", tp)
            device = ["--device", "cuda", "--share-gpu"]
            os.environ.update(environment(EMUL_DEVICES=gpus))
            said = [golden_check.logits(program(), d + "/b", golden, [*device, *fast], d) for fast in ([], ["--fast"])]
            exact, fast = (golden_check.errors(x, truth) for x in said)
            assert said[0] != said[1], (name, "was not fast")
            bar = golden["error_transformers"].get(golden["own_dtype"]) if golden["own_dtype"] != "float32" else None
            most = (bar["rms"], bar["max"]) if bar else (2 * exact[0], 2 * exact[1])
            assert fast[0] <= most[0] and fast[1] <= most[1], (name, own, fast, most, exact)
            if bar:
                continue
            ids = golden_check.greedy(program(), d + "/b", golden, device, d)
            assert ids == [case["greedy_ids"] for case in golden["cases"]], (name, own)


LONG = [(3 + i * i * 7 % 41) % 50 for i in range(300)]


class Launch(ctypes.Structure):
    _fields_ = [(n, ctypes.c_uint) for n in ("grid_x", "grid_y", "grid_z", "block_x", "block_y", "block_z", "shared")] + [
        ("stream", ctypes.c_void_p), ("attributes", ctypes.c_void_p), ("n_attributes", ctypes.c_uint)]


class Operand(ctypes.Structure):
    """struct cuda_operand, as the kernel has it"""
    _fields_ = [("source", ctypes.c_void_p), ("to", ctypes.c_void_p)] + [(n, ctypes.c_uint32) for n in (
        "n_rows", "stride", "blocks", "n_out", "per_word", "half")] + [("mark_at", ctypes.c_void_p), ("mark", ctypes.c_uint32)]


def operand(cuda, rows, stride, blocks, per_word, half, values):
    """The words that product_operand makes of rows of x; 0xffffffff where it wrote nothing."""
    module, function, stream = (ctypes.c_void_p() for _ in range(3))
    source = (ctypes.c_float * len(values))(*values)
    count = (rows + 130) // 128 * 128 * blocks * 16
    to = (ctypes.c_uint32 * (count + 4))(*[0xffffffff] * (count + 4))
    at = ctypes.addressof(to) + -ctypes.addressof(to) % 16
    mark = ctypes.c_uint32()
    a = Operand(ctypes.addressof(source), at, rows, stride, blocks, rows + 3, per_word, half, ctypes.addressof(mark), 7)
    launch = Launch(count // 256 + 1, 1, 1, 256, 1, 1, 0, None, None, 0)
    arguments = (ctypes.c_void_p * 1)(ctypes.addressof(a))
    assert cuda.cuStreamCreate(ctypes.byref(stream), 1) == cuda.cuModuleLoadData(ctypes.byref(module), b"") == 0
    assert cuda.cuModuleGetFunction(ctypes.byref(function), module, b"product_operand") == 0
    launch.stream = stream.value
    assert cuda.cuLaunchKernelEx(ctypes.byref(launch), function, arguments, None) == 0
    assert cuda.cuStreamSynchronize(stream) == 0 and mark.value == 7
    first = (at - ctypes.addressof(to)) // 4
    return list(to[first: first + count])


def test_rows_of_x_become_operands():
    """Row by row for a library's products; every value of x once in the fragments, whatever the order."""
    emulated_only()
    if os.environ.get("CONFIG", "release") != "release":
        raise Skip("this Python opens the driver, and cannot with a sanitizer in it")
    cuda = ctypes.CDLL(os.path.join(DRIVER, "libcuda.so.1"))
    for n in (cuda.cuModuleGetFunction, cuda.cuLaunchKernelEx):
        n.argtypes = [ctypes.c_void_p] * (4 if n is cuda.cuLaunchKernelEx else 3)
    cuda.cuStreamSynchronize.argtypes = [ctypes.c_void_p]
    context = ctypes.c_void_p()
    assert cuda.cuInit(0) == cuda.cuDevicePrimaryCtxRetain(ctypes.byref(context), 0) == cuda.cuCtxSetCurrent(context) == 0
    for rows, blocks, half in ((5, 2, 0), (40, 1, 1), (100, 1, 0), (150, 2, 1)):
        stride = blocks * 32 + 8
        values = [(1 + i % 250) * (-1) ** i * 0.5 for i in range(rows * stride)]

        def bits(v):
            return struct.unpack("<H", struct.pack("<e", v))[0] if half else struct.unpack("<I", struct.pack("<f", v))[0] >> 16

        def pair(row, k):
            return bits(values[row * stride + k]) | bits(values[row * stride + k + 1]) << 16
        got = operand(cuda, rows, stride, blocks, 0, half, values)
        pairs = [pair(r, k) for r in range(rows) for k in range(0, blocks * 32, 2)]
        end = len(pairs) + 3 * blocks * 16
        assert got[: len(pairs)] == pairs and not any(got[len(pairs): end]) and set(got[end:]) <= {0xffffffff}
        for per_word in (2, 4, 8):
            got = operand(cuda, rows, stride, blocks, per_word, half, values)
            assert sorted(w for w in got if w not in (0, 0xffffffff)) == sorted(pairs)


def test_fast_prompts_of_quantized_bundles():
    """How far fast is from exact, next to what quantizing did."""
    with Folder() as d:
        tiny_model(d + "/m", vocab_size=50, hidden_size=96, intermediate_size=400, torch_dtype="float32", max_position_embeddings=2048)
        convert(d + "/m", d + "/f", "--dtype", "f32")
        for i, (options, dtype) in enumerate((q, t) for q in QUANTS[1:] for t in ("bf16", "f16")):
            if i % min(SHARE, 5):
                continue
            convert(d + "/m", f"{d}/b{i}", "--dtype", dtype, *options)
            ids = ["--prompt-ids", ",".join(map(str, LONG[: (26, 50, 70)[i % 3]]))]
            truth = logits_of(harness.tprun, d + "/f", d, *ids)
            exact = logits_of(harness.tprun, f"{d}/b{i}", d, *ids)
            fast = logits_of(emulated, f"{d}/b{i}", d, *ids, "--fast")
            assert fast == logits_of(lambda *a: emulated(*a, EMUL_SMS=40), f"{d}/b{i}", d, *ids, "--fast"), "32 or 64 rows of weights a CTA"
            assert distance(fast, exact) <= 0.15 * distance(exact, truth), (options, dtype, distance(fast, exact), distance(exact, truth))


def test_fast_prompts_of_odd_shapes_and_caches():
    """Heads of every width there is a kernel for, and wider; windows; more than a tile of rows, more than a chunk, more than a page."""
    wide = dict(hidden_size=64, vocab_size=50, num_attention_heads=4, num_key_value_heads=2)
    shapes = (*ODD, dict(wide, head_dim=16, num_hidden_layers=2, model_type="mistral", architectures=["MistralForCausalLM"], sliding_window=50),
              dict(wide, head_dim=128), dict(wide, head_dim=160), dict(wide, head_dim=256), dict(wide, head_dim=320))
    for i, shape in enumerate(shapes):
        if i % min(SHARE, 4):
            continue
        with Folder() as d:
            tiny_model(d + "/m", torch_dtype="float32", max_position_embeddings=2048, **shape)
            convert(d + "/m", d + "/b", "--dtype", ("bf16", "f16")[i % 2])
            n, kv = (17, 33, 100, 300, 129)[i % 5], ("bf16", "f16", "f32")[i % 3]
            ids = ["--prompt-ids", ",".join(str(t % shape["vocab_size"]) for t in LONG[:n]), "--kv-dtype", kv]
            exact = logits_of(harness.tprun, d + "/b", d, *ids)
            fast = logits_of(emulated, d + "/b", d, *ids, "--fast", "--chunk", "128")
            convert(d + "/m", d + "/bt", "--dtype", ("bf16", "f16")[i % 2], "--tp", (3, 2, 7)[i % 3])
            for gpus in arrangements((3, 2, 7)[i % 3])[: 1 + i % 2]:
                ranks = logits_of(lambda *a: on(gpus, *a, EMUL_NO_PEERS=i % 2), d + "/bt", d, *ids, "--fast", "--chunk", ("128", "512")[i % 2])
                assert distance(ranks, exact) <= 0.1 * distance(exact, bytes(len(exact))), (shape, n, kv, gpus)
            assert distance(fast, exact) <= 0.1 * distance(exact, bytes(len(exact))), (shape, n, kv, distance(fast, exact))


def test_a_fast_prompt_does_not_depend_on_company():
    """Alone, with others, twice: the same bytes; and what it is answered."""
    with Folder() as d:
        tiny_model(d + "/m", vocab_size=50, hidden_size=64, num_hidden_layers=2, max_position_embeddings=2048, num_attention_heads=4)
        convert(d + "/m", d + "/b", "--quant", "int8")
        cuts = (LONG, LONG[20:37], LONG[5:9], LONG[100:240], LONG[60:77])
        each = []
        for i, ids in enumerate(cuts):
            with open(f"{d}/p{i}", "w") as f:
                f.write('{"id": "%d", "prompt_ids": %s, "n": 5}\n' % (i, ids))
            each.append(f"{d}/p{i}")
        if not HARDWARE:
            run([os.path.join(harness.BUILD, "tests", "fast_prompts"), "company", d + "/b"], env=environment())
        with open(d + "/all", "w") as f:
            f.write("".join(open(p).read() for p in each))
        logits = [logits_of(emulated, d + "/b", d, "--prompts", d + "/all", "--fast") for _ in range(2)]
        assert logits[0] == logits[1]

        def generate(path, *args):
            return emulated("generate", d + "/b", "--prompts", path, "--ids", "--ignore-eos", "-q", *args).stdout
        convert(d + "/m", d + "/bt", "--quant", "fp8", "--tp", 3)
        for gpus in arrangements(3):
            logits = [logits_of(lambda *a: on(gpus, *a), d + "/bt", d, "--prompts", path, "--fast") for path in (d + "/all", *each)]
            assert logits[0] == b"".join(logits[1:]), gpus
        for args in ([], ["--chunk", "128"])[: 1 if SHARE > 8 else 2]:
            assert generate(d + "/all", *args) == generate(d + "/all", *args) == b"".join(generate(p, *args) for p in each), args


def test_exact_prompts_are_the_cpus():
    with Folder() as d:
        tiny_model(d + "/m", vocab_size=50, hidden_size=64, max_position_embeddings=2048)
        ids = ",".join(map(str, LONG[:40]))
        for dtype, options in (("bf16", ["--exact"]), ("f16", ["--exact", "--chunk", "33"]), ("f32", [])):
            convert(d + "/m", d + "/" + dtype, "--dtype", dtype)
            args = ["generate", d + "/" + dtype, "--prompt-ids", ids, "-n", "6", "--ids", "--ignore-eos", "-q", *options]
            assert emulated(*args).stdout == harness.tprun(*args).stdout, dtype
            args = ["logits", d + "/" + dtype, "--prompt-ids", ids, *options]
            assert logits_of(emulated, *args[1:2], d, *args[2:]) == logits_of(harness.tprun, *args[1:2], d, *args[2:]), dtype
        args = ["generate", d + "/bf16", "--prompt-ids", ids, "-n", "1", "--ids", "-q"]
        error_line(emulated(*args, "--chunk", "100", status=2), 2, "--chunk 100", "128, 256, 512, 1024, 2048", "--exact")
        error_line(emulated("logits", d + "/bf16", "--prompt-ids", ids, "-o", d + "/out", "--fast", "--exact", status=2), 2, "--fast", "--exact")


def test_what_follows_a_fast_prompt_is_exact():
    """Given the cache. The tool says how."""
    emulated_only()
    with Folder() as d:
        tiny_model(d + "/m", vocab_size=50, hidden_size=64, num_hidden_layers=2, max_position_embeddings=2048)
        for i, options in enumerate(QUANTS[:: min(SHARE, 3)]):
            convert(d + "/m", f"{d}/b{i}", *options)
            run([os.path.join(harness.BUILD, "tests", "fast_prompts"), "after", f"{d}/b{i}"], env=environment())


def test_sanitizers_find_nothing_in_fast_prompts():
    emulated_only()
    if os.environ.get("CONFIG", "release") != "release":
        raise Skip("the release build does it")
    with Folder() as d:
        tiny_model(d + "/m", max_position_embeddings=2048, **ODD[0])
        for i, options in enumerate(QUANTS[:: min(SHARE + 2, 6)]):
            convert(d + "/m", f"{d}/b{i}", "--dtype", ("bf16", "f16")[i % 2], *options)
            args = ["logits", f"{d}/b{i}", "--prompt-ids", ",".join(map(str, LONG[: (20, 70)[i % 2]])), "-o", "-", "-q", "--fast"]
            convert(d + "/m", f"{d}/b{i}r", "--dtype", ("bf16", "f16")[i % 2], "--tp", 2, *options)
            ranks = [args[0], f"{d}/b{i}r", *args[2:]]
            gpus = 1 + i % 2
            want, together, alone = emulated(*args).stdout, on(gpus, *ranks).stdout, on(1, *ranks).stdout
            for name in ("asan", "tsan"):
                for seed in SEEDS:
                    for these, expected in ((args, want), (ranks, together)):
                        got = run([EMULATED, *these, "--device", "cuda", "--share-gpu", "--threads", "1"],
                                  env={**os.environ, **sanitizer(name), "EMUL_SEED": str(seed), "EMUL_DEVICES": str(seen(name, gpus))})
                        assert got.stdout in (expected, alone) and not got.stderr, (name, options, seed, got.stderr[:400])
# ---- cuBLASLt and NCCL ----

LIBRARIES = os.path.join("tests", "cuda_libraries")


def with_libraries(name, build=harness.BUILD, status=0, path=None, **more):
    """A test of tests/cuda/libraries.c, with the stand-ins of the same build."""
    emulated = os.path.join(harness.ROOT, build, "tests", "emulated")
    return run([os.path.join(harness.ROOT, build, LIBRARIES), name], status, timeout=120,
               env={**os.environ, "LD_LIBRARY_PATH": path or emulated, "ASAN_OPTIONS": "detect_stack_use_after_return=0:detect_leaks=0",
                    **{k: str(v) for k, v in more.items()}})


def test_products_of_every_format_and_gathers_of_several_ranks():
    """In the release build with one stream that runs at once, too: it then overtakes the other wherever it does not wait."""
    if HARDWARE:
        gpu = os.path.join(harness.ROOT, "build", LIBRARIES + "_gpu")
        if run([gpu, "there"]).stdout != b"1 1 0\n":
            raise Skip("no cuBLASLt, or no NCCL")
        for name in ("products", "products_too", "once"):
            run([gpu, name])
        return
    if os.environ.get("CONFIG", "release") != "release":
        raise Skip("the release build does it")
    for build in ("build", "build/asan", "build/tsan"):
        for i, name in enumerate(("products", "products_too", "refusals", "many_shapes", "gathers", "absent")):
            for lazy in (99, 1) if build == "build" and "products" in name else (1 + 98 * (i % 2),):
                done = with_libraries(name, build, EMUL_LAZY=lazy, EMUL_SEED=i)
                assert not done.stderr, (name, build, lazy, done.stderr[:800])


def test_a_failed_call_of_a_library_is_one_line_and_leaves_nothing():
    emulated_only()
    with Folder() as d:
        with_libraries("once", EMUL_REPORT=d + "/report")
        calls = int(report(d + "/report").split()[1])
        assert calls > 50
        for k in range(1, calls + 1, max(1, calls // (200 // SHARE))):
            build = "build/asan" if k % 2 and os.environ.get("CONFIG", "release") == "release" else harness.BUILD
            done = with_libraries("once", build, status=None, EMUL_FAIL=k, EMUL_REPORT=d + "/report")
            assert done.returncode in (0, 9) and len(done.stderr.splitlines()) == (done.returncode != 0), (k, done.stderr)
            assert done.returncode == 0 or " blocks 0 pinned 0 contexts" in report(d + "/report"), (k, report(d + "/report"))


def test_libraries_are_looked_for_without_being_opened():
    emulated_only()
    with Folder() as d:
        assert with_libraries("there").stdout == b"1 1 0\n"
        os.symlink(os.path.join(DRIVER, "libcuda.so.1"), d + "/libcuda.so.1")
        cache = subprocess.run(["/sbin/ldconfig", "-p"], stdout=subprocess.PIPE).stdout.decode()
        want = [int(any(n in cache for n in names)) for names in (("libcublasLt.so.12", "libcublasLt.so.13"), ("libnccl.so.2",))]
        assert with_libraries("there", path=d).stdout == b"%d %d 0\n" % tuple(want)
        # there, but none: found and refused where it is needed
        os.symlink(os.path.join(DRIVER, "libcuda.so.1"), d + "/libcublasLt.so.13")
        assert b"libcublasLt has no cublasLtGetStatusName" in with_libraries("once", status=4, path=d).stderr
        os.unlink(d + "/libcublasLt.so.13")
        os.symlink(os.path.join(DRIVER, "libcublasLt.so.13"), d + "/libcublasLt.so.13")
        with open(d + "/libnccl.so.2", "w") as f:
            f.write("no library\n")
        shutil.copy(d + "/libnccl.so.2", d + "/libtpshard-test.so.1")
        assert with_libraries("there", path=d).stdout == b"1 1 1\n"
        assert b"libnccl.so.2 cannot be opened" in with_libraries("once", status=4, path=d).stderr


# ---- what goes wrong ----

def report(path):
    with open(path) as f:
        return f.read()


def call_count(d, *args):
    emulated(*args, EMUL_REPORT=d + "/report")
    text = report(d + "/report")
    assert text.endswith("left: blocks 0 pinned 0 contexts 0 streams 0 events 0 graphs 0 modules 0\n"), text
    return int(text.split()[1])


def test_a_failed_call_is_one_line_and_leaves_nothing():
    emulated_only()
    with Folder() as d:
        tiny_model(d + "/m", num_hidden_layers=2)
        convert(d + "/m", d + "/b")
        ids = ",".join(map(str, IDS[:18]))  # a fast prompt, then rows that decode
        args = ["generate", d + "/b", "--prompt-ids", ids, "-n", "3", "--ids", "--ignore-eos", "-q", "--threads", "2"]
        calls = call_count(d, *args)
        lost = {"ASAN_OPTIONS": "detect_leaks=0"}  # a lost device gives nothing back
        for k in range(1, calls + 1, max(1, calls // (600 // SHARE))):
            done = emulated(*args, status=None, EMUL_FAIL=k, EMUL_REPORT=d + "/report", **lost)
            if done.returncode:
                error_line(done, 9, "--device cuda")
            assert " blocks 0 pinned 0 contexts" in report(d + "/report") or done.returncode == 0, (k, report(d + "/report"))
            done = emulated(*args, status=None, EMUL_LOST=k, **lost)
            if done.returncode:  # else it was lost when all was done
                error_line(done, 9, "--device cuda", "CUDA_ERROR_LAUNCH_FAILED")
            done = emulated(*args, status=None, EMUL_FAIL=f"{k}:2", EMUL_REPORT=d + "/report", **lost)
            if done.returncode:
                error_line(done, 6, "--device cuda", "CUDA_ERROR_OUT_OF_MEMORY")


def test_too_little_memory_is_said_with_both_numbers():
    emulated_only()
    with Folder() as d:
        tiny_model(d + "/m")
        convert(d + "/m", d + "/b")
        args = ["generate", d + "/b", "--prompt-ids", "3,4,5", "-n", "3", "--ids", "-q"]
        error_line(emulated(*args, status=6, EMUL_MEMORY=100000), 6, "90000 available")
        error_line(emulated(*args, "--mem-fraction", "0.5", status=6, EMUL_MEMORY=100000), 6, "50000 available")


def check_damages(rounds, flips, seed):
    """Bits flipped in a rank file: the GPU refuses it with the CPU's line, and prints nothing. Short chunks are the host's to
    hash, long ones the GPU's; of several damages the first in the file is named."""
    rng = random.Random(seed)
    with Folder() as d:
        tiny_model(d + "/m", hidden_size=64, vocab_size=200, intermediate_size=160)
        convert(d + "/m", d + "/b")
        path = d + "/b/rank-000-of-001.tps"
        data = open(path, "rb").read()
        begin = int.from_bytes(data[80:88], "little")
        args = ["generate", d + "/b", "--prompt-ids", "3,4,5", "-n", "3", "--ids", "-q"]
        for _ in range(rounds):
            damaged = bytearray(data)
            for _ in range(flips):
                damaged[rng.randrange(begin, len(data))] ^= 1 << rng.randrange(8)
            with open(path, "wb") as f:
                f.write(damaged)
            gpu, cpu = emulated(*args, status=7), harness.tprun(*args, status=7)
            assert not gpu.stdout and error_line(gpu, 7, "rank-000-of-001.tps") == error_line(cpu, 7)


def test_a_damaged_chunk_is_found_before_any_value_is_used():
    check_damages(40 // SHARE + 2, 1, 1)


def test_of_several_damages_the_first_in_the_file_is_named():
    check_damages(12, 3, 2)


def test_old_drivers_and_small_gpus():
    """No early launches in graphs; little shared memory: smaller tiles of attention, values and x in global memory."""
    emulated_only()
    with Folder() as d:
        tiny_model(d + "/m", num_attention_heads=16, num_key_value_heads=2, head_dim=128, intermediate_size=3000, torch_dtype="float32")
        convert(d + "/m", d + "/b")
        args = ["generate", d + "/b", "--prompt-ids", "3,4,5", "-n", "3", "--ids", "--ignore-eos", "-q"]
        want = harness.tprun(*args).stdout
        assert emulated(*args, EMUL_OLD=1).stdout == want
        for shared in (100 << 10, 64 << 10, 24 << 10):
            assert emulated(*args, EMUL_SHARED=shared).stdout == want, shared
        error_line(emulated(*args, status=4, EMUL_SHARED=4 << 10), 4, "shared memory")


def test_compressed_bundles_run_too():
    with Folder() as d:
        tiny_model(d + "/m", hidden_size=64)
        convert(d + "/m", d + "/b", "--compress", "zstd")
        args = ["generate", d + "/b", "--prompt-ids", "3,4,5", "-n", "3", "--ids", "-q"]
        assert emulated(*args).stdout == harness.tprun(*args).stdout


def rank_bundle(d, tp, **more):
    """Of a model that a rank has something of everywhere: its launches in a step of one row are 5 a layer and 2."""
    tiny_model(d + "/m", num_hidden_layers=3, num_attention_heads=6, num_key_value_heads=3, torch_dtype="bfloat16", **more)
    convert(d + "/m", d + "/b", "--tp", tp)
    return ["generate", d + "/b", "--prompt-ids", "3,4,5", "-n", "4", "--ids", "--ignore-eos", "-q", "--threads", "2"]


def test_a_rank_that_stops_dies_or_lags_is_named():
    """At any launch of a run: exit 9 not long after the deadline, with rank and step, or the right answer."""
    emulated_only()
    with Folder() as d:
        args = rank_bundle(d, 3)
        want = harness.tprun(*args).stdout
        assert on(3, *args).stdout == want
        long = os.environ.get("TIER") == "long"
        prompt = [*args[:3], ",".join(str(3 + i % 13) for i in range(60)), *args[4:]]  # fast: NCCL carries its sums
        lost = {"ASAN_OPTIONS": "detect_leaks=0"}  # what hangs is left as it is
        for i, kind in enumerate(("HANG", "DIE", "STOP", "LAG")[: 4 if SHARE <= 8 else 1]):
            at, nccl = i % 3, dict(EMUL_DEADLINE=2600)
            for more, these in ((nccl, prompt), (dict(nccl, EMUL_NO_PEERS=1), args)):
                done = on(3, *these, "--deadline", 1, status=None, **more, **lost, **{"EMUL_" + kind: f"{at}:{30 + i}:3000"[: None if kind == "LAG" else -5]})
                named = re.search(r"rank (\d).*step \d+", error_line(done, 9, "--device cuda"))
                assert named and (kind in ("STOP", "LAG") or int(named[1]) == at), (kind, at, done.stderr)
        for k in range(2, 70, 1 if long else max(5, SHARE)):
            for gpus, at in ((3, k % 3), (1, 0)):
                assert on(gpus, *args, EMUL_LAG=f"{at}:{k}:30").stdout == want
                kinds = ("HANG", "DIE", "STOP", "LAG") if gpus > 1 else ("HANG", "DIE")
                for kind in kinds if long else [kinds[k // 5 % len(kinds)]]:
                    begin = time.monotonic()
                    done = on(gpus, *args, "--deadline", 1, status=None, **lost, **{"EMUL_" + kind: f"{at}:{k}" + ":3000" * (kind == "LAG")})
                    seconds = time.monotonic() - begin
                    if done.returncode == 0:  # it was never launched, or nobody waited for it
                        assert done.stdout == want, (gpus, kind, at, k)
                        continue
                    line = error_line(done, 9, "--device cuda")
                    named = re.search(r"rank (\d).*step \d+", line)
                    assert named and (gpus == 1 or int(named[1]) == at), (kind, at, k, line)
                    assert seconds < 12, (kind, at, k, seconds)


def test_two_inboxes_are_one_too_few():
    """What would happen is noticed: the library with two of them loses sums, however it is scheduled."""
    emulated_only()
    if os.environ.get("CONFIG", "release") != "release":
        raise Skip("the release build does it")
    with Folder() as d:
        args = rank_bundle(d, 3)
        want = harness.tprun(*args).stdout
        wrong = 0
        for k in range(25, 35):  # late in every phase of two layers
            lag = f"1:{k}:100"
            assert on(3, *args, EMUL_LAG=lag).stdout == want
            done = run([EMULATED, *args, "--device", "cuda", "--deadline", 1], None,
                       env={**environment(EMUL_LAG=lag, EMUL_DEVICES=3), "LD_LIBRARY_PATH": os.path.join(harness.BUILD, "tests", "two_inboxes")})
            wrong += done.returncode == 9 or done.stdout != want
        assert wrong >= 2, wrong


def library(name):
    """Does this machine have it?"""
    return name in subprocess.run(["/sbin/ldconfig", "-p"], stdout=subprocess.PIPE).stdout.decode()


def test_without_driver_gpu_kernels_or_gpus_enough_it_is_exit_4():
    emulated_only()
    with Folder() as d:
        tiny_model(d + "/m")
        convert(d + "/m", d + "/b")
        convert(d + "/m", d + "/b2", "--tp", 2)
        args = ["generate", d + "/b", "--prompt-ids", "3", "-n", "1", "--ids", "-q", "--device", "cuda"]
        none = os.path.join(d, "none")
        os.mkdir(none)
        if not shutil.which("nvidia-smi"):
            error_line(run([EMULATED, *args], 4, env={**os.environ, "LD_LIBRARY_PATH": none}), 4, "libcuda.so.1")
        error_line(emulated(*args[:-2], status=4, EMUL_DEVICES=0), 4, "finds no GPU")
        error_line(emulated("generate", d + "/b2", *args[2:-2], status=4), 4, "2 ranks", "--share-gpu", "reshard")
        os.symlink(os.path.join(harness.ROOT, DRIVER, "libcuda.so.1"), none + "/libcuda.so.1")
        long = ["generate", d + "/b2", "--prompt-ids", ",".join("3" * 17), *args[4:]]
        if not library("libnccl.so.2"):
            alone = {**environment(EMUL_DEVICES=2), "LD_LIBRARY_PATH": none}
            error_line(run([EMULATED, *long], 4, env=alone), 4, "NCCL", "--exact")
            run([EMULATED, *long, "--exact"], env=alone)
            error_line(run([EMULATED, *long, "--exact"], 4, env={**alone, "EMUL_NO_PEERS": "1"}), 4, "NCCL", "--share-gpu")
        error_line(emulated(*args[:-2], "--isa", "scalar", status=4), 4, "--isa scalar")


def test_short_prompts_open_no_library():
    """A file that is no library in cuBLASLt's place: 26 tokens do not notice, 200 do."""
    emulated_only()
    with Folder() as d:
        tiny_model(d + "/m", vocab_size=50, hidden_size=64, max_position_embeddings=2048)
        convert(d + "/m", d + "/b")
        os.mkdir(d + "/lib")
        os.symlink(os.path.join(harness.ROOT, DRIVER, "libcuda.so.1"), d + "/lib/libcuda.so.1")
        with open(d + "/lib/libcublasLt.so.13", "w") as f:
            f.write("no library\n")
        for n, status in ((26, 0), (200, 4)):
            args = ["generate", d + "/b", "--prompt-ids", ",".join(map(str, LONG[:n])), "-n", "2", "--ids", "-q", "--device", "cuda"]
            done = run([EMULATED, *args], status, env={**environment(), "LD_LIBRARY_PATH": d + "/lib"})
            if status:
                error_line(done, 4, "libcublasLt.so.13")


def test_the_demo_tells_its_story_and_replays_what_the_cpu_recorded():
    with Folder() as d:
        convert(harness.DEMO, d + "/b", selftest=True)
        args = ["generate", d + "/b", "-p", "Once upon a time", "-n", "24", "--temp", "0.7", "-q"]
        assert emulated(*args).stdout == harness.tprun(*args).stdout
        assert b"as recorded" in emulated("selftest", d + "/b").stdout


@restored
def test_the_golden_results_are_met():
    for i, (name, model) in enumerate(float_checkpoints()[::SHARE]):
        tp, gpus = arranged(i)
        with Folder() as d:
            convert(model, d + "/b", "--tp", tp)
            os.environ.update(environment(EMUL_DEVICES=gpus))
            golden_check.check(program(), d + "/b", model, ["--device", "cuda", "--share-gpu"])


harness.main(globals())
