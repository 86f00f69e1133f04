"""Bundles forged with care: every hash, digest and size around the lie is made anew, and it is refused all the same."""
import ctypes
import json
import os
import shutil
import struct
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))
import harness
import seal
from harness import Folder, convert, error_line, opened, tiny_model, tprun, tpshard

HEADER, TENSOR, CHUNK = 4096, 128, 64
NAMES = ["rank-000-of-002.tps", "rank-001-of-002.tps"]


XXHASH = ctypes.CDLL("libxxhash.so.0")
XXHASH.XXH64.restype, XXHASH.XXH64.argtypes = ctypes.c_uint64, (ctypes.c_char_p, ctypes.c_size_t, ctypes.c_uint64)


def xxh3(data):
    return bytes.fromhex(seal.xxh3(bytes(data)))


def some(cases):
    """All of them, or a sample where there is less time"""
    return list(cases.items())[::4 if harness.SHARE > 1 else 1]


def write(path, data):
    with open(path, "wb") as f:
        f.write(data)


# ---- forging ----

def seal_manifest(folder, manifest):
    """With a digest that is right; numbers and names may be anything."""
    manifest.pop("digest", None)
    text = json.dumps(manifest, indent=1)[:-2].encode() + b',\n "digest": "'
    write(folder + "/manifest.json", text + xxh3(text).hex().encode() + b'"\n}\n')


def forge_manifest(folder, change):
    manifest = json.load(open(folder + "/manifest.json"))
    change(manifest)
    seal_manifest(folder, manifest)


def seal_rank(folder, rank, data):
    """A rank file with the hashes of its table and header, and the manifest's of it."""
    table = struct.unpack_from("<Q", data, 56)[0]
    data[64:80] = xxh3(data[HEADER:HEADER + table])
    data[4080:4096] = xxh3(data[:4080])
    write(f"{folder}/{NAMES[rank]}", data)

    def change(manifest):
        manifest["ranks"][rank].update(header_hash=xxh3(data[:HEADER]).hex(), bytes=len(data))
    forge_manifest(folder, change)


def forge_rank(folder, rank, *changes):
    """changes: (offset in the file, bytes) of header and table"""
    data = bytearray(open(f"{folder}/{NAMES[rank]}", "rb").read())
    for at, put in changes:
        data[at:at + len(put)] = put
    seal_rank(folder, rank, data)


class Forge(Folder):
    """A bundle of two ranks of a tiny model, and a copy of it to be forged."""

    def __init__(self, *args):
        self.args = args

    def __enter__(self):
        self.dir = super().__enter__()
        self.good, self.bundle = self.dir + "/good", self.dir + "/b"
        tiny_model(self.dir + "/m")
        convert(self.dir + "/m", self.good, "--tp", "2", *self.args)
        return self

    def again(self):
        shutil.rmtree(self.bundle, ignore_errors=True)
        shutil.copytree(self.good, self.bundle)

    def run(self, writers=True):
        """Every program that reads a bundle; those that write take longer"""
        yield "verify", tpshard("verify", self.bundle, status=None)
        yield "generate", tprun("generate", self.bundle, "--prompt-ids", "1", "-n", "1", "--ids", "-q", status=None)
        for args in (("reshard", "--tp", "3"), ("export",)) if writers else ():
            yield args[0], tpshard(args[0], self.bundle, "-o", f"{self.dir}/{args[0]}", "-q", "--force", "--restart", *args[1:], status=None)

    def accepted(self):
        for program, done in self.run():
            assert done.returncode == 0, f"{program}: {done.stderr.decode()}"
            shutil.rmtree(f"{self.dir}/{program}", ignore_errors=True)

    def refused(self, what, status, *names, writers=False):
        for program, done in self.run(writers):
            try:
                error_line(done, status, *names)
                assert not os.path.exists(f"{self.dir}/{program}"), "it was published"
            except AssertionError as why:
                raise AssertionError(f"{what}, {program}: {why}")


def test_a_bundle_that_is_sealed_anew_is_accepted():
    for args in ((), ("--compress", "zstd")):
        with Forge(*args) as f:
            f.again()
            for rank in (0, 1):
                forge_rank(f.bundle, rank)
            f.accepted()


# ---- frames ----

def planes(raw, element):
    return b"".join(raw[i::element] for i in range(element))


def blocks(raw, size=1 << 17):
    """Raw blocks of RFC 8878"""
    parts = [raw[i:i + size] for i in range(0, len(raw), size)]
    return b"".join(struct.pack("<I", (len(p) << 3) | (i == len(parts) - 1))[:3] + p for i, p in enumerate(parts))


def frame(raw, content=None, size_flag=3, window=None, dictionary=None, bits=0, body=None, magic=0xfd2fb528):
    """window None: a single segment; size_flag 3: a content size of 8 bytes"""
    content = len(raw) if content is None else content
    descriptor = size_flag << 6 | (window is None) << 5 | bits | (0 if dictionary is None else 1)
    head = struct.pack("<IB", magic, descriptor) + (b"" if window is None else bytes([window])) + (b"" if dictionary is None else bytes([dictionary]))
    sizes = {3: lambda: struct.pack("<Q", content), 2: lambda: struct.pack("<I", content), 1: lambda: struct.pack("<H", content - 256),
             0: lambda: struct.pack("<B", content) if window is None else b""}
    return head + sizes[size_flag]() + (blocks(raw) if body is None else body)


def skippable(n):
    return struct.pack("<II", 0x184d2a53, n) + bytes(n)


def put_frame(folder, rank, chunk, new):
    """Another frame in a chunk's place: table, header, sizes and hashes say so."""
    data = bytearray(open(f"{folder}/{NAMES[rank]}", "rb").read())
    tensors, chunks = struct.unpack_from("<II", data, 40)
    begin, at, area = struct.unpack_from("<Q", data, 80)[0], 0, b""
    for i in range(chunks):
        entry = HEADER + TENSOR * tensors + CHUNK * i
        old, n = struct.unpack_from("<QQ", data, entry + 32)
        piece = new if i == chunk else bytes(data[begin + old:begin + old + n])
        data[entry + 16:entry + 32] = xxh3(piece)
        struct.pack_into("<QQ", data, entry + 32, at, len(piece))
        area, at = area + piece, at + len(piece)
    data[begin:] = area + bytes(-len(area) % 4096)
    struct.pack_into("<Q", data, 88, len(data) - begin)
    struct.pack_into("<Q", data, 104, len(data))
    seal_rank(folder, rank, data)


def raw_chunk(folder, rank, chunk):
    """(tensor's name, raw bytes) of a chunk of a bundle that is not compressed"""
    data = open(f"{folder}/{NAMES[rank]}", "rb").read()
    tensors = struct.unpack_from("<I", data, 40)[0]
    entry = HEADER + TENSOR * tensors + CHUNK * chunk
    at, n = struct.unpack_from("<QQ", data, entry + 32)
    begin = struct.unpack_from("<Q", data, 80)[0]
    tensor = struct.unpack_from("<I", data, entry + 56)[0]
    return json.load(open(folder + "/manifest.json"))["ranks"][rank]["tensors"][tensor]["name"], data[begin + at:begin + at + n]


def test_only_the_one_plain_frame_of_the_document_is_decoded():
    with Forge("--compress", "zstd") as f:
        convert(f.dir + "/m", f.dir + "/raw", "--tp", "2")
        name, raw = raw_chunk(f.dir + "/raw", 1, 2)
        assert name.endswith("q_proj.weight"), name
        raw = planes(raw, 2)
        n, good = len(raw), frame(raw)
        assert n == 1024, n
        half = frame(raw[:512]) + frame(raw[512:])
        same = bytes([raw[0]])
        rle = struct.pack("<I", (1 << 20) - 1 << 3 | 2)[:3]  # a block that is a byte, a million times
        full = struct.pack("<I", (128 << 10) << 3 | 2)[:3] + same
        checksum = struct.pack("<I", XXHASH.XXH64(raw, n, 0) & 0xffffffff)
        # 13 << 3: a window of 2^23 bytes, and an eighth more with the lowest bit
        accepted = {"8 bytes of size": good, "4 bytes of size": frame(raw, size_flag=2), "2 bytes of size": frame(raw, size_flag=1),
                    "a window": frame(raw, window=0, size_flag=2), "the largest window": frame(raw, window=13 << 3),
                    "blocks of all lengths": frame(raw, body=blocks(raw, 60)),
                    "an empty last block": frame(raw, body=b"\0" + blocks(raw)[1:] + b"\1\0\0")}
        refused = {
            "content size 0": frame(raw, content=0), "one more": frame(raw, content=n + 1), "one less": frame(raw, content=n - 1),
            "2^63": frame(raw, content=1 << 63), "unknown": frame(raw, content=(1 << 64) - 1), "an error": frame(raw, content=(1 << 64) - 2),
            "absent": frame(raw, window=0, size_flag=0),
            "a window of 2^23 and an eighth": frame(raw, window=13 << 3 | 1), "2^31": frame(raw, window=21 << 3), "2^42": frame(raw, window=255),
            "a skippable frame before": skippable(4) + good, "after": good + skippable(4), "alone": skippable(n), "empty, after": good + skippable(0),
            "two frames": half, "an empty frame after": good + frame(b"", body=b"\1\0\0"), "before": frame(b"", body=b"\1\0\0") + good, "twice": good + good[:50],
            "dictionary 1": frame(raw, dictionary=1), "dictionary 0": frame(raw, dictionary=0),
            "a byte behind": good + b"\0", "zeros behind": good + bytes(8),
            "a checksum": frame(raw, bits=4) + checksum, "a wrong one": frame(raw, bits=4) + b"abcd", "its flag alone": frame(raw, bits=4),
            "a checksum without its flag": good + checksum, "the unused bit": frame(raw, bits=16), "the reserved bit": frame(raw, bits=8),
            "a bomb": frame(raw, body=full * 100 + struct.pack("<I", (128 << 10) << 3 | 3)[:3] + same), "a block too large": frame(raw, body=rle + same),
            "the reserved kind of block": frame(raw, body=b"\7" + blocks(raw)[1:]), "no last block": frame(raw, body=b"\0" + blocks(raw)[1:]),
            "too little": frame(raw[:-1], content=n), "too much": frame(raw + b"x", content=n),
            "another magic": frame(raw, magic=0xfd2fb529), "a legacy one": frame(raw, magic=0xfd2fb527), "no magic": good[4:],
            "5 bytes": good[:5], "1 byte": good[:1], "garbage": bytes(range(1, 101)),
        }
        for what, new in some(accepted):
            f.again()
            put_frame(f.bundle, 1, 2, new)
            try:
                f.accepted()
            except AssertionError as why:
                raise AssertionError(f"{what}: {why}")
        for i, (what, new) in enumerate(some(refused)):
            f.again()
            put_frame(f.bundle, 1, 2, new)
            f.refused(what, 7, NAMES[1], name, "chunk 0 of 1", writers=i % 8 == 1)
        for cut in range(5, len(good), 97):
            f.again()
            put_frame(f.bundle, 1, 2, good[:cut])
            f.refused(f"cut at {cut}", 7, NAMES[1], name, "chunk 0 of 1")


# ---- headers and tables ----

def u32(value):
    return struct.pack("<I", value)


def u64(value):
    return struct.pack("<Q", value % (1 << 64))


def fields(f, rank=0):
    """Of a rank file its tensors, its chunks, and where their entries begin"""
    data = open(f"{f.good}/{NAMES[rank]}", "rb").read(HEADER)
    tensors, chunks = struct.unpack_from("<II", data, 40)
    return tensors, chunks, HEADER, HEADER + TENSOR * tensors


def refused_ranks(f, cases, *names, rank=0):
    """name -> (status, changes of the rank file)"""
    for i, (what, (status, *changes)) in enumerate(some(cases)):
        f.again()
        forge_rank(f.bundle, rank, *changes)
        f.refused(what, status, NAMES[rank], *names, writers=i == 0)


def test_a_rank_file_of_another_kind_or_version_is_told_from_a_damaged_one():
    with Forge() as f:
        refused_ranks(f, {what: (3, (0, magic)) for what, magic in {
            "zeros": bytes(8), "GGUF": b"GGUF\3\0\0\0", "text": b"\x89TPS\n\x1a\n\0", "one bit": b"\x88TPS\r\n\x1a\n", "reversed": b"\n\x1a\n\rSPT\x89",
        }.items()}, "magic")
        header = open(f"{f.good}/{NAMES[0]}", "rb").read(128)
        swapped = [(at, header[at:at + n][::-1]) for at, n in [(8, 4), (12, 4), *((at, 4) for at in range(32, 48, 4)), (48, 8), (56, 8),
                                                               *((at, 8) for at in range(80, 112, 8)), (112, 4), (120, 8)]]
        f.again()
        data = bytearray(open(f"{f.bundle}/{NAMES[0]}", "rb").read())
        for at, put in swapped:
            data[at:at + len(put)] = put
        data[4080:4096] = xxh3(data[:4080])
        write(f"{f.bundle}/{NAMES[0]}", data)
        f.refused("big-endian", 3, NAMES[0], "big-endian")
        refused_ranks(f, {f"version {v}": (8, (8, u32(v))) for v in (0, 1, 3, 255, 0xffffffff)}, "this build reads 2")


def test_a_rank_that_cannot_be_is_malformed_and_another_one_is_a_mismatch():
    with Forge() as f:
        refused_ranks(f, {f"rank {rank} of {tp}": (status, (32, u32(tp)), (36, u32(rank))) for status, rank, tp in (
            (3, 0, 0), (3, 2, 2), (3, 0xffffffff, 2), (3, 0, 0xffffffff), (3, 0, 10 ** 9), (3, 0, 49), (8, 1, 2), (8, 0, 3), (8, 47, 48))}, "header")


def test_places_of_tensors_are_checked_before_the_file_is_mapped():
    with Forge() as f:
        tensors, _, first, _ = fields(f)
        name = [t["name"] for t in json.load(open(f.good + "/manifest.json"))["ranks"][0]["tensors"]]
        q = name.index("model.layers.0.self_attn.q_proj.weight")
        entry = first + TENSOR * q
        data = open(f"{f.good}/{NAMES[0]}", "rb").read()
        offset, size = struct.unpack_from("<QQ", data, entry + 72)
        cases = {"overflow": (-256, size), "overflow of both": (-256, 1 << 63), "an overlap": (0, size), "beyond the file": (1 << 40, size), "at its end": (len(data), size),
                 "not aligned": (offset + 1, size), "the next multiple": (offset + 256, size), "no bytes": (offset, 0), "2^63 bytes": (offset, 1 << 63), "a byte more": (offset, size + 1)}
        for what, (at, n) in cases.items():
            for agree in (False, True):  # the manifest says so, too
                f.again()
                forge_rank(f.bundle, 0, (entry + 72, u64(at)), (entry + 80, u64(n)))
                if agree:
                    forge_manifest(f.bundle, lambda m: m["ranks"][0]["tensors"][q].update(offset=at % (1 << 63), bytes=n % (1 << 63)))
                done = tpshard("verify", f.bundle, status=None, env=dict(os.environ, TP_FAULT="count"))
                error_line(done, 3, "manifest.json" if agree else NAMES[0], name[q])
                assert b"io call: open " in done.stderr and b"io call: map" not in done.stderr, f"{what}: {done.stderr}"
        f.again()
        forge_rank(f.bundle, 0, (entry + 72, u64(-256)))
        f.refused("overflow", 3, NAMES[0], name[q], writers=True)
        numbers = {"rows": 16, "columns": 24, "own rows": 40, "own columns": 56, "k": 64}
        refused_ranks(f, {f"{what} {v}": (3, (entry + at, u64(v))) for what, at in numbers.items() for v in (0, 3, 1 << 63, -1)}, name[q])


def test_counts_chunks_and_alignments_that_are_not_the_plans_are_malformed():
    with Forge() as f:
        tensors, chunks, first, entries = fields(f)
        table = TENSOR * tensors + CHUNK * chunks + 64 * 2
        header = {"tensors": (40, u32, tensors), "chunks": (44, u32, chunks), "table offset": (48, u64, HEADER), "table bytes": (56, u64, table),
                  "data offset": (80, u64, HEADER + table), "alignment": (120, u64, 4096)}
        cases = {}
        for what, (at, put, n) in header.items():
            if what != "table bytes":
                cases.update({f"{what} {v}": (3, (at, put(v))) for v in (0, 1, 3, n - 1, n + 1, 1 << (31 if put is u32 else 63))})
        cases.update({f"alignment {v}": (3, (120, u64(v))) for v in (2 << 20, 8192, 4095)})
        cases.update({f"compression {v}": (3, (112, u32(v))) for v in (2, 255, 0xffffffff)})
        cases.update({f"reserved {at}": (3, (at, b"\1")) for at in (116, 128, 4079)})
        refused_ranks(f, cases, "header")
        refused_ranks(f, {f"{what} {v}": (3, (entries + CHUNK * 2 + at, put(v))) for what, at, put in (
            ("offset", 32, u64), ("file bytes", 40, u64), ("raw bytes", 48, u64), ("tensor", 56, u32), ("reserved", 60, u32))
            for v in ((0, 1, 1 << 63, (1 << 64) - 1) if put is u64 else (1, 0xffffffff))}, "table")
        refused_ranks(f, {f"{what} {v}": (3, (first + TENSOR * 2 + at, u32(v))) for what, at in (("first chunk", 88), ("chunks", 92)) for v in (0, 3, 1 << 31)}, "table")
        for n in (table - 64, table + 64, 0, 1 << 63):  # a table of another length has no hash that fits
            f.again()
            data = bytearray(open(f"{f.bundle}/{NAMES[0]}", "rb").read())
            data[56:64] = u64(n)
            data[4080:4096] = xxh3(data[:4080])
            write(f"{f.bundle}/{NAMES[0]}", data)
            f.refused(f"table of {n}", 3, NAMES[0], "table bytes")


# ---- manifests ----

def refused_manifests(f, cases, *names):
    """name -> (status, change of the manifest, words of the line)"""
    for i, (what, (status, change, *words)) in enumerate(some(cases)):
        f.again()
        forge_manifest(f.bundle, change)
        f.refused(what, status, "manifest.json", *words, *names, writers=i == 0)


def test_a_manifest_of_another_version_is_named_with_the_one_that_is_read():
    with Forge() as f:
        refused_manifests(f, {f"version {v}": (8, lambda m, v=v: m.update(version=v), f"format version {v}, this build reads 2") for v in (0, 1, 3, 4, 255, (1 << 32) - 1)})
        refused_manifests(f, {f"version {v}": (3, lambda m, v=v: m.update(version=v)) for v in (-2, 1 << 32, "2", 2.5, None, [2])}, "version")
        for change in (lambda m: m.update(format="tpshard", version=3), lambda m: m.pop("version"), lambda m: m.pop("format")):
            f.again()
            forge_manifest(f.bundle, change)
            f.refused("another format", 3, "manifest.json")


def test_degrees_and_ranks_that_cannot_be_are_malformed():
    with Forge() as f:
        refused_manifests(f, {f"tp_size {v}": (3, lambda m, v=v: m.update(tp_size=v)) for v in (0, -1, 49, 10 ** 9, 1 << 63, 1 << 64, 2.0, "2")})
        refused_manifests(f, {
            "one less": (3, lambda m: m["ranks"].pop()), "none": (3, lambda m: m["ranks"].clear()), "one more": (3, lambda m: m["ranks"].append(m["ranks"][1])),
            "twice": (3, lambda m: m["ranks"].__setitem__(1, m["ranks"][0])), "swapped": (3, lambda m: m["ranks"].reverse()),
            "degree 1 of two": (3, lambda m: m.update(tp_size=1)), "degree 3 of two": (3, lambda m: m.update(tp_size=3)),
            **{f"rank {v}": (3, lambda m, v=v: m["ranks"][1].update(rank=v)) for v in (0, 2, 48, 49, -1, 10 ** 9)}}, "rank")
        for n in ("0", "-1", "49", str(10 ** 9)):
            error_line(tpshard("reshard", f.good, "-o", f.dir + "/r", "--tp", n, status=None), 2, "--tp")


NAMES_THAT_LEAD_ELSEWHERE = ("../secret", "/etc/hostname", "a/b", "..", ".", "", "a\\b", "a\0b", "\0", "config.json\0", "a\nb", "\x7f", "n" * 256)


def test_names_in_a_manifest_that_lead_elsewhere_are_never_opened():
    with Forge() as f:
        write(f.dir + "/secret", b"secret")
        for name in NAMES_THAT_LEAD_ELSEWHERE:
            for change in (lambda m: m["files"][0].update(name=name), lambda m: m["ranks"][1].update(file=name)):
                f.again()
                forge_manifest(f.bundle, change)
                f.refused(repr(name), 3, "manifest.json")
        for program in ([harness.TPSHARD, "verify"], [harness.TPRUN, "generate", "--prompt-ids", "1", "-n", "1"]):
            for name in ("../secret", "/etc/hostname"):
                for change in (lambda m: m["files"][0].update(name=name), lambda m: m["ranks"][1].update(file=name)):
                    f.again()
                    forge_manifest(f.bundle, change)
                    done, calls = opened([*program, f.bundle], f.dir)
                    error_line(done, 3, "manifest.json")
                    assert not [c for c in calls if "secret" in c or "hostname" in c]


# ---- the folder ----

def test_a_bundles_file_that_is_a_link_out_of_it_or_no_file_is_not_opened():
    with Forge() as f:
        for name in ("manifest.json", NAMES[1], "config.json"):
            for what, make in (("a link out", lambda p: os.symlink(f"{f.good}/{name}", p)), ("a link to a device", lambda p: os.symlink("/dev/zero", p)),
                               ("to nowhere", lambda p: os.symlink("nowhere", p)), ("a FIFO", os.mkfifo), ("a folder", os.mkdir)):
                f.again()
                os.unlink(f"{f.bundle}/{name}")
                make(f"{f.bundle}/{name}")
                for program in ("verify", "inspect") if name == "manifest.json" else ("verify",):
                    line = error_line(tpshard(program, f.bundle, status=None), 3, name)
                    assert ("link" in line) == ("link" in what or what == "to nowhere"), f"{what}: {line}"
                f.refused(what, 3, name, writers=what == "a link out") if name != "config.json" else None
        done, calls = None, []
        f.again()
        os.unlink(f"{f.bundle}/{NAMES[1]}")
        os.mkfifo(f"{f.bundle}/{NAMES[1]}")
        for target in (None, "/dev/zero", f"{f.good}/{NAMES[1]}"):
            if target:
                os.unlink(f"{f.bundle}/{NAMES[1]}")
                os.symlink(target, f"{f.bundle}/{NAMES[1]}")
            done, calls = opened([harness.TPSHARD, "verify", f.bundle], f.dir)
            error_line(done, 3, NAMES[1])
            assert not [c for c in calls if NAMES[1] in c], calls


def test_links_within_a_bundle_and_to_the_blobs_of_a_hub_cache_are_followed():
    with Forge() as f:
        f.again()
        for name in sorted(os.listdir(f.bundle)):
            os.rename(f"{f.bundle}/{name}", f"{f.bundle}/real-{name}")
            os.symlink(f"real-{name}", f"{f.bundle}/{name}")
        f.accepted()
        hub = f.dir + "/hub/models--a--b"
        snapshot = hub + "/snapshots/0123abcd"
        os.makedirs(hub + "/blobs")
        os.makedirs(snapshot)
        for i, name in enumerate(sorted(os.listdir(f.good))):
            shutil.copy(f"{f.good}/{name}", f"{hub}/blobs/{i:040x}")
            os.symlink(f"../../blobs/{i:040x}", f"{snapshot}/{name}")
        f.bundle = snapshot
        f.accepted()
        os.symlink(snapshot, f.dir + "/by-link")
        f.bundle = f.dir + "/by-link"
        f.accepted()
        os.unlink(f"{snapshot}/{NAMES[1]}")
        os.symlink(f"{f.good}/{NAMES[1]}", f"{snapshot}/{NAMES[1]}")
        f.refused("from a snapshot to elsewhere", 3, NAMES[1], "link out of the folder", writers=True)


harness.main(globals())
