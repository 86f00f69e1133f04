"""Read a bundle by docs/format.md alone: tensors(folder) -> {name: (stored format, rows)}.

A row is the raw bytes of its values; of int4 a list with (code, scale, offset) of every column, the constants as the bits
that stand with its piece: offset is the zero, the minimum, or 0. Padding that is not zero, and ranks that differ in what
they share, fail.
"""
import json, struct

def values(words, stored, leaves):
    bits, group, row, k = (32, 16, 16, 8, 8, 4)[min(stored, 6) - 1], 32 << stored % 3 if stored > 5 else 1 << 63, [], 0
    for a, b in zip(leaves, leaves[1:]):
        edges = [a, *range(a // group * group + group, b, group), b]
        for piece, (begin, end) in enumerate(zip(edges, edges[1:])):
            if stored > 8 or stored > 5 and piece % 2 == 0:
                low, high = struct.unpack("<HH", next(words))
                assert stored > 8 or end < b or high == 0
            width = (end - begin + 31) // 32 * 32
            body = b"".join(next(words) for _ in range(width * bits // 32))
            if stored > 5:
                scale, offset = (high, low) if stored > 8 else ((low, high)[piece % 2], 0)
                codes = [w >> s & 15 for (w,) in struct.iter_unpack("<I", body) for s in (0, 16, 4, 20, 8, 24, 12, 28)]
                row += [(code, scale, offset) for code in codes[:end - begin]]
                assert not any(codes[end - begin:])
            else:
                row += [body[j * bits // 8:(j + 1) * bits // 8] for j in range(end - begin)]
                assert not any(body[(end - begin) * bits // 8:])
            k += width
    assert next(words, None) is None
    return row, k

def tensors(folder):
    manifest, whole = json.load(open(f"{folder}/manifest.json")), {}
    for rank in manifest["ranks"]:
        f = open(f"{folder}/{rank['file']}", "rb").read()
        assert f[:12] == bytes.fromhex("895450530d0a1a0a02000000") and struct.unpack_from("<I", f, 112)[0] == 0
        data = struct.unpack_from("<Q", f, 80)[0]
        for i in range(struct.unpack_from("<I", f, 40)[0]):
            role, part, layer, stored, layout, cut = struct.unpack_from("<HHIHHH", f, 4096 + 128 * i)
            rows, cols, r0, r1, c0, c1, k, offset, size = struct.unpack_from("<9Q", f, 4112 + 128 * i)
            out = whole.setdefault(rank["tensors"][i]["name"], (stored, [[None] * cols for _ in range(rows)]))[1]
            leaves = manifest["leaves"]["attention" if role == 8 else "mlp"] if cut else [c0, c1]
            leaves, height = [c for c in leaves if c0 <= c <= c1], 16 if layout == 2 else 1
            panel = size // ((r1 - r0 + height - 1) // height or 1)
            for r in range(size // panel * height if size else 0):
                at = data + offset + r // height * panel + 4 * (r % height)
                words = [f[j:j + 4] for j in range(at, at + panel, 4 * height)]
                if r >= r1 - r0:
                    assert not any(b"".join(words))
                    continue
                row, width = values(iter(words), stored, leaves) if layout == 2 else (words, 0)
                assert width == k and out[r0 + r][c0:c1] in ([None] * (c1 - c0), row)
                out[r0 + r][c0:c1] = row
    return {name: (stored, rows if type(rows[0][0]) is tuple else [b"".join(r) for r in rows]) for name, (stored, rows) in whole.items()}

def chunks_of(rank):
    """(role, layer, part) of a tensor -> [(place in the file, bytes)] of its chunks; of a raw rank file."""
    head, found = open(rank, "rb").read(), {}
    tensors, data = struct.unpack_from("<I", head, 40)[0], struct.unpack_from("<Q", head, 80)[0]
    for at in range(4096, 4096 + 128 * tensors, 128):
        role, part, layer = struct.unpack_from("<HHI", head, at)
        first, count = struct.unpack_from("<II", head, at + 88)
        places = [struct.unpack_from("<QQ", head, 4096 + 128 * tensors + 64 * c + 32) for c in range(first, first + count)]
        found[role, layer, part] = [(data + offset, n) for offset, n in places]
    return found
