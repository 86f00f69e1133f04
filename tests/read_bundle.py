"""Read a bundle by docs/format.md alone: tensors(folder) -> {name: (dtype, rows x columns of raw element bytes)}."""
import json, struct, sys

WIDTH = {1: 4, 2: 2, 3: 2, 4: 1, 5: 1}

def leaf_bounds(manifest, role):
    return manifest["leaves"]["attention" if role == 8 else "mlp"]

def tensors(folder):
    manifest, whole = json.load(open(f"{folder}/manifest.json")), {}
    for rank in manifest["ranks"]:
        f = open(f"{folder}/{rank['file']}", "rb").read()
        assert f[:8] == bytes.fromhex("895450530d0a1a0a") and struct.unpack_from("<I", f, 112)[0] == 0
        count, data = struct.unpack_from("<I", f, 40)[0], struct.unpack_from("<Q", f, 80)[0]
        for i in range(count):
            at = 4096 + 128 * i
            role, part, layer, dtype, layout, cut = struct.unpack_from("<HHIHHH", f, at)
            rows, cols, r0, r1, c0, c1, k, offset, size = struct.unpack_from("<9Q", f, at + 16)
            name, width = rank["tensors"][i]["name"], 4 if layout == 1 else WIDTH[dtype]
            out = whole.setdefault(name, (dtype, [bytearray(cols * width) for _ in range(rows)]))[1]
            body = f[data + offset:data + offset + size]
            runs = [(c0, c1)] if not cut else [(max(a, c0), min(b, c1)) for a, b in zip(
                leaf_bounds(manifest, role), leaf_bounds(manifest, role)[1:]) if a < c1 and b > c0]
            for r in range(r1 - r0):
                if layout == 1:
                    out[r0 + r][:] = body[4 * r:4 * r + 4]
                    continue
                panel = body[r // 16 * 16 * k * width:][:16 * k * width]
                row = b"".join(panel[64 * g + 4 * (r % 16):][:4] for g in range(k * width // 4))
                packed = 0
                for a, b in runs:
                    out[r0 + r][a * width:b * width] = row[packed * width:(packed + b - a) * width]
                    packed += (b - a + 31) // 32 * 32
    return whole

if __name__ == "__main__":
    for name, (dtype, rows) in tensors(sys.argv[1]).items():
        print(name, dtype, len(rows))
