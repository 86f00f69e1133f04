"""The logits of a checkpoint from docs/numerics.md alone: slow, in Python floats, every rounding explicit.

A binary32 value is held in a Python float (binary64). Of two binary32 operands +, -, *, / and sqrt in binary64,
rounded again to binary32, are rounded correctly (53 >= 2 * 24 + 2); only fma needs care. No function of libm is used
but sqrt, which IEEE 754 defines.
"""
import json
import math
import os
import struct

TINY = 2.0 ** -126
BF16_MOST = float.fromhex("0x1.fep+127")


def f32(x):
    try:
        x = struct.unpack("<f", struct.pack("<f", x))[0]
    except OverflowError:
        return math.copysign(math.inf, x)
    return x if abs(x) >= TINY else math.copysign(0.0, x)


def bf16(x):
    u = struct.unpack("<I", struct.pack("<f", x))[0]
    return struct.unpack("<f", struct.pack("<I", (u + 0x7FFF + (u >> 16 & 1)) >> 16 << 16))[0]


def f16(x):
    return struct.unpack("<e", struct.pack("<e", max(-65504.0, min(65504.0, x))))[0]


def fma(a, b, c):
    p = a * b  # exact
    s = p + c
    t = s - p
    err = (p - (s - t)) + (c - t)
    if err and not struct.unpack("<Q", struct.pack("<d", s))[0] & 1:  # round to odd
        s = math.nextafter(s, math.inf if err > 0 else -math.inf)
    return f32(s)


def blocks(w, x):
    w, x = list(w) + [0.0] * (-len(w) % 32), list(x) + [0.0] * (-len(x) % 32)
    acc = 0.0
    for block in range(0, len(w), 32):
        even = odd = 0.0
        for j in range(block, block + 32, 2):
            even, odd = fma(w[j], x[j], even), fma(w[j + 1], x[j + 1], odd)
        acc = f32(acc + f32(even + odd))
    return acc


def dot(w, x):
    return blocks(w, x) + 0.0


def grouped(w, x, begin, end, group, constants):
    """Columns begin to end of a row with a scale and a minimum, or None, of each group."""
    acc = 0.0
    while begin < end:
        g = begin // group
        stop = min(end, (g + 1) * group)
        scale, minimum = constants[g]
        acc = fma(scale, blocks(w[begin:stop], x[begin:stop]), acc)
        if minimum is not None:
            acc = fma(minimum, blocks([1.0] * (stop - begin), x[begin:stop]), acc)
        begin = stop
    return acc + 0.0


H = float.fromhex
EXP = [H(c) for c in ("0x1.6ac74cp-10", "0x1.123de0p-7", "0x1.555858p-5", "0x1.55548cp-3", "0x1.fffffcp-2")] + [1.0, 1.0]


def exp(given):
    x = min(max(given, -87.0), 88.0)
    n = f32(f32(f32(x * H("0x1.715476p+0")) + H("0x1.8p+23")) - H("0x1.8p+23"))
    r = fma(n, H("-0x1.7f7d1cp-20"), fma(n, H("-0x1.62e400p-1"), x))
    p = EXP[0]
    for c in EXP[1:]:
        p = fma(p, r, c)
    return 0.0 if given < -87.0 else math.ldexp(p, int(n))


def chains(values, add, rounded=f32):
    s = [0.0] * 16
    for i, v in enumerate(values):
        s[i % 16] = add(v, s[i % 16])
    for half in (8, 4, 2, 1):
        s = [rounded(s[c] + s[c + half]) for c in range(half)]
    return s[0]


def norm(x, w, eps):
    mean = f32(chains(x, lambda v, s: fma(v, v, s)) / len(x))
    r = f32(1.0 / f32(math.sqrt(f32(mean + eps))))
    return [f32(f32(v * r) * g) for v, g in zip(x, w)]


def cut(n, i, k):
    return n * i // k


# ---- section 7 ----

LEAST = 2.0 ** -100


def int8(row):
    """Codes, scale."""
    top = max(map(abs, row))
    if top < LEAST:
        return [0.0] * len(row), 1.0
    scale = f32(top / 127.0)
    return [float(within(f32(v / scale), -127, 127)) for v in row], scale


def e4m3(q):
    step = 2.0 ** (max(math.frexp(q)[1] - 1, -6) - 3)
    return max(-448.0, min(448.0, round(q / step) * step))


def fp8(row):
    """The codes' values, scale."""
    top, tried = max(map(abs, row)), []
    if top < LEAST:
        return [0.0] * len(row), 1.0
    for f in range(32, 23, -1):
        scale = f32(f32(top / 448.0) * (f / 32))
        q = [f32(v / scale) for v in row]
        codes = [e4m3(u) for u in q]
        error = chains([u - v for u, v in zip(q, codes)], lambda e, s: s + e * e, float)
        tried.append((error * (scale * scale), codes, scale))
    return min(tried, key=lambda t: t[0])[1:]


def within(x, low, high):
    return low if x < low else high if x > high else round(x)


def finite_bf16(x):
    return bf16(max(-BF16_MOST, min(BF16_MOST, x)))


def int4(group, offset):
    """Codes, scale and offset (8 for "none", the zero, the minimum) of a group's values."""
    x, (lo, hi) = group, (v if abs(v) >= LEAST else 0.0 for v in (min(group), max(group)))
    if offset == "none":
        scale = finite_bf16(f32((lo if -lo >= hi else hi) / -8))
        return [within(f32(v / scale), -8, 7) + 8 if scale else 8 for v in x], scale, 8
    if offset == "zero":
        lo, hi = min(lo, 0.0), max(hi, 0.0)
        scale = finite_bf16(f32(f32(hi / 15) - f32(lo / 15)))
        zero = within(f32(-lo / scale), 0, 15) if scale else 0
        return [within(round(f32(v / scale)) + zero, 0, 15) if scale else 0 for v in x], scale, zero
    minimum = finite_bf16(lo)
    scale = finite_bf16(f32(f32(hi / 15) - f32(minimum / 15)))
    scale = scale if scale > LEAST else 0.0
    return [within(f32(f32(v / 2 - minimum / 2) / (scale / 2)), 0, 15) if scale else 0 for v in x], scale, minimum


INT4 = {f"int4-g{group}" + ("" if offset == "none" else "-" + offset): (group, offset)  # the stored formats' names
        for offset in ("none", "zero", "min") for group in (32, 64, 128)}


# ---- section 11 ----

def two_sum(a, b):
    s = a + b
    v = s - a
    return s, (a - (s - v)) + (b - v)


def fast_two_sum(a, b):
    s = a + b
    return s, b - (s - a)


def split(a):
    v = a * H("0x1.0000002p+27")
    h = v - (v - a)
    return h, a - h


def two_product(a, b):
    q, (xh, xt), (yh, yt) = a * b, split(a), split(b)
    return q, (((xh * yh - q) + xh * yt) + xt * yh) + xt * yt


def pair_product(a, b):
    h, t = two_product(a[0], b[0])
    return fast_two_sum(h, t + (a[0] * b[1] + a[1] * b[0]))


def pair_sum(a, b):
    h, t = two_sum(a[0], b[0])
    return fast_two_sum(h, t + (a[1] + b[1]))


def poly(c, x):
    y = c[-1]
    for v in c[-2::-1]:
        y = y * x + v
    return y


def nearest(x):
    return (x + H("0x1.8p+52")) - H("0x1.8p+52")


def exp_pair(h, t=0.0):
    if h < -708 or h > 709:
        return 0.0 if h < 0 else math.inf
    n = nearest(h * H("0x1.71547652b82fep+0"))
    rh, rt = two_sum(h - n * H("0x1.62e42feep-1"), t - n * H("0x1.a39ef35793c76p-33"))
    tail = rt + (rh * rt + (rh * rh) * poly([1 / math.factorial(k) for k in range(2, 14)], rh))
    yh, yt = fast_two_sum(1.0, rh)
    return math.ldexp(yh + (yt + tail), int(n))


def log_pair(x):
    m, k = math.frexp(x)
    m, k = 2 * m, k - 1
    if m > H("0x1.6a09e667f3bcdp+0"):
        m, k = m / 2, k + 1
    f, (gh, gt) = m - 1, two_sum(m, 1.0)
    sh = f / gh
    bh, bt = two_product(sh, gh)
    s = sh, (((f - bh) - bt) - sh * gt) / gh
    z = pair_product(s, s)
    qh, qt = pair_product(z, (H("0x1.5555555555555p-2"), H("0x1.5555555555555p-56")))
    q = fast_two_sum(qh, qt + (z[0] * z[0]) * poly([1 / k for k in range(5, 26, 2)], z[0]))
    hh, ht = pair_sum(s, pair_product(s, q))
    vh, vt = two_product(float(k), H("0x1.62e42fefa39efp-1"))
    return pair_sum(fast_two_sum(vh, vt + k * H("0x1.abc9e3b39803fp-56")), (2 * hh, 2 * ht))


def pow64(x, y):
    lh, lt = log_pair(x)
    qh, qt = two_product(lh, y)
    return exp_pair(*fast_two_sum(qh, qt + lt * y))


def sincos(x):
    n = nearest(x * H("0x1.45f306dc9c883p-1"))
    (ah, at), (bh, bt) = two_product(n, H("0x1.921fb54442d18p+0")), two_product(n, H("0x1.1a62633145c07p-54"))
    rh, rt = x - ah, 0.0
    for v in (at, bh, bt, n * H("-0x1.f1976b7ed8fbcp-110")):
        rh, d = two_sum(rh, -v)
        rt = rt + d
    rh, rt = fast_two_sum(rh, rt)
    z = rh * rh
    half = 0.5 * z
    odd = [(-1) ** k / math.factorial(2 * k + 1) for k in range(1, 9)]
    even = [(-1) ** k / math.factorial(2 * k) for k in range(2, 10)]
    s = rh + (rt * (1 - half) + (z * rh) * poly(odd, z))
    w = 1 - half
    c = w + (((1 - w) - half) + ((z * z) * poly(even, z) - rh * rt))
    return [(s, c), (c, -s), (-s, -c), (-c, s)][int(n) % 4]


# ---- section 10 ----

def philox(counter, key):
    c, k, mask = list(counter), list(key), 0xffffffff
    for _ in range(10):
        a, b = 0xd2511f53 * c[0], 0xcd9e8d57 * c[2]
        c = [b >> 32 ^ c[1] ^ k[0], b & mask, a >> 32 ^ c[3] ^ k[1], a & mask]
        k = [k[0] + 0x9e3779b9 & mask, k[1] + 0xbb67ae85 & mask]
    return c


def halves(n):
    return n & 0xffffffff, n >> 32


def chunk_sums(w, kept):
    sums = []
    for at in range(0, len(w), 1024):
        s = [0.0] * 32
        for i in range(at, min(at + 1024, len(w))):
            s[i % 32] += w[i] if i in kept else 0.0
        for half in (16, 8, 4, 2, 1):
            s = [s[c] + s[c + half] for c in range(half)]
        sums.append(s[0])
    return sums


def sample(logits, temperature, request, position, seen=(), top_k=0, top_p=1.0, min_p=0.0, penalty=1.0, seed=0):
    """The id that is picked from logits (f32), seen: ids of prompt and answer."""
    x, r, t = list(logits), f32(penalty), f32(temperature)
    for i in set(seen) if penalty != 1 else ():
        x[i] = f32(x[i] / r) if x[i] > 0 else f32(x[i] * r)
    if temperature == 0:
        return x.index(max(x))
    x = [f32(v / t) for v in x]
    top = max(x)
    w = [exp(f32(v - top)) for v in x]
    order = sorted(range(len(x)), key=lambda i: (-x[i], i))
    if 0 < top_k < len(x):
        order = order[:top_k]
    if top_p < 1:
        wanted, mass, j = top_p * sum_of(chunk_sums(w, set(order))), 0.0, 0
        while j < len(order) and (j == 0 or mass < wanted):
            mass += w[order[j]]
            j += 1
        order = order[:j]
    kept = {i for i in order if w[i] >= min_p and w[i] > 0}
    sums = chunk_sums(w, kept)
    words = philox(halves(position) + halves(request), halves(seed))
    target = ((words[0] >> 5) * 2.0 ** 26 + (words[1] >> 6)) * 2.0 ** -53 * sum_of(sums)
    p = 0.0
    for chunk, s in enumerate(sums):
        if p + s > target:
            last = None
            for i in range(chunk * 1024, min(chunk * 1024 + 1024, len(w))):
                if i in kept:
                    p, last = p + w[i], i
                    if p > target:
                        break
            return last
        p += s
    return max(kept)


def sum_of(sums):
    total = 0.0
    for s in sums:
        total += s
    return total


def tree(values, k=0, i=0):
    n = len(values)
    a, b, mid = cut(n, i, 2 ** k), cut(n, i + 1, 2 ** k), cut(n, 2 * i + 1, 2 ** (k + 1))
    if b - a == 1:
        return values[a]
    if mid in (a, b):
        return tree(values, k + 1, 2 * i + (mid == a))
    return f32(tree(values, k + 1, 2 * i) + tree(values, k + 1, 2 * i + 1))


def checkpoint(folder):
    """name -> (rows of values, whether it is a vector) of a folder's model.safetensors"""
    data = open(os.path.join(folder, "model.safetensors"), "rb").read()
    n = struct.unpack_from("<Q", data)[0]
    found = {}
    for name, t in json.loads(data[8:8 + n]).items():
        if name == "__metadata__":
            continue
        a, b = (8 + n + o for o in t["data_offsets"])
        if t["dtype"] == "BF16":
            flat = [struct.unpack("<f", b"\0\0" + data[j:j + 2])[0] for j in range(a, b, 2)]
        else:
            flat = struct.unpack(f"<{(b - a) // 4}f" if t["dtype"] == "F32" else f"<{(b - a) // 2}e", data[a:b])
        cols = t["shape"][1] if len(t["shape"]) == 2 else 1
        found[name] = [list(flat[j:j + cols]) for j in range(0, len(flat), cols)], len(t["shape"]) == 1
    return found


class Model:
    def __init__(self, folder, dtype, quantized=None):
        """quantized: the stored format of the layers' matrices ("int8", "fp8", "int4-g64-zero"), None for dtype's."""
        self.c = json.load(open(os.path.join(folder, "config.json")))
        self.round = {"bf16": bf16, "f16": f16, "f32": f32}[dtype]
        self.enter = bf16 if dtype == "bf16" else lambda v: v
        self.w, self.scales, self.groups = {}, {}, {}
        for name, (rows, is_vector) in checkpoint(folder).items():
            if quantized and "proj.weight" in name:
                self.quantize(name, rows, quantized)
            else:
                rows = [[self.round(v) for v in row] for row in rows]
                self.w[name] = [row[0] for row in rows] if is_vector else rows

    def quantize(self, name, rows, stored):
        if stored in ("int8", "fp8"):
            done = [(int8 if stored == "int8" else fp8)(row) for row in rows]
            self.w[name], self.scales[name] = [codes for codes, _ in done], [scale for _, scale in done]
            return
        self.group, offset = INT4[stored]
        self.w[name], self.groups[name] = [], []
        for row in rows:
            done = [int4(row[at:at + self.group], offset) for at in range(0, len(row), self.group)]
            has_minimum = offset == "min"
            self.w[name].append([float(code if has_minimum else code - zero) for codes, _, zero in done for code in codes])
            self.groups[name].append([(scale, minimum if has_minimum else None) for _, scale, minimum in done])

    def matrix(self, name, x, leaves=None):
        """A full dot of every row, or one of each leaf and their tree."""
        weight, out = name + ".weight", []
        for r, row in enumerate(self.w[weight]):
            leaf = lambda a, b: dot(row[a:b], x[a:b]) if weight not in self.groups else grouped(
                row, x, a, b, self.group, self.groups[weight][r])
            value = tree([leaf(a, b) for a, b in leaves or [(0, len(x))]])
            value = f32(value * self.scales[weight][r]) if weight in self.scales else value
            out.append(f32(value + self.w[name + ".bias"][r]) if name + ".bias" in self.w else value)
        return out

    def rope(self, head, p):
        d = len(head)
        out = list(head)
        for i in range(d // 2):
            sine, cosine = sincos(p * pow64(float(self.c["rope_theta"]), -(2.0 * i) / d))
            c, s, a, b = f32(cosine), f32(sine), head[i], head[i + d // 2]
            out[i], out[i + d // 2] = fma(a, c, -f32(b * s)), fma(b, c, f32(a * s))
        return out

    def attend(self, q, keys, values, p):
        d, w = len(q), self.c.get("sliding_window") or 0
        scale, lo = f32(1.0 / math.sqrt(d)), max(0, p - w + 1) if w else 0
        state = None
        for chunk in range(lo // 256, p // 256 + 1):
            base = chunk * 256
            seen = [j for j in range(base, min(base + 256, p + 1)) if j >= lo]
            s = {j: f32(dot(q, keys[j]) * scale) for j in seen}
            m = max(s.values())
            e = [exp(f32(s[j] - m)) if j in s else 0.0 for j in range(base, base + 256)]
            l = chains(e, lambda v, t: f32(v + t))
            e = [self.enter(v) for v in e]
            o = [dot(e, [values[j][i] if j < len(values) else 0.0 for j in range(base, base + 256)]) for i in range(d)]
            if state is None:
                state = m, l, o
                continue
            m0, l0, o0 = state
            top = m0 if m0 > m else m
            a, b = (1.0 if v == top else exp(f32(v - top)) for v in (m0, m))
            state = top, fma(l0, a, f32(l * b)), [fma(v0, a, f32(v * b)) for v0, v in zip(o0, o)]
        _, l, o = state
        return [self.enter(f32(v / l) + 0.0) for v in o]

    def logits(self, ids):
        c, eps = self.c, f32(self.c["rms_norm_eps"])
        heads, kv, d, ff = c["num_attention_heads"], c["num_key_value_heads"], c["head_dim"], c["intermediate_size"]
        per_leaf = 2 if heads > 64 else 1
        attention = [(h * d, min(h + per_leaf, heads) * d) for h in range(0, heads, per_leaf)]
        units = -(-ff // 32)
        n = min(units, 48)
        mlp = [(cut(units, s, n) * 32, min(cut(units, s + 1, n) * 32, ff)) for s in range(n)]
        cache_type = self.round
        x = [list(self.w["model.embed_tokens.weight"][t]) for t in ids]
        for layer in range(c["num_hidden_layers"]):
            pre = f"model.layers.{layer}."
            keys, values = [[] for _ in range(kv)], [[] for _ in range(kv)]
            for p, row in enumerate(x):
                h = [self.enter(v) for v in norm(row, self.w[pre + "input_layernorm.weight"], eps)]
                q, k, v = (self.matrix(pre + f"self_attn.{n}_proj", h) for n in "qkv")
                heads_of = lambda flat, name: [self.head(flat[a:a + d], pre, name, eps, p) for a in range(0, len(flat), d)]
                for g, (kh, at) in enumerate(zip(heads_of(k, "k"), range(0, kv * d, d))):
                    keys[g].append([cache_type(u) for u in kh])
                    values[g].append([cache_type(u) for u in v[at:at + d]])
                out = []
                for i, qh in enumerate(heads_of(q, "q")):
                    g = i // (heads // kv)
                    out += self.attend([self.enter(u) for u in qh], keys[g], values[g], p)
                row = [f32(r + u) for r, u in zip(row, self.matrix(pre + "self_attn.o_proj", out, attention))]
                h = [self.enter(v) for v in norm(row, self.w[pre + "post_attention_layernorm.weight"], eps)]
                gate, up = self.matrix(pre + "mlp.gate_proj", h), self.matrix(pre + "mlp.up_proj", h)
                act = [self.enter(f32(f32(g / f32(1.0 + exp(-g))) * u)) for g, u in zip(gate, up)]
                x[p] = [f32(r + u) for r, u in zip(row, self.matrix(pre + "mlp.down_proj", act, mlp))]
        head = self.w.get("lm_head.weight", self.w["model.embed_tokens.weight"])
        rows = [[self.enter(v) for v in norm(row, self.w["model.norm.weight"], eps)] for row in x]
        return b"".join(struct.pack("<f", dot(w, row)) for row in rows for w in head)

    def head(self, head, pre, name, eps, p):
        weight = self.w.get(f"{pre}self_attn.{name}_norm.weight")
        return self.rope(norm(head, weight, eps) if weight else head, p)
