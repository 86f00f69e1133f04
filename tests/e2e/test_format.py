"""What is stored: by an independent reader, by every flipped byte, by mixed and missing rank files."""
import concurrent.futures
import json
import os
import random
import shutil
import struct
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))
import harness
import read_bundle
from harness import Folder, checkpoint, convert, error_line, tiny_model, tprun, tpshard

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
                found = b"".join(bytes(r) for r in rows)
                if len(shape) == 1 and dtype != "F32":  # vectors are stored widened
                    wide = struct.unpack(f"<{len(raw) // 2}{'e' if dtype == 'F16' else 'H'}", raw)
                    raw = b"".join(struct.pack("<f", v) if dtype == "F16" else struct.pack("<I", v << 16) for v in wide)
                assert found == raw, f"{name} tp {tp}: {tensor}"


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
    """A bundle of some ten kilobytes: every byte of every file; the bit that is flipped goes round."""
    with Folder() as d:
        tiny_model(d + "/m")
        convert(d + "/m", d + "/b", "--tp", "2", selftest=True)
        tpshard("verify", d + "/b")
        generate(d + "/b").check_returncode()
        shutil.copytree(d + "/b", d + "/c")
        places = [(name, at) for name in sorted(os.listdir(d + "/b")) for at in range(0, os.path.getsize(f"{d}/b/{name}"), harness.SHARE)]
        with concurrent.futures.ProcessPoolExecutor(2) as pool:  # two copies, for two processors
            halves = pool.map(flip_all, (d + "/b", d + "/c"), (places[::2], places[1::2]))
            print(f"    {sum(halves)} flips, each refused by both programs")


def flip_all(bundle, places):
    for name, at in places:
        flip_and_check(bundle, os.path.join(bundle, name), at, at % 8, (verify, generate))
    return len(places)


def test_sampled_flips_of_larger_bundles_are_refused():
    rng = random.Random(5)
    for name, args in (("mqa-bias", ("--tp", "3")), ("qwen2-bias", ("--tp", "3", "--compress", "zstd", "--quant", "int8"))):
        with Folder() as d:
            convert(checkpoint(name), d + "/b", *args)
            for _ in range(160 // harness.SHARE):
                path = os.path.join(d, "b", rng.choice(sorted(os.listdir(d + "/b"))))
                flip_and_check(d + "/b", path, rng.randrange(os.path.getsize(path)), rng.randrange(8), (verify, generate))


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
