#!/usr/bin/env python3
"""The subcommands of tpshard as a user types them: what they print, where they write, how they exit.

BUILD (default build) has the program, SHARED (default ../shared) the data that is not in the tree.
"""
import glob
import json
import os
import random
import re
import shutil
import struct
import subprocess
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))
import harness
from harness import DEMO, SHARED, Skip, TPSHARD, checkpoint, error_line, float_checkpoints

COMMANDS = ("convert", "plan", "inspect", "verify", "diff", "reshard", "export", "tokenizer")
SUPPORTED = ("LlamaForCausalLM", "MistralForCausalLM", "Qwen2ForCausalLM", "Qwen3ForCausalLM")
FLIPS = 150


def run(*args, status=0, env=None):
    """Run tpshard; (stdout, stderr). The exit status is checked, and the form of the error line with it."""
    done = harness.tpshard(*args, status=status, timeout=300, env={**os.environ, **(env or {})})
    if done.returncode not in (0, 2) and done.returncode > 0:
        error_line(done, done.returncode)
    return done.stdout.decode(), done.stderr.decode()


def convert(tmp, name, *options, out="bundle", source=None):
    path = os.path.join(tmp, out)
    run("convert", source or checkpoint(name), "-o", path, "--no-selftest", "-q", *options)
    return path


def tensors(folder):
    """{name: (dtype, shape, bytes)} of a folder's safetensors."""
    found = {}
    for path in sorted(glob.glob(os.path.join(folder, "*.safetensors"))):
        with open(path, "rb") as f:
            data = f.read()
        n = struct.unpack("<Q", data[:8])[0]
        assert n % 8 == 0
        for name, entry in json.loads(data[8:8 + n]).items():
            if name == "__metadata__":
                continue
            begin, end = entry["data_offsets"]
            found[name] = (entry["dtype"], entry["shape"], data[8 + n + begin:8 + n + end])
    return found


def read(path, mode="rb"):
    with open(path, mode) as f:
        return f.read()


def write(path, data):
    with open(path, "wb") as f:
        f.write(data)


def alter_value(folder, name, element):
    """Change one element of a 2- or 4-byte tensor to a near value."""
    for path in glob.glob(os.path.join(folder, "*.safetensors")):
        data = bytearray(read(path))
        n = struct.unpack("<Q", data[:8])[0]
        entry = json.loads(data[8:8 + n]).get(name)
        if entry:
            size = 4 if entry["dtype"] == "F32" else 2
            data[8 + n + entry["data_offsets"][0] + element * size + size - 1 - (size > 2)] ^= 0x01
            write(path, data)
            return entry["shape"]
    raise AssertionError(f"no tensor {name} in {folder}")


# ---- command line ----

def test_help_of_every_command_is_on_stdout(tmp):
    out, _ = run("--help")
    for name in COMMANDS:
        assert name in out
        text, err = run(name, "--help")
        assert text.startswith(f"usage: tpshard {name}") and not err


def test_a_wrong_command_line_exits_2_with_one_line(tmp):
    run(status=2)
    for args in (["frobnicate"], ["--frobnicate"], *([c, "--frobnicate"] for c in COMMANDS),
                 *([c] for c in COMMANDS), ["plan", "a", "b"], ["inspect", "a", "b"], ["verify", "a", "b"],
                 ["diff", "a"], ["export", "a"], ["export", "a", "b", "-o", "c"], ["tokenizer", "a"],
                 ["plan", "a", "--tp", "49"], ["plan", "a", "--tp", "1,,2"], ["plan", "a", "--gpu-mem", "80Q"],
                 ["plan", "a", "--context", "0"], ["verify", "a", "--tp", "1"], ["plan", "a", "--tp"]):
        _, err = run(*args, status=2)
        assert len(err.splitlines()) == 1 and err.startswith("tpshard: error CL"), (args, err)


def test_what_is_no_bundle_is_said_to_be_none(tmp):
    for command in ("inspect", "verify"):
        run(command, os.path.join(tmp, "absent"), status=5)
        _, err = run(command, tmp, status=3)
        assert "manifest.json" in err


# ---- plan ----

def test_plan_answers_for_every_config_or_names_what_is_unsupported(tmp):
    configs = sorted(glob.glob(os.path.join(SHARED, "data/configs/*.json")))
    if not configs:
        raise Skip("no data/configs")
    planned = 0
    for path in configs:
        config = json.loads(read(path))
        named = (config.get("architectures") or [None])[0]
        if not named and not config.get("model_type") and "mlp_bias" in config:
            out, err = run("plan", path, "--tp", "8") # guessed, and said so
            assert "LlamaForCausalLM" in out and "names no architecture" in err
        elif not named and not config.get("model_type"):
            _, err = run("plan", path, status=3) # no model is named at all
            assert "model_type" in err
        elif named in SUPPORTED or (not named and config["model_type"] in ("llama", "mistral", "qwen2", "qwen3")):
            out = json.loads(run("plan", path, "--json", "--gpu-mem", "80G", "--tp", "1,3,8,48")[0])
            assert [d["tp"] for d in out["degrees"]] == [1, 3, 8, 48]
            assert bool(out["quantization"]) == bool(config.get("quantization_config") or config.get("quantization"))
            if out["quantization"]:
                assert out["dtype"] in ("bf16", "f16")
                assert out["quantization"] in run("plan", path)[0]
            planned += 1
        else:
            _, err = run("plan", path, status=4)
            assert (named or config["model_type"]) in err, err
    assert planned >= 20, planned


def test_plan_of_a_checkpoint_says_what_convert_then_writes(tmp):
    for name, tp in (("qwen2-bias", 5), ("mqa-bias", 8), ("mistral-window", 3)):
        for quant in ("none", "int8", "fp8"):
            bundle = convert(tmp, name, "--tp", str(tp), "--quant", quant, out=f"{name}-{quant}")
            plan = json.loads(run("plan", checkpoint(name), "--tp", str(tp), "--quant", quant, "--json")[0])["degrees"][0]
            found = json.loads(run("inspect", bundle, "--json")[0])
            assert [r["weights_bytes"] for r in plan["ranks"]] == [r["data_bytes"] for r in found["ranks"]]
            for a, b in zip(plan["ranks"], found["ranks"]):
                for key in ("heads", "kv_heads", "ff_columns", "vocab_rows"):
                    assert a[key] == b[key]


def test_plan_prints_a_table_of_the_degrees_asked_for(tmp):
    out, _ = run("plan", checkpoint("qwen2-bias"), "--tp", "2,16", "--gpu-mem", "1G", "--context", "64")
    rows = [line.split() for line in out.splitlines()]
    assert ["TP", "2"] in rows and ["TP", "16"] in rows
    assert "2 of the ranks have no attention heads" in out # 14 heads, 16 ranks
    assert any(r[:1] == ["2"] and "yes" in r for r in rows)
    assert "1.00 GiB of memory a rank, 512.0 MiB of it reserved for the driver\n" in out
    out, _ = run("plan", checkpoint("qwen2-bias"), "--gpu-mem", "1M")
    assert " no " in out and " yes " not in out


def plan_of(*args):
    return json.loads(run("plan", checkpoint("qwen2-bias"), "--json", "--tp", "1", *args)[0])


def test_sizes_are_taken_as_people_type_them(tmp):
    for text, size in {"16G": 16 << 30, "16g": 16 << 30, "16GiB": 16 << 30, "16gib": 16 << 30, "16 GiB": 16 << 30, "16GB": 16 * 10**9,
                       "16 gb": 16 * 10**9, "1.5T": 3 << 39, "0.5 GB": 5 * 10**8, "64K": 1 << 16, "900MB": 9 * 10**8, "123": 123,
                       "123B": 123}.items():
        if size >= 1 << 20:
            assert plan_of("--gpu-mem", text)["gpu_mem"] == size, text
        else:
            assert f'--gpu-mem: "{text}" given, at least 1M' in run("plan", checkpoint("qwen2-bias"), "--gpu-mem", text, status=2)[1]
        run("convert", checkpoint("qwen2-bias"), "--dry-run", "-q", "--mem", text, status=None if size < 1 << 26 else 0)
    for text in ("16GBB", "16Gi", "16 G B", "G", "-1G", "1.G", ".5G", "1.5.5G", "1,5G", "16P", "0", "0G", "0x10G", "16E", "1e9", " 16G",
                 "99999999999G", "1.1234567G", ""):
        for option in ("--gpu-mem", "--mem"):
            _, err = run("plan" if option == "--gpu-mem" else "convert", checkpoint("qwen2-bias"), option, text, status=2)
            assert f'{option}: "{text}" given, a size such as 512M, 16G or 80 GB expected' in err, err


def test_memory_that_does_not_do_is_said_as_it_was_given(tmp):
    for text, size in (("1", 1), ("100K", 102400), ("200 KB", 200000)):
        for threads, words in (("1", "with 1 thread;"), ("2", "with 2 threads;")):
            done = harness.tpshard("convert", DEMO, "-o", tmp + "/b", "--mem", text, "--threads", threads, status=6)
            error_line(done, 6, f"--mem {size}: ", words)


def test_what_is_given_in_place_of_a_bundle_or_a_model_is_named(tmp):
    convert(tmp, None, source=DEMO)
    bundle = tmp + "/bundle"
    for path in (bundle, bundle + "/"):
        error_line(harness.tpshard("convert", path, "-o", tmp + "/x", status=3), 3, path, "is a bundle; tpshard reshard cuts it anew")
    shutil.copytree(DEMO, tmp + "/m")
    write(tmp + "/m/manifest.json", b"{}")  # somebody's own
    run("convert", tmp + "/m", "-o", tmp + "/mb", "--no-selftest", "-q")
    commands = ((harness.tpshard, "inspect"), (harness.tpshard, "reshard", "-o", tmp + "/x", "--tp", "2"), (harness.tpshard, "verify"),
                (harness.tpshard, "export", "-o", tmp + "/x"), (harness.tprun, "generate", "-p", "x"), (harness.tprun, "chat"), (harness.tprun, "render"))
    for program, command, *args in commands:
        error_line(program(command, DEMO, *args, status=3), 3, "of a model's folder tpshard convert makes one")
        if command != "render":  # which takes a file, too
            for path, folder in ((bundle + "/manifest.json", bundle), (DEMO + "/config.json", DEMO)):
                error_line(program(command, path, *args, status=3), 3, f"{path}: is no folder; name the one that it is in: {folder}")
    os.mkdir(tmp + "/none")
    error_line(harness.tprun("chat", tmp + "/none", status=3), 3, "not a bundle")
    # a bundle's name is said without a slash at its end
    os.remove(tmp + "/m/tokenizer_config.json")
    run("convert", tmp + "/m", "-o", tmp + "/plain", "--no-selftest", "-q")
    for command, said in (("chat", ""), ("render", "//")):
        line = error_line(harness.tprun(command, tmp + "/plain//", status=4, input=b"{}\n"), 4, "no chat template")
        assert f"{tmp}/plain{said}: no chat" in line, line


def test_one_of_a_thing_is_one(tmp):
    for tp, words in (("1", "1 rank file, "), ("2", "2 rank files, ")):
        assert words in run("convert", DEMO, "--dry-run", "--tp", tp)[0]
    assert ", 1 position, batch 1" in run("plan", DEMO, "--context", "1")[0]


def test_a_reserve_for_the_driver_is_never_planned(tmp):
    need = plan_of()["degrees"][0]["largest"]["total_bytes"]
    for options in ([], ["--mem-fraction", "1"]):
        for more, fits in ((0, True), (-1, False)):
            found = plan_of("--gpu-mem", str(need + (512 << 20) + more), *options)
            assert found["degrees"][0]["gpu_mem"]["fits"] == fits, (options, more)
            assert found["gpu_mem_reserved"] == 512 << 20
    for options, part in (([], 0.1), (["--mem-fraction", "0.5"], 0.5), (["--mem-fraction", "0.01"], 0.99)):  # as tprun has it
        assert abs(plan_of("--gpu-mem", "80G", *options)["gpu_mem_reserved"] - part * (80 << 30)) < 16
    assert plan_of("--gpu-mem", "100M")["gpu_mem_reserved"] == 100 << 20
    assert plan_of()["gpu_mem_reserved"] == 0
    for bad in ("0", "1.1", "-1", "all", "nan", ""):
        run("plan", checkpoint("qwen2-bias"), "--mem-fraction", bad, status=2)


def test_plan_counts_parameters_in_the_unit_that_fits(tmp):
    config = json.loads(read(os.path.join(checkpoint("qwen2-bias"), "config.json")))
    config.pop("layer_types", None)
    path = os.path.join(tmp, "config.json")
    for vocab, layers, said in ((1000, 1, r"\d\d\d thousand parameters"), (100000, 4, r"\d\d\.\d million parameters"),
                                (1000000, 2, r"\d\d\d million parameters"), (9000000, 2, r"\d\.\d\d billion parameters")):
        write(path, json.dumps({**config, "vocab_size": vocab, "num_hidden_layers": layers}).encode())
        out = run("plan", path, "--tp", "1")[0].splitlines()[1]
        n = json.loads(run("plan", path, "--tp", "1", "--json")[0])["parameters"]
        assert re.match(said, out), (out, n)
        number, unit = out.split()[:2]
        assert abs(float(number) * {"thousand": 1e3, "million": 1e6, "billion": 1e9}[unit] / n - 1) < 0.006, (out, n)


def test_json_has_a_schema_and_the_man_page_every_key(tmp):
    one, two = convert(tmp, "qwen2-bias", out="one"), convert(tmp, "qwen2-bias", "--quant", "int8", "--tp", "2", out="two")
    page = read(os.path.join(harness.ROOT, "docs", "tpshard.1"), "r")
    text = {name: body for name, body in re.findall(r"(?ms)^\.Ss (\w+) Ar [^\n]*\n(.*?)(?=^\.S[sh] )", page)}
    described = {"model", "recipe", "files", "chat_templates", "templates"}  # as in docs/format.md
    for command, args, status in (("plan", (checkpoint("qwen2-bias"), "--gpu-mem", "16G"), 0), ("inspect", (one,), 0),
                                  ("convert", (checkpoint("qwen2-bias"), "--dry-run"), 0), ("diff", (one, two), 8)):
        found = json.loads(run(command, *args, "--json", status=status)[0])
        assert list(found)[0] == "schema" and found["schema"] == 1, command

        def keys(value, at=""):
            if isinstance(value, list):
                return set().union(*(keys(v) for v in value)) if value else set()
            if not isinstance(value, dict):
                return set()
            return set(value) | set().union(*(keys(v) for k, v in value.items() if k not in described), set())
        words = set(re.findall(r"\w+", " ".join(re.findall(r"(?m)^\.(?:It )?Li (.*)$", text[command]))))
        assert keys(found) <= words, f"{command}: {keys(found) - words}"


def test_the_man_page_has_every_error_code_and_its_status_and_is_good_mdoc(tmp):
    header, path = read(os.path.join(harness.ROOT, "format/base/error.h"), "r"), os.path.join(harness.ROOT, "docs", "tpshard.1")
    numbers = dict(re.findall(r"(TP_EXIT_\w+) = (\d+)", header))
    table = [(code, numbers[status]) for code, status in re.findall(r'X\(TP_E_\w+, "(\w+)", (TP_EXIT_\w+)\)', header)]
    page = re.findall(r"(?m)^\.It Li (\w\w\d\d) Pq (\d+)\n[^.]", read(path, "r"))
    assert page == table, set(page) ^ set(table)
    if not shutil.which("mandoc"):
        raise Skip("mandoc is not installed")
    assert not harness.run(["mandoc", "-T", "lint", "-W", "warning", path], None).stdout
    text = re.sub("\N{BACKSPACE}.|.\N{BACKSPACE}", "", harness.run(["mandoc", "-T", "utf8", path]).stdout.decode())
    for command in COMMANDS:
        assert re.search(rf"(?m)^ +tpshard {command}\b", text), command


# ---- inspect ----

def test_inspect_shows_model_ranks_files_and_template(tmp):
    bundle = convert(tmp, "qwen2-bias", "--tp", "3", "--compress", "zstd")
    out, _ = run("inspect", bundle)
    manifest = json.loads(read(os.path.join(bundle, "manifest.json")))
    assert manifest["bundle_id"] in out and "Qwen2ForCausalLM" in out and "tp 3" in out and "zstd" in out
    for f in manifest["files"]:
        assert f["name"] in out and f["hash"] in out
    for r in manifest["ranks"]:
        assert r["file"] in out and str(r["bytes"]) in out
    assert "template   none" not in out
    assert "q_proj" not in out
    out, _ = run("inspect", bundle, "--tensors")
    for r in manifest["ranks"]:
        for t in r["tensors"]:
            assert t["name"] in out and t["hash"] in out
    found = json.loads(run("inspect", bundle, "--json", "--tensors")[0])
    assert found["bundle_id"] == manifest["bundle_id"] and found["model"] == manifest["model"]
    assert found["files"] == manifest["files"] and 0 < found["stored_ratio"] < 1
    assert [r["tensors"] for r in found["ranks"]] == [r["tensors"] for r in manifest["ranks"]]


# ---- verify ----

def test_verify_accepts_what_convert_wrote(tmp):
    for name in ("qwen2-bias", "mqa-bias", "mixed-dtype"):
        for i, options in enumerate((["--tp", "8"], ["--tp", "3", "--compress", "zstd"], ["--quant", "int8"],
                                     ["--quant", "fp8", "--tp", "5", "--compress", "zstd"])):
            bundle = convert(tmp, name, *options, out=f"{name}-{i}")
            out, err = run("verify", bundle)
            assert "GB/s" in out and len(out.splitlines()) == 1 and not err
            run("verify", bundle, "--against", checkpoint(name), "--threads", "1")


def flip_everywhere(tmp, bundle, flips):
    """Flip bytes at sampled positions of all files; verify must refuse every one, naming the file."""
    rng = random.Random(3)
    files = sorted(os.listdir(bundle))
    for i in range(flips):
        name = files[i % len(files)]
        path = os.path.join(bundle, name)
        data = read(path)
        at = rng.randrange(len(data))
        if name.endswith(".tps") and i < 2 * len(files): # what lies between table and data is little
            begin, end = 4096 + struct.unpack("<Q", data[56:64])[0], struct.unpack("<Q", data[80:88])[0]
            at = rng.randrange(begin, end)
        with open(path, "r+b") as f:
            f.seek(at)
            f.write(bytes([data[at] ^ 1 << rng.randrange(8)]))
        p = subprocess.run([TPSHARD, "verify", bundle, "-q"], capture_output=True, text=True, timeout=60)
        assert p.returncode == 7 and name in p.stderr, (name, at, p.returncode, p.stderr)
        if name.endswith(".tps"):
            assert any(word in p.stderr for word in ("header:", "table:", "tensor ", "padding")), p.stderr
        write(path, data)
    run("verify", bundle)


def test_verify_refuses_a_flipped_byte_wherever_it_is(tmp):
    flip_everywhere(tmp, convert(tmp, "qwen2-bias", "--tp", "3"), FLIPS)


def test_verify_refuses_a_flipped_byte_of_a_compressed_bundle(tmp):
    flip_everywhere(tmp, convert(tmp, "mqa-bias", "--tp", "2", "--compress", "zstd", "--quant", "int8"), FLIPS // 2)


def test_verify_refuses_files_missing_cut_appended_to_or_swapped(tmp):
    bundle = convert(tmp, "qwen2-bias", "--tp", "2")
    rank0, rank1 = (os.path.join(bundle, f"rank-00{r}-of-002.tps") for r in (0, 1))
    first, second = read(rank0), read(rank1)
    os.unlink(rank1)
    assert "rank-001-of-002.tps" in run("verify", bundle, status=5)[1]
    for data, status in ((second[:-1], 7), (second[:4095], 7), (second + b"\0", 7), (b"", 7), (first, 8)):
        write(rank1, data)
        assert "rank-001-of-002.tps" in run("verify", bundle, status=status)[1]
    other = convert(tmp, "qwen2-bias", "--tp", "2", "--dtype", "f16", out="other")
    shutil.copy(os.path.join(other, "rank-001-of-002.tps"), rank1)
    assert "bundle" in run("verify", bundle, status=8)[1]
    write(rank1, second)
    os.unlink(os.path.join(bundle, "config.json"))
    assert "config.json" in run("verify", bundle, status=5)[1]


def test_verify_against_names_the_value_that_is_not_the_checkpoints(tmp):
    source = os.path.join(tmp, "source")
    shutil.copytree(checkpoint("qwen2-bias"), source)
    plain = convert(tmp, "qwen2-bias", "--tp", "3", out="plain")
    squeezed = convert(tmp, "qwen2-bias", "--tp", "5", "--compress", "zstd", out="squeezed")
    for name, row in (("model.layers.2.mlp.down_proj.weight", 77), ("model.layers.1.self_attn.o_proj.weight", 5),
                      ("model.layers.0.self_attn.k_proj.weight", 9), ("lm_head.weight", 600),
                      ("model.layers.3.self_attn.q_proj.bias", 100), ("model.norm.weight", 3)):
        before = {p: read(p) for p in glob.glob(os.path.join(source, "*.safetensors"))}
        cols = 1 if name.endswith("bias") or "norm" in name else tensors(source)[name][1][1]
        column = cols * 3 // 4
        alter_value(source, name, row * cols + column)
        for bundle in (plain, squeezed):
            _, err = run("verify", bundle, "--against", source, status=7)
            assert f'"{name}": row {row} column {column}:' in err, err
        for path, data in before.items():
            write(path, data)
    run("verify", plain, "--against", source)


def test_verify_against_compares_config_and_files(tmp):
    source = os.path.join(tmp, "source")
    shutil.copytree(checkpoint("qwen2-bias"), source)
    bundle = convert(tmp, "qwen2-bias")
    path = os.path.join(source, "config.json")
    config = json.loads(read(path))
    before = read(path)
    write(path, json.dumps({**config, "rms_norm_eps": config["rms_norm_eps"] * 2}).encode())
    assert "rms_eps" in run("verify", bundle, "--against", source, status=7)[1]
    write(path, before + b" ")
    assert "config.json" in run("verify", bundle, "--against", source, status=7)[1]
    write(path, before)
    run("verify", bundle, "--against", source)
    os.unlink(os.path.join(source, "generation_config.json"))
    assert "generation_config.json" in run("verify", bundle, "--against", source, status=7)[1]


# ---- diff ----

def test_diff_finds_bundles_of_other_degree_and_compression_equal(tmp):
    one = convert(tmp, "mqa-bias", "--tp", "1", out="one")
    eight = convert(tmp, "mqa-bias", "--tp", "8", "--compress", "zstd", out="eight")
    again = os.path.join(tmp, "again")
    run("reshard", eight, "-o", again, "--tp", "3", "-q")
    for a, b in ((one, eight), (eight, one), (eight, again), (one, one)):
        assert run("diff", a, b)[0].startswith("equal")
    found = json.loads(run("diff", one, eight, "--json")[0])
    assert found == {"schema": 1, "equal": True, "tp_a": 1, "tp_b": 8, "differences": []}


def test_diff_names_tensor_count_and_place_of_a_changed_value(tmp):
    source = os.path.join(tmp, "source")
    shutil.copytree(checkpoint("qwen2-bias"), source)
    name = "model.layers.1.mlp.up_proj.weight"
    cols = tensors(source)[name][1][1]
    one = convert(tmp, "", source=source, out="one")
    alter_value(source, name, 20 * cols + 7)
    alter_value(source, name, 31 * cols + 2)
    two = convert(tmp, "", "--tp", "4", "--compress", "zstd", source=source, out="two")
    out, err = run("diff", one, two, status=8)
    assert f"tensor {name}: 2 of " in out and "first at row 20 column 7" in out, out
    assert len(out.splitlines()) == 2 and "identity bundle_id" in out # the values, and with them the identity
    items = json.loads(run("diff", one, two, "--json", status=8)[0])["differences"]
    item = next(i for i in items if i["kind"] == "tensor")
    assert (item["differing"], item["row"], item["column"]) == (2, 20, 7) and item["largest"] > 0


def test_diff_compares_values_across_dtypes_and_names_recipe_and_model(tmp):
    plain = convert(tmp, "qwen2-bias", out="plain")
    wide = convert(tmp, "qwen2-bias", "--dtype", "f32", "--tp", "3", out="wide")
    int8 = convert(tmp, "qwen2-bias", "--quant", "int8", out="int8")
    other = convert(tmp, "mqa-bias", out="other")
    out, _ = run("diff", plain, wide, status=8) # bf16 values stand for themselves in f32
    assert "recipe dtype: bf16 and f32" in out and "tensor " not in out, out
    out, _ = run("diff", plain, int8, status=8)
    assert "recipe quant: none and int8" in out and "q_proj.weight: " in out and "embed_tokens" not in out
    out, _ = run("diff", plain, other, status=8)
    assert "model n_heads: 14 and 7" in out and "shape " in out and "file tokenizer.json" not in out


# ---- export ----

def test_export_gives_back_every_float_checkpoint_bit_for_bit(tmp):
    found = float_checkpoints()
    if not found:
        raise Skip("no checkpoints")
    for name, model in found:
        for i, options in enumerate((["--tp", "1"], ["--tp", "7", "--compress", "zstd"])):
            bundle = convert(tmp, name, *options, out=f"{name}-{i}", source=model)
            out = os.path.join(tmp, f"{name}-{i}-export")
            run("export", bundle, "-o", out, "-q", "--threads", str(1 + i))
            assert tensors(out) == tensors(model), name
            for f in ("config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json"):
                assert read(os.path.join(out, f)) == read(os.path.join(model, f)), (name, f)
            assert not [f for f in os.listdir(out) if f.startswith(".") or f.endswith((".tpt", ".partial"))]


def test_an_export_converts_to_the_same_bundle(tmp):
    bundle = convert(tmp, "qwen3-norm", "--tp", "3")
    run("export", bundle, "-o", os.path.join(tmp, "export"), "-q")
    again = convert(tmp, "", "--tp", "3", source=os.path.join(tmp, "export"), out="again")
    for name in sorted(os.listdir(bundle)):
        assert read(os.path.join(bundle, name)) == read(os.path.join(again, name)), name


def test_export_of_another_dtype_says_so_in_config_json(tmp):
    bundle = convert(tmp, "qwen2-bias", "--dtype", "f16", "--tp", "2")
    out = os.path.join(tmp, "export")
    run("export", bundle, "-o", out)
    before = json.loads(read(os.path.join(checkpoint("qwen2-bias"), "config.json")))
    after = json.loads(read(os.path.join(out, "config.json")))
    key = "dtype" if "dtype" in before else "torch_dtype"
    assert after[key] == "float16" and list(after) == list(before)
    assert {**after, key: before[key]} == before
    assert {t[0] for t in tensors(out).values()} == {"F16"}


def test_export_of_quantized_weights_is_near_and_says_that_it_is_rounded(tmp):
    source = tensors(checkpoint("qwen2-bias"))
    for quant, most in (("int8", 0.02), ("fp8", 0.08)):
        bundle = convert(tmp, "qwen2-bias", "--quant", quant, "--tp", "3", out=quant)
        out = os.path.join(tmp, f"{quant}-export")
        _, err = run("export", bundle, "-o", out)
        assert "rounded" in err
        found = tensors(out)
        assert found.keys() == source.keys()
        for name, (dtype, shape, data) in found.items():
            if not any(part in name for part in ("q_proj.weight", "down_proj.weight")):
                if "proj.weight" not in name:
                    assert (dtype, shape, data) == source[name], name
                continue
            a, b = ([struct.unpack("<f", b"\0\0" + d[i:i + 2])[0] for i in range(0, len(d), 2)]
                    for d in (data, source[name][2]))
            error = sum((x - y) ** 2 for x, y in zip(a, b)) / sum(y * y for y in b)
            assert 0 < error ** 0.5 < most, (name, error ** 0.5)


def test_export_does_not_touch_what_is_there(tmp):
    bundle = convert(tmp, "qwen2-bias")
    out = os.path.join(tmp, "out")
    os.mkdir(out)
    run("export", bundle, "-o", out, "-q") # empty: taken
    before = {f: read(os.path.join(out, f)) for f in os.listdir(out)}
    run("export", bundle, "-o", out, status=2)
    assert before == {f: read(os.path.join(out, f)) for f in os.listdir(out)}
    run("export", bundle, "-o", os.path.join(out, "config.json"), status=2)
    foreign = os.path.join(tmp, "new.partial")
    os.mkdir(foreign)
    write(os.path.join(foreign, "model.safetensors"), b"mine")
    run("export", bundle, "-o", os.path.join(tmp, "new"), status=5)
    assert read(os.path.join(foreign, "model.safetensors")) == b"mine"
    assert not os.path.exists(os.path.join(tmp, "new"))


def test_export_killed_at_any_call_is_finished_by_the_same_command(tmp):
    bundle = convert(tmp, "qwen2-bias", "--tp", "2")
    out = os.path.join(tmp, "out")
    _, err = run("export", bundle, "-o", out, "-q", env={"TP_FAULT": "count"})
    calls = int(err.split("io calls: ")[1].split()[0])
    want = {f: read(os.path.join(out, f)) for f in os.listdir(out)}
    for k in range(1, calls + 1, max(1, calls // 40)):
        shutil.rmtree(out, ignore_errors=True)
        shutil.rmtree(out + ".partial", ignore_errors=True)
        run("export", bundle, "-o", out, "-q", status=-9, env={"TP_FAULT": f"kill:{k}"})
        if not os.path.exists(out): # else what is left to do is to remove the marker
            run("export", bundle, "-o", out, "-q")
            assert want == {f: read(os.path.join(out, f)) for f in os.listdir(out)}, k
        assert want.items() <= {f: read(os.path.join(out, f)) for f in os.listdir(out)}.items()
        assert not os.path.exists(out + ".partial")


def test_export_of_a_damaged_bundle_fails_and_publishes_nothing(tmp):
    bundle = convert(tmp, "qwen2-bias")
    path = os.path.join(bundle, "rank-000-of-001.tps")
    data = bytearray(read(path))
    data[len(data) // 2] ^= 1
    write(path, data)
    assert "rank-000-of-001.tps" in run("export", bundle, "-o", os.path.join(tmp, "out"), status=7)[1]
    assert not os.path.exists(os.path.join(tmp, "out"))
    run("export", convert(tmp, "qwen2-bias", out="b"), "-o", os.path.join(tmp, "c"), "--mem", "1K", status=6)


# ---- tokenizer ----

def test_tokenizer_is_the_one_of_the_bundle(tmp):
    bundle = convert(tmp, "qwen2-bias")
    out = os.path.join(tmp, "alone.tpt")
    run("tokenizer", checkpoint("qwen2-bias"), "-o", out)
    assert read(out) == read(os.path.join(bundle, "tokenizer.tpt"))
    run("tokenizer", tmp, "-o", out, status=None)
    assert read(out) == read(os.path.join(bundle, "tokenizer.tpt")) # no tokenizer.json there: nothing replaced


harness.main(globals())
