"""Bundles forged with care: every hash, digest and size around the lie is made anew, and it is refused all the same."""
import ctypes
import json
import os
import shutil
import struct
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))
import harness
from harness import Folder, convert, error_line, tiny_model, tprun, tpshard

HEADER, TENSOR, CHUNK = 4096, 128, 64
NAMES = ["rank-000-of-002.tps", "rank-001-of-002.tps"]


class Hash128(ctypes.Structure):
    _fields_ = [("low", ctypes.c_uint64), ("high", ctypes.c_uint64)]


XXHASH = ctypes.CDLL("libxxhash.so.0")
XXHASH.XXH3_128bits.restype, XXHASH.XXH3_128bits.argtypes = Hash128, (ctypes.c_char_p, ctypes.c_size_t)
XXHASH.XXH64.restype, XXHASH.XXH64.argtypes = ctypes.c_uint64, (ctypes.c_char_p, ctypes.c_size_t, ctypes.c_uint64)


def xxh3(data):
    h = XXHASH.XXH3_128bits(bytes(data), len(data))
    return struct.pack(">QQ", h.high, h.low)


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
        for what, new in accepted.items():
            f.again()
            put_frame(f.bundle, 1, 2, new)
            try:
                f.accepted()
            except AssertionError as why:
                raise AssertionError(f"{what}: {why}")
        for i, (what, new) in enumerate(refused.items()):
            f.again()
            put_frame(f.bundle, 1, 2, new)
            f.refused(what, 7, NAMES[1], name, "chunk 0 of 1", writers=i % 8 == 1)
        for cut in range(5, len(good), 97):
            f.again()
            put_frame(f.bundle, 1, 2, good[:cut])
            f.refused(f"cut at {cut}", 7, NAMES[1], name, "chunk 0 of 1")


harness.main(globals())
