"""Read a bundle by docs/format.md alone: tensors(folder) -> {name: (dtype, rows of raw element bytes)}."""
import json, struct

def tensors(folder):
    manifest, whole = json.load(open(f"{folder}/manifest.json")), {}
    for rank in manifest["ranks"]:
        f = open(f"{folder}/{rank['file']}", "rb").read()
        assert f[:8] == bytes.fromhex("895450530d0a1a0a") and struct.unpack_from("<I", f, 112)[0] == 0
        data = struct.unpack_from("<Q", f, 80)[0]
        for i in range(struct.unpack_from("<I", f, 40)[0]):
            role, part, layer, dtype, layout, cut = struct.unpack_from("<HHIHHH", f, 4096 + 128 * i)
            rows, cols, r0, r1, c0, c1, k, offset, size = struct.unpack_from("<9Q", f, 4112 + 128 * i)
            name, width = rank["tensors"][i]["name"], 4 if layout == 1 else (4, 2, 2, 1, 1)[dtype - 1]
            out = whole.setdefault(name, (dtype, [bytearray(cols * width) for _ in range(rows)]))[1]
            body = f[data + offset:data + offset + size]
            leaves = manifest["leaves"]["attention" if role == 8 else "mlp"]
            runs = [(a, b) for a, b in zip(leaves, leaves[1:]) if c0 <= a and b <= c1] if cut else [(c0, c1)]
            for r in range(r1 - r0):
                if layout == 1:
                    out[r0 + r][:] = body[4 * r:4 * r + 4]
                    continue
                panel, packed = body[r // 16 * 16 * k * width:][:16 * k * width], 0
                row = b"".join(panel[64 * g + 4 * (r % 16):][:4] for g in range(k * width // 4))
                for a, b in runs:
                    out[r0 + r][a * width:b * width] = row[packed * width:(packed + b - a) * width]
                    packed += (b - a + 31) // 32 * 32
    return whole
