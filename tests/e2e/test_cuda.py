"""The GPU as a device, emulated (tests/cuda): the host's code as it is, the kernels as C++, the CPU's bits."""
import os
import random
import shutil
import subprocess
import sys

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
SHARE = 6 if HARDWARE else harness.SHARE  # a GPU takes its time to start


def program():
    return harness.TPRUN if HARDWARE else EMULATED


def emulated_only():
    if HARDWARE:
        raise Skip("a fault of the emulated device")


def emulated(*args, status=0, **env):
    return run([program(), *args, "--device", "cuda"], status, env=environment(**env))


def said(call, bundle, d, *args):
    """Logits, trace, greedy and sampled ids."""
    ids = ",".join(map(str, IDS))
    call("logits", bundle, "--prompt-ids", ids, "-o", d + "/l", "--trace", d + "/t", "-q", *args)
    greedy = call("generate", bundle, "--prompt-ids", ids, "-n", "6", "--ids", "--ignore-eos", "-q", *args)
    drawn = call("generate", bundle, "--prompt-ids", "3,1", "-n", "6", "--temp", "0.8", "--top-p", "0.9", "--ids", "--ignore-eos", "-q", *args)
    return [open(d + "/" + n, "rb").read() for n in "lt"] + [greedy.stdout, drawn.stdout]


def test_every_checkpoint_and_format_has_the_cpus_bits():
    for i, (name, model) in enumerate(float_checkpoints()):
        for j, options in enumerate(QUANTS):
            dtype = ("keep", "bf16", "f16", "f32")[(i + j) % 4]
            if (i + j) % min(SHARE, 11):
                continue
            with Folder() as d:
                convert(model, d + "/b", "--dtype", dtype, *options)
                want = said(harness.tprun, d + "/b", d)
                got = said(emulated, d + "/b", d)
                assert want == got, (name, dtype, options, [x == y for x, y in zip(want, got)])


def sanitizer(name):
    """Environment of the emulated device built with a sanitizer, under programs that are not."""
    library = subprocess.run(["gcc", f"-print-file-name=lib{name}.so"], stdout=subprocess.PIPE).stdout.decode().strip()
    return {"LD_PRELOAD": library, "LD_LIBRARY_PATH": os.path.join(harness.ROOT, "build", name, "tests", "emulated"),
            "ASAN_OPTIONS": "detect_stack_use_after_return=0:detect_leaks=0"}


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


def test_attention_over_several_chunks_and_a_window():
    with Folder() as d:
        tiny_model(d + "/m", max_position_embeddings=2048, num_hidden_layers=2, model_type="mistral", architectures=["MistralForCausalLM"],
                   sliding_window=300)
        tiny_model(d + "/n", max_position_embeddings=2048, num_attention_heads=3, num_key_value_heads=1, head_dim=40)
        ids = ",".join(str(3 + i * 7 % 13) for i in range(600))
        for model in "mn":
            convert(f"{d}/{model}", f"{d}/b{model}")
            for kv in ("bf16", "f16", "f32"):
                args = ["generate", f"{d}/b{model}", "--prompt-ids", ids, "-n", "3", "--ids", "--ignore-eos", "-q", "--kv-dtype", kv]
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
            for name in ("asan", "tsan"):
                for seed in (0, 1, 3):
                    got = run([EMULATED, *args, "--device", "cuda", "--threads", "1"],
                              env={**os.environ, **sanitizer(name), "EMUL_SEED": str(seed)})
                    assert got.stdout == want and not got.stderr, (name, options, seed, got.stderr[:400])


def test_every_planted_fault_is_found():
    emulated_only()
    if os.environ.get("CONFIG", "release") != "release":
        raise Skip("the release build does it")
    builds = ["build", "build/asan", "build/tsan"]
    good, bad = run([os.path.join(harness.ROOT, "build/tests/planted")]).stdout.decode().splitlines()
    assert len(bad.split()) == 9

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
        args = ["generate", d + "/b", "--prompt-ids", "3,4,5", "-n", "3", "--ids", "--ignore-eos", "-q", "--threads", "2"]
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


def test_without_driver_gpu_kernels_or_a_degree_of_one_it_is_exit_4():
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
        error_line(emulated("generate", d + "/b2", *args[2:-2], status=4), 4, "2 ranks", "reshard")
        error_line(emulated(*args[:-2], "--isa", "scalar", status=4), 4, "--isa scalar")


def test_the_demo_tells_its_story_and_replays_what_the_cpu_recorded():
    with Folder() as d:
        convert(harness.DEMO, d + "/b", selftest=True)
        args = ["generate", d + "/b", "-p", "Once upon a time", "-n", "24", "--temp", "0.7", "-q"]
        assert emulated(*args).stdout == harness.tprun(*args).stdout
        assert b"as recorded" in emulated("selftest", d + "/b").stdout


def test_the_golden_results_are_met():
    for name, model in float_checkpoints()[::SHARE]:
        with Folder() as d:
            convert(model, d + "/b")
            os.environ.update(environment())
            golden_check.check(program(), d + "/b", model, ["--device", "cuda"])


harness.main(globals())
