"""What is stored: by an independent reader, by every flipped byte, by mixed and missing rank files."""
import concurrent.futures
import ctypes
import fractions
import functools
import json
import math
import os
import random
import shutil
import struct
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))
import harness
import numerics_model
import read_bundle
from harness import Folder, checkpoint, convert, error_line, tiny_model, tprun, tpshard
from seal import bundle_id, json_text, xxh3

CODES = {"F32": 1, "F16": 2, "BF16": 3}


def safetensors(folder):
    """name -> (dtype, shape, bytes) of a model folder"""
    found = {}
    for f in sorted(os.listdir(folder)):
        if f.endswith(".safetensors"):
            data = open(os.path.join(folder, f), "rb").read()
            n = struct.unpack_from("<Q", data)[0]
            for name, t in json.loads(data[8:8 + n]).items():
                if name != "__metadata__":
                    a, b = t["data_offsets"]
                    found[name] = (t["dtype"], t["shape"], data[8 + n + a:8 + n + b])
    return found


def test_a_reader_written_from_the_document_finds_the_checkpoint():
    for name, tp in (("qwen3-norm", 3), ("qwen2-bias", 5), ("mqa-bias", 16), ("yarn", 1)):
        model = checkpoint(name)
        with Folder() as d:
            convert(model, d + "/b", "--tp", tp)
            stored, source = read_bundle.tensors(d + "/b"), safetensors(model)
            assert set(stored) == set(source), set(stored) ^ set(source)
            for tensor, (dtype, shape, raw) in source.items():
                code, rows = stored[tensor]
                assert code == CODES[dtype], tensor
                if len(shape) == 1:  # vectors are stored widened
                    raw = struct.pack(f"<{shape[0]}f", *numbers(dtype, raw))
                assert b"".join(rows) == raw, f"{name} tp {tp}: {tensor}"


def numbers(dtype, raw):
    if dtype == "BF16":
        return [struct.unpack("<f", b"\0\0" + raw[j:j + 2])[0] for j in range(0, len(raw), 2)]
    return struct.unpack(f"<{len(raw) // 4}f" if dtype == "F32" else f"<{len(raw) // 2}e", raw)


# ---- int4 ----

def quantized(tensor):
    return tensor.endswith("_proj.weight")


def convert_int4(model, bundle, name, tp, *args):
    """The stored tensors, and what the manifest says of them is true."""
    group, offset = numerics_model.INT4[name]
    convert(model, bundle, "--tp", tp, "--quant", "int4", "--group", group, "--offset", offset, *args)
    manifest, stored = json.load(open(bundle + "/manifest.json")), read_bundle.tensors(bundle)
    ids = dict(zip(["f32", "f16", "bf16", "int8", "fp8", *numerics_model.INT4], range(1, 15)))
    assert manifest["version"] == 2 and "quant" not in manifest["recipe"]
    assert manifest["recipe"]["stored"] == {m + "_proj": name for m in ("q", "k", "v", "o", "gate", "up", "down")}
    for rank in manifest["ranks"]:
        for t in rank["tensors"]:
            assert ids[t["dtype"]] == stored[t["name"]][0] and (t["dtype"] == name) == quantized(t["name"]), t
    return stored


def bf16_bits(x):
    return struct.unpack("<I", struct.pack("<f", x))[0] >> 16


def int4_rows(shape, values, name):
    """Of every row (code, scale, offset) of each column, as section 7 of numerics.md says and format.md stores them."""
    (group, kind), rows = numerics_model.INT4[name], []
    for r in range(shape[0]):
        row = []
        for at in range(0, shape[1], group):
            codes, scale, offset = numerics_model.int4(values[r * shape[1] + at:r * shape[1] + min(at + group, shape[1])], kind)
            offset = {"none": 0, "zero": offset, "min": bf16_bits(offset)}[kind]
            row += [(code, bf16_bits(scale), offset) for code in codes]
        rows.append(row)
    return rows


def check_int4(model, name, degrees, what):
    source = safetensors(model)
    want = {t: int4_rows(shape, numbers(dtype, raw), name) for t, (dtype, shape, raw) in source.items() if quantized(t)}
    for tp in degrees:
        with Folder() as d:
            stored = convert_int4(model, d + "/b", name, tp)
            assert set(stored) == set(source), set(stored) ^ set(source)
            for tensor, rows in want.items():
                for r, (found, row) in enumerate(zip(stored[tensor][1], rows)):
                    different = [(c, f, w) for c, (f, w) in enumerate(zip(found, row)) if f != w]
                    assert not different, f"{what} {name} tp {tp}: {tensor} row {r}: column, found, wanted: {different[:3]}"
                assert len(stored[tensor][1]) == len(rows)


LEAST, MOST = 2.0 ** -100, float.fromhex("0x1.fffffep+127")


def strange(rng, n, top):
    """n values of which a group may be a part: every case that section 7 names, ties, the ends of f32 (else of f16)."""
    g, one = rng.gauss, rng.choice((-1, 1)) * 2.0 ** rng.randrange(-20, 11)
    kinds = [
        lambda: g(0, 1),
        lambda: g(0, 1) * one,
        lambda: rng.choice((0.0, -0.0)),
        lambda: rng.choice((0.0, 2.0 ** -149, -2.0 ** -126, LEAST * 0.9999999, -LEAST * 0.9)),
        lambda: rng.choice((LEAST, -LEAST, LEAST * 0.9999999, LEAST * 1.0000002, 0.0)),
        lambda: rng.choice((0.0, LEAST, 15 * LEAST, 15 * LEAST * (1 + 2.0 ** -9), LEAST * 15.01)),
        lambda: rng.choice((-LEAST * 8, LEAST * 7, LEAST * 3.5)),
        lambda: one * 1.2345678,                                   # all the same
        lambda: one * (1 + rng.random()),                          # of one sign
        lambda: one * (1 + g(0, 1e-4)),                            # far from zero, close together
        lambda: one * rng.choice((-8, 7, 8, *(k + 0.5 for k in range(-8, 8)))),
        lambda: one * rng.choice((0, 15, *(k + 0.5 for k in range(15)))),
        lambda: one * rng.choice((-15, 0, *(-k - 0.5 for k in range(15)))),
        lambda: one * rng.choice((-1, 1)),                         # -lo = hi
        lambda: one * rng.choice((1 + 2.0 ** -8, 1 + 3 * 2.0 ** -8, -0.5, 0.3)),  # halfway between two of bf16
        lambda: g(0, 1) * 2.0 ** rng.randrange(-110, 10),
        lambda: g(0, 1e-6),
    ]
    if top:
        kinds += [lambda: rng.choice((-1, 1)) * top * rng.random(), lambda: rng.choice((top, -top, 1e37, 0.0)), lambda: top,
                  lambda: -top * (1 - rng.random() * 1e-3)]
    kind = rng.choice(kinds)
    return [kind() for _ in range(n)]


def strange_model(folder, top, **changes):
    """A tiny model whose matrices hold strange values: whole rows of one kind, and runs of 32 columns."""
    tiny_model(folder, torch_dtype="float32", **changes)
    path, rng = folder + "/model.safetensors", random.Random(7)
    data = open(path, "rb").read()
    body = 8 + struct.unpack_from("<Q", data)[0]
    parts = [data[:body]]
    for name, t in json.loads(data[8:body]).items():
        a, b = t["data_offsets"]
        if quantized(name):
            rows, cols = t["shape"]
            for _ in range(rows):
                run = rng.choice((32, cols))
                row = [v for at in range(0, cols, run) for v in strange(rng, min(run, cols - at), top)]
                parts.append(struct.pack(f"<{cols}f", *row))
        else:
            parts.append(data[body + a:body + b])
    with open(path, "wb") as f:
        f.write(b"".join(parts))


def heads(n, head_dim, **more):
    return dict(num_attention_heads=n, num_key_value_heads=1, head_dim=head_dim, **more)


SHAPES = {
    "a leaf at every even place of a group": heads(64, 6),
    "two heads to a leaf, leaves of one and two units": heads(67, 10, intermediate_size=1601),
    "heads of 80": heads(3, 80, hidden_size=150, intermediate_size=77),
    "heads of 48": heads(5, 48, hidden_size=40, intermediate_size=300),
}
DEGREES = (1, 2, 3, 5, 7, 8)


def test_int4_codes_and_constants_are_those_of_the_document():
    """Every column's code, and with it the constants of the whole group, on whichever side of a cut it lies."""
    for what, changes in SHAPES.items():
        with Folder() as d:
            strange_model(d + "/m", MOST, **changes)
            for name in numerics_model.INT4:
                check_int4(d + "/m", name, DEGREES[::harness.SHARE], what)


def test_int4_codes_and_constants_of_checkpoints():
    recipes = list(numerics_model.INT4)
    for i, name in enumerate(("llama3-rope", "qwen2-bias", "qwen3-norm", "mixed-dtype")):  # bf16, f32, f16, several
        check_int4(checkpoint(name), recipes[4 * i % 9], (1 + 3 * i,), name)


SIGNIFICANT = {"f32": (24, -149), "bf16": (8, -133), "f16": (11, -24)}  # bits, exponent of the least number


@functools.lru_cache(None)
def meaning(code, scale, offset, kind, dtype):
    """The number of dtype that is nearest to what a code means, ties to even."""
    scale, minimum = (fractions.Fraction(struct.unpack("<f", struct.pack("<I", v << 16))[0]) for v in (scale, offset))
    exact = {"none": (code - 8) * scale, "zero": (code - offset) * scale, "min": code * scale + minimum}[kind]
    bits, least = SIGNIFICANT[dtype]
    step = fractions.Fraction(2) ** max(math.frexp(exact)[1] - bits, least)
    return float(round(exact / step) * step)


def test_an_exported_int4_value_is_the_nearest_to_what_its_code_means():
    """To f32 with values near its end, too; what codes mean beyond it is refused."""
    with Folder() as d:
        for top, dtypes in ((0, SIGNIFICANT), (0.9 * MOST, ["f32"])):
            model = f"{d}/m-{top}"
            strange_model(model, top, **heads(5, 24, hidden_size=40, intermediate_size=77))
            source = safetensors(model)
            for name, (_, kind) in numerics_model.INT4.items():
                for dtype in dtypes:
                    check_export(model, f"{model}-{name}-{dtype}", name, kind, dtype, source)


def check_export(model, bundle, name, kind, dtype, source):
    stored = convert_int4(model, bundle, name, 3, "--dtype", dtype)
    tpshard("export", bundle, "-o", bundle + "-export", "-q")
    exported = safetensors(bundle + "-export")
    assert set(exported) == set(source), set(exported) ^ set(source)
    for tensor, (found, shape, raw) in exported.items():
        assert (found, shape) == (dtype.upper(), source[tensor][1]), tensor
        if quantized(tensor):
            columns, got = [column for row in stored[tensor][1] for column in row], numbers(found, raw)
            want = [meaning(*column, kind, dtype) for column in columns]
            wrong = [(c, w, v) for c, w, v in zip(columns, want, got) if w != v]
            assert not wrong and len(got) == len(columns), f"{bundle}: {tensor}: column, wanted, found: {wrong[:3]}"


# ---- identity ----

def test_the_bundle_id_and_the_prompts_of_the_selftest_are_those_of_the_document():
    for name, args in (("yarn", ()), ("llama3-rope", ("--tp", "3", "--quant", "int4", "--compress", "zstd")), ("mixed-dtype", ("--quant", "int8"))):
        with Folder() as d:
            convert(checkpoint(name), d + "/b", *args, selftest=True)
            text = open(d + "/b/manifest.json", "rb").read()
            m = json.loads(text)
            at = text.rindex(b'"digest": "') + len(b'"digest": "')
            assert xxh3(text[:at]) == m["digest"] and text[at:] == m["digest"].encode() + b'"\n}\n'
            assert bundle_id(m) == m["bundle_id"], name
            assert json_text(m) + "\n" == text.decode(), name
            state = 1
            for prompt in json.load(open(d + "/b/selftest.json"))["prompts"]:
                for found in prompt["prompt_ids"]:
                    state = (state * 6364136223846793005 + 1442695040888963407) % 2 ** 64
                    assert found == (state >> 33) % m["model"]["vocab"]
                assert len(prompt["layers"]) == m["model"]["n_layers"] + 1 and len(prompt["positions"]) == len(prompt["prompt_ids"])


# ---- damage ----

def refused(done, *names):
    line = error_line(done, done.returncode, *names)
    assert done.returncode in (3, 7, 8), line
    return line


def flip(path, at, bit):
    with open(path, "r+b") as f:
        f.seek(at)
        old = f.read(1)[0]
        f.seek(at)
        f.write(bytes([old ^ 1 << bit]))
    return old


def flip_and_check(bundle, path, at, bit, programs):
    name = os.path.basename(path)
    old = flip(path, at, bit)
    try:
        for program in programs:
            line = refused(program(bundle), name)
            assert any(w in line for w in ("tensor", "header", "table", "padding", "hash", "digest", "manifest")), line
    finally:
        with open(path, "r+b") as f:
            f.seek(at)
            f.write(bytes([old]))


def verify(bundle):
    return tpshard("verify", bundle, status=None)


def generate(bundle):
    return tprun("generate", bundle, "--prompt-ids", "1", "-n", "1", "--ids", "-q", status=None)


def test_every_flipped_byte_is_refused_by_verify_and_tprun():
    """A small bundle: every byte of every file; the bit that is flipped and the program that must refuse it go round."""
    with Folder() as d:
        tiny_model(d + "/m")
        convert(d + "/m", d + "/b", "--tp", "2", selftest=True)
        tpshard("verify", d + "/b")
        generate(d + "/b").check_returncode()
        shutil.copytree(d + "/b", d + "/c")
        places = [(name, at) for name in sorted(os.listdir(d + "/b")) for at in range(0, os.path.getsize(f"{d}/b/{name}"), harness.SHARE)]
        with concurrent.futures.ProcessPoolExecutor(2) as pool:  # two copies, for two processors
            halves = pool.map(flip_all, (d + "/b", d + "/c"), (places[::2], places[1::2]))
            print(f"    {sum(halves)} flips, each refused")


def flip_all(bundle, places):
    for name, at in places:
        programs = (verify, generate) if os.environ.get("TIER") == "long" else ((verify, generate)[at // 8 % 2],)
        flip_and_check(bundle, os.path.join(bundle, name), at, at % 8, programs)
    return len(places)


def test_sampled_flips_of_larger_bundles_are_refused():
    rng = random.Random(5)
    for name, args in (("mqa-bias", ("--tp", "3")), ("qwen2-bias", ("--tp", "3", "--compress", "zstd", "--quant", "int8")),
                       ("llama3-rope", ("--tp", "5", "--quant", "int4", "--group", "64", "--offset", "min"))):
        with Folder() as d:
            convert(checkpoint(name), d + "/b", *args)
            for _ in range(160 // harness.SHARE):
                path = os.path.join(d, "b", rng.choice(sorted(os.listdir(d + "/b"))))
                flip_and_check(d + "/b", path, rng.randrange(os.path.getsize(path)), rng.randrange(8), (verify, generate))


def test_pages_of_zeros_and_holes_in_the_data_are_refused():
    """A write that was lost, and a hole that was punched, wherever a page of data is."""
    libc = ctypes.CDLL(None, use_errno=True)
    holes = 0
    with Folder() as d:
        convert(checkpoint("yarn"), d + "/b", "--tp", "2")
        path = d + "/b/rank-001-of-002.tps"
        whole = open(path, "rb").read()
        data, = struct.unpack_from("<Q", whole, 80)
        pages = [at for at in range(data, len(whole), 4096) if any(whole[at:at + 4096])]
        for i, at in enumerate(random.Random(7).sample(pages, min(len(pages), 48 // min(harness.SHARE, 8)))):
            with open(path, "r+b") as f:
                if i % 2 and libc.fallocate(f.fileno(), 3, ctypes.c_long(at), ctypes.c_long(4096)) == 0:  # keep size, punch hole
                    holes += 1
                else:
                    f.seek(at)
                    f.write(bytes(min(4096, len(whole) - at)))
            for program in (verify, generate):
                error_line(program(d + "/b"), 7, "rank-001-of-002.tps", "hash")
            with open(path, "r+b") as f:
                f.write(whole)
        verify(d + "/b").check_returncode()
    print(f"    {holes} of them holes")


def test_a_chunk_of_another_layer_is_refused():
    """Both are whole, and lie in each other's place: each is bound to its own."""
    with Folder() as d:
        convert(checkpoint("yarn"), d + "/b", "--tp", "2")
        path = d + "/b/rank-000-of-002.tps"
        whole, chunks, swapped = open(path, "rb").read(), read_bundle.chunks_of(path), 0
        for (role, layer, part), mine in chunks.items():
            for (a, n), (b, m) in zip(mine, chunks.get((role, layer + 1, part), ())):
                other = bytearray(whole)
                other[a:a + n], other[b:b + m] = whole[b:b + m], whole[a:a + n]
                if n != m or other == whole:  # norms may be the same
                    continue
                swapped += 1
                with open(path, "r+b") as f:
                    f.write(other)
                for program in (verify, generate):
                    assert f"layers.{layer}." in error_line(program(d + "/b"), 7, "rank-000-of-002.tps", "tensor", "hash")
        assert swapped > 6, swapped
    print(f"    {swapped} pairs of chunks")


def copy_rank(source, target, name, as_name=None):
    shutil.copy(os.path.join(source, name), os.path.join(target, as_name or name))


def test_mixed_missing_and_truncated_rank_files_are_refused():
    a, b = checkpoint("yarn"), checkpoint("mixed-dtype")
    with Folder() as d:
        convert(a, d + "/a", "--tp", "3")
        convert(b, d + "/other-input", "--tp", "3")
        convert(a, d + "/other-options", "--tp", "3", "--quant", "int8")
        convert(a, d + "/other-degree", "--tp", "2")
        one, two = "rank-001-of-003.tps", "rank-002-of-003.tps"
        cases = {
            "another input": (lambda t: copy_rank(d + "/other-input", t, one), 8, one),
            "other options": (lambda t: copy_rank(d + "/other-options", t, one), 8, one),
            "another degree": (lambda t: copy_rank(d + "/other-degree", t, "rank-001-of-002.tps", one), 8, one),
            "ranks swapped": (lambda t: copy_rank(d + "/a", t, two, one), 8, one),
            "missing": (lambda t: os.remove(os.path.join(t, one)), 5, one),
            "truncated": (lambda t: os.truncate(os.path.join(t, one), 5000), 7, one),
            "cut by one byte": (lambda t: os.truncate(os.path.join(t, one), os.path.getsize(os.path.join(t, one)) - 1), 7, one),
            "empty": (lambda t: os.truncate(os.path.join(t, one), 0), 7, one),
            "appended": (lambda t: open(os.path.join(t, one), "ab").write(b"x"), 7, one),
            "no manifest": (lambda t: os.remove(os.path.join(t, "manifest.json")), 3, "manifest.json"),
            "foreign manifest": (lambda t: copy_rank(d + "/other-input", t, "manifest.json"), 8, "rank-000"),
        }
        for what, (damage, status, name) in cases.items():
            target = os.path.join(d, "t")
            shutil.copytree(d + "/a", target)
            damage(target)
            for program in (verify, generate):
                try:
                    error_line(program(target), status, name)
                except AssertionError as why:
                    raise AssertionError(f"{what}, {program.__name__}: {why}")
            shutil.rmtree(target)


def test_an_unfinished_conversion_is_no_bundle():
    with Folder() as d:
        convert(checkpoint("yarn"), d + "/b", status=-9, env=dict(os.environ, TP_FAULT="kill:60"))
        error_line(generate(d + "/b.partial"), 3, "manifest.json")
        error_line(generate(d + "/nowhere"), 5, "nowhere")


harness.main(globals())
