"""Read a compiled tokenizer by docs/format.md alone (sections 9 to 13), with the standard library.

    t = Tokenizer(bytes); t.encode(text) -> ids (section 10's data as well); t.decode(ids) -> text; t.texts -> [(kind, name, value)] in bytes

Raises Malformed for what a reader must refuse, Unsupported for a regular expression that `re` cannot do. Python has one version
of Unicode, the format names several: results hold for text of characters that are the same in all of them (is_old).
"""
import re
import struct
import unicodedata

NONE, M64 = 0xffffffff, 2 ** 64 - 1
WHITE = "\t\n\v\f\r \x85\xa0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a\u2028\u2029\u202f\u205f\u3000"
SECTIONS = ("token_ends token_flags token_bytes byte_ids index merges added added_bytes steps step_bytes post content_ends content_bytes "
            "normalizers normalizer_bytes first_ends first_bytes texts text_bytes cuts word").split()
PAIRS = (("token_ends", "token_bytes"), ("content_ends", "content_bytes"), ("first_ends", "first_bytes"))


class Malformed(Exception):
    pass


class Unsupported(Exception):
    pass


def need(holds, what):
    if not holds:
        raise Malformed(what)


def is_old(text):
    """Characters of Unicode 3.2 that are still what they were."""
    return all(unicodedata.category(c) == unicodedata.ucd_3_2_0.category(c) != "Cn" for c in text)


# ---- XXH3-128 of more than 240 bytes, no seed ----

SECRET = bytes.fromhex(
    "b8fe6c3923a44bbe7c01812cf721ad1cded46de9839097db7240a4a4b7b3671fcb79e64eccc0e578825ad07dccff7221b8084674f743248ee03590e6813a264c"
    "3c2852bb91c300cb88d0658b1b532ea371644897a20df94e3819ef46a9deacd8a8fa763fe39c343ff9dcbbc7c70b4f1d8a51e04bcdb45931c89f7ec9d9787364"
    "eac5ac8334d3ebc3c581a0fffa1363eb170ddd51b7f0da49d316552629d4689e2b16be587d47a1fc8ff8b8d17ad031ce45cb3a8f95160428afd7fbcabb4b407e")
P32 = 0x9e3779b1, 0x85ebca77, 0xc2b2ae3d
P64 = 0x9e3779b185ebca87, 0xc2b2ae3d27d4eb4f, 0x165667b19e3779f9, 0x85ebca77c2b2ae63, 0x27d4eb2f165667c5


def lanes(data, at):
    return struct.unpack_from("<8Q", data, at)


def accumulate(acc, data, at, keys):
    for i, (value, key) in enumerate(zip(lanes(data, at), keys)):
        key ^= value
        acc[i ^ 1] += value
        acc[i] = acc[i] + (key & NONE) * (key >> 32) & M64


def merge(acc, at, start):
    for a, b, x, y in zip(acc[::2], acc[1::2], lanes(SECRET, at)[::2], lanes(SECRET, at)[1::2]):
        product = ((a ^ x) & M64) * ((b ^ y) & M64)
        start += product & M64 ^ product >> 64
    start &= M64
    start = (start ^ start >> 37) * 0x165667919e3779f9 & M64
    return start ^ start >> 32


def xxh3_128(data):
    n = len(data)
    assert n > 240
    keys = [lanes(SECRET, 8 * i) for i in range(16)]
    acc = [P32[2], P64[0], P64[1], P64[2], P64[3], P32[1], P64[4], P32[0]]
    stripes = (n - 1) // 64
    for s in range(stripes):
        accumulate(acc, data, 64 * s, keys[s % 16])
        if s % 16 == 15:
            acc = [((a ^ (a & M64) >> 47 ^ k) & M64) * P32[0] & M64 for a, k in zip(acc, lanes(SECRET, 128))]
    accumulate(acc, data, n - 64, lanes(SECRET, 121))
    low = merge(acc, 11, n * P64[0] & M64)
    return struct.pack(">QQ", merge(acc, 117, ~(n * P64[1]) & M64), low)


# ---- PCRE2 patterns for re ----

def span_items(spans):
    return "".join(f"\\U{a:08x}-\\U{b:08x}" for a, b in spans)


def category_spans(known={}):
    """category -> [(first, last)]"""
    if not known:
        first = 0
        for c in range(1, 0x110001):
            if c == 0x110000 or unicodedata.category(chr(c)) != unicodedata.category(chr(first)):
                known.setdefault(unicodedata.category(chr(first)), []).append((first, c - 1))
                first = c
    return known


def property_items(name):
    # Alphabetic: letters, letter numbers, circled letters, and some marks; all of those stand beside it as \p{M} where it is used
    starts = ("L", "Nl") if name == "Alphabetic" else name
    circled = ((0x24b6, 0x24e9), (0x1f130, 0x1f149), (0x1f150, 0x1f169), (0x1f170, 0x1f189)) if name == "Alphabetic" else ()
    found = [span for category, spans in category_spans().items() if category.startswith(starts) for span in spans]
    if not found:  # no general category
        raise Unsupported(name)
    return span_items(found + list(circled))


def escape(m):
    if m[1]:
        return f"\\U{int(m[1], 16):08x}"
    if m[2]:
        return property_items(m[2])
    if m[0][1].isalnum() and m[0][1] not in "nrtfv" or m[0] == "(*":
        raise Unsupported(m[0])
    return m[0]


def pattern(source):
    source = source.decode()
    if "Alphabetic" in source and "\\p{M}" not in source:
        raise Unsupported(source)
    return re.compile(re.sub(r"\\x\{([0-9a-f]+)\}|\\p\{(\w+)\}|\\.|\(\*", escape, source, flags=re.DOTALL))


def matches(expression, text):
    search, last = 0, None
    while search <= len(text):
        m = expression.search(text, search)
        if not m:
            return
        if m.start() == m.end() == last:
            search += 1
            continue
        yield m.span()
        search = last = m.end()


# ---- normalizers ----

LETTERS, spare = [], 0x100
for b in range(256):
    own = 0x21 <= b <= 0x7e or 0xa1 <= b <= 0xac or b >= 0xae
    LETTERS.append(chr(b if own else spare))
    spare += not own


def letters(text):
    return "".join(LETTERS[b] for b in text.encode())


def lowercase(text):
    return "".join(c.lower() for c in text)


def in_any(c, *spans):
    return any(a <= ord(c) <= b for a, b in spans)


def bert(text, flags):
    if flags & 4:
        text = "".join(c for c in text if c in "\t\n\r" or c != "\ufffd" and unicodedata.category(c) not in ("Cc", "Cf", "Co"))
        text = "".join(" " if c in WHITE else c for c in text)
    if flags & 8:
        chinese = ((0x3400, 0x4dbf), (0x4e00, 0x9fff), (0xf900, 0xfaff), (0x20000, 0x2a6df), (0x2a700, 0x2b73f), (0x2b740, 0x2b81f),
                   (0x2b920, 0x2ceaf), (0x2f800, 0x2fa1f))
        text = "".join(f" {c} " if in_any(c, *chinese) else c for c in text)
    if flags & 16:
        text = "".join(c for c in unicodedata.normalize("NFD", text) if unicodedata.category(c) != "Mn")
    return lowercase(text) if flags & 32 else text


def nmt(text):
    text = (c for c in text if not in_any(c, (1, 8), (11, 11), (14, 31), (127, 127), (0x8f, 0x8f), (0x9f, 0x9f)))
    return "".join(" " if c in "\t\n\f\r\u1680\u2028\u2029\u2581\ufeff\ufffd" or in_any(c, (0x200b, 0x200f)) else c for c in text)


def replace(text, expression, what, content):
    if not text:
        return text
    if expression is None:
        return text.replace(what, content)  # an empty one: before each character and at the end
    out, at = "", 0
    for begin, end in matches(expression, text):
        out += text[at:begin] + content
        at = end
    return out + text[at:]


class Normalizer:
    def __init__(self, kind, flags, regex, what, content):
        self.kind, self.flags, self.what, self.content = kind, flags, what.decode(), content.decode()
        self.expression = pattern(what) if regex else None

    def __call__(self, text, begins=True, ends=True):
        """begins, ends: of the segment"""
        if self.kind <= 4:
            return unicodedata.normalize(("NFC", "NFD", "NFKC", "NFKD")[self.kind - 1], text)
        if self.kind == 6:
            return replace(text, self.expression, self.what, self.content)
        if self.kind == 7:
            return self.content + text if text and begins else text
        if self.kind == 8:
            text = text.lstrip(WHITE) if self.flags & 1 and begins else text
            return text.rstrip(WHITE) if self.flags & 2 and ends else text
        if self.kind == 9:
            return "".join(c for c in text if unicodedata.category(c)[0] != "M")
        if self.kind == 10:
            return bert(text, self.flags)
        return {5: lowercase, 11: nmt, 12: letters}[self.kind](text)


# ---- steps of the pre-tokenizer: pieces are (text, first) ----

def split(expression, behaviour, inverted, text):
    """[(begin, end)] of the parts, none empty"""
    events, at = [], 0
    for begin, end in matches(expression, text):
        if at < begin:
            events.append((at, begin, inverted))
        events.append((begin, end, not inverted))
        at = end
    if at < len(text):
        events.append((at, len(text), inverted))
    parts, i = [], 0
    while i < len(events):
        begin, end, match = events[i]
        i += 1
        while i < len(events) and (match == events[i][2] if behaviour == 4 else
                                   not match and events[i][2] if behaviour == 2 else match and not events[i][2] and behaviour == 3):
            end = events[i][1]
            i += 1
            if behaviour != 4:
                break
        if begin < end and not (behaviour == 0 and match):
            parts.append((begin, end))
    return parts


class Step:
    def __init__(self, kind, behaviour, inverted, what):
        need(behaviour <= 4 and inverted <= 1 and what if kind == 1 else behaviour <= 2 and not inverted and 1 <= len(what) <= 4 if kind == 3
             else kind in (2, 4) and not behaviour and not inverted and not what, "a step")
        self.kind, self.behaviour, self.inverted, self.what = kind, behaviour, inverted, what.decode()
        self.expression = pattern(what) if kind == 1 else None

    def __call__(self, text, first):
        if self.kind == 1:
            return [(text[a:b], first and a == 0) for a, b in split(self.expression, self.behaviour, bool(self.inverted), text)]
        if self.kind == 2:
            return [(text if text.startswith(" ") else " " + text, first)]
        if self.kind == 4:
            return [(letters(text), first)]
        marked = text.startswith((" ", self.what))
        before = self.what if not marked and (self.behaviour == 1 or self.behaviour == 2 and first) else ""
        return [(before + text.replace(" ", self.what), first)]


# ---- the file ----

def mix(h):
    h = h * 0x9e3779b97f4a7c15 & M64
    return h ^ h >> 29


def hash_content(data):
    h, whole = len(data), len(data) // 8 * 8
    for at in range(0, whole, 8):
        h = mix(h ^ struct.unpack_from("<Q", data, at)[0])
    return mix(mix(h ^ int.from_bytes(data[whole:], "little")))


def slots(hashed, count, probes):
    home = (hashed >> 32) * count >> 32
    return ((home + i) % count for i in range(probes + 1 if count else 0))


def utf8(data):
    try:
        return data.decode()
    except UnicodeDecodeError:
        raise Malformed("text that is not UTF-8")


class Tokenizer:
    def __init__(self, data):
        self.open_sections(data)
        self.open_tokens()
        self.open_added()
        self.open_steps()

    # -- opening --

    def open_sections(self, data):
        need(len(data) >= 512 and data[:8] == b"TPTOKEN\n" and struct.unpack_from("<IIQ", data, 8) == (2, 512, len(data)), "header")
        need(xxh3_128(data[40:]) == data[24:40], "hash")
        (self.model, self.tokens, self.index_probes, self.merge_probes, self.raw, self.before, self.flags, self.unk, self.mode, self.strip,
         self.strip_begin, self.strip_end) = struct.unpack_from("<12I", data, 40)
        need(self.model in (1, 2) and 1 <= self.tokens <= 1 << 22 and max(self.index_probes, self.merge_probes) <= 1024, "model")
        need(self.flags < 8 and self.mode in (1, 2, 3) and self.strip <= 0x10ffff and self.is_id(self.unk) and not any(data[88:128]), "header")
        end = 512
        for i in range(24):
            offset, size = struct.unpack_from("<QQ", data, 128 + 16 * i)
            need(size or not offset, "an empty section")
            if i < len(SECTIONS):
                setattr(self, SECTIONS[i], data[offset:offset + size])
            if size:
                need(i < len(SECTIONS) and offset == (end + 63) // 64 * 64 and not any(data[end:offset]), "sections")
                end = offset + size
        need(end == len(data), "file bytes")

    def is_id(self, number, none=True):
        return number < self.tokens or none and number == NONE

    def numbers(self, section, each, most):
        """The rows of a section, each of so many numbers."""
        data = getattr(self, section)
        need(len(data) % (4 * each) == 0 and len(data) // (4 * each) <= most, section)
        return list(struct.iter_unpack(f"<{each}I", data))

    def cut(self, data, ends, most=None):
        """data by ends, which never fall and end with it"""
        last, out = 0, []
        for end in ends:
            need(last <= end <= len(data) and (most is None or end - last <= most), "ends")
            out.append(data[last:end])
            last = end
        need(last == len(data), "ends")
        return out

    def open_tokens(self):
        need(len(self.token_flags) == self.tokens and len(self.byte_ids) == 1024 and len(self.cuts) in (0, 8192), "token tables")
        forms = []
        for ends, data in PAIRS:
            rows = [end for end, in self.numbers(ends, 1, 1 << 22)]
            need(len(rows) == self.tokens or ends != "token_ends" and not rows, ends)
            forms.append(self.cut(getattr(self, data), rows, 65536) if rows else forms[0])
        self.form, self.content, self.first_form = forms
        self.of_byte = struct.unpack("<256I", self.byte_ids)
        need(all(map(self.is_id, self.of_byte)), "byte ids")
        self.slots, self.pairs = self.numbers("index", 1, 1 << 24), self.numbers("merges", 4, 1 << 25)

    def open_added(self):
        rows = self.numbers("added", 4, 1 << 22)
        need(self.raw <= len(rows), "added tokens")
        self.word_class = pattern(self.word) if self.word else None
        groups = [], []
        for i, (content, (_, id, flags, zero)) in enumerate(zip(self.cut(self.added_bytes, [r[0] for r in rows], 1024), rows)):
            need(content and self.is_id(id, False) and flags < 16 and not zero and (self.word or not flags & 4), "an added token")
            group = groups[i >= self.raw]
            need(not group or group[-1][0].encode() < content, "order of added tokens")
            group.append((utf8(content), id, flags))
        # alternatives longest first: of several contents at one place re takes the first
        self.groups = [(re.compile("|".join(re.escape(c) for c, _, _ in sorted(g, key=lambda t: -len(t[0])))) if g else None,
                        {c: (id, flags) for c, id, flags in g}) for g in groups]

    def open_steps(self):
        rows = self.numbers("steps", 4, 16)
        self.walk = [Step(*row[:3], utf8(what).encode()) for row, what in zip(rows, self.cut(self.step_bytes, [r[3] for r in rows]))]
        rows = self.numbers("normalizers", 6, 16)
        parts = self.cut(self.normalizer_bytes, [end for r in rows for end in r[3:5]])
        need(all(1 <= r[0] <= 12 and r[1] < 64 and r[2] <= 1 and not r[5] for r in rows), "normalizers")
        self.normal = [Normalizer(*r[:3], utf8(w).encode(), utf8(c).encode()) for r, w, c in zip(rows, parts[::2], parts[1::2])]
        self.around = [id for id, in self.numbers("post", 1, 64)]
        need(self.before <= len(self.around) and all(self.is_id(id, False) for id in self.around), "post")
        rows = self.numbers("texts", 4, 256)
        need(all(1 <= r[0] <= 3 and not r[3] for r in rows), "texts")
        parts = self.cut(self.text_bytes, [end for r in rows for end in r[1:3]])
        self.texts = [(r[0], n, v) for r, n, v in zip(rows, parts[::2], parts[1::2])]

    # -- lookups --

    def find(self, content):
        for slot in slots(hash_content(content), len(self.slots), self.index_probes):
            entry = self.slots[slot][0]
            if not 0 < entry <= self.tokens:
                return NONE
            if self.content[entry - 1] == content:
                return entry - 1
        return NONE

    def find_pair(self, left, right):
        """(rank, id) of what they merge to, or None"""
        for slot in slots(mix(mix(left << 32 | right)), len(self.pairs), self.merge_probes):
            a, b, rank, id = self.pairs[slot]
            if a == NONE:
                return None
            if (a, b) == (left, right):
                return (rank, id) if rank != NONE and self.is_id(id, False) else None
        return None

    # -- text to ids --

    def encode(self, text, around=True, data=None):
        """text: str or bytes; data: of every byte, whether it is data"""
        raw, ids, at = text.encode() if isinstance(text, str) else text, [], 0
        data = data or bytes(len(raw))
        while at < len(raw):
            try:
                run, bad = raw[at:].decode(), len(raw)
            except UnicodeDecodeError as why:
                bad = at + why.start
                run = raw[at:bad].decode()
            if run:
                of_byte = iter(data[at:bad])
                ids += self.encode_run(run, [any([next(of_byte) for _ in c.encode()]) for c in run], at == 0)
            if bad < len(raw):
                id = self.of_byte[raw[bad]]
                ids += [i for i in (id if id != NONE else self.unk,) if i != NONE]
            at = bad + 1
        return self.around[:self.before] + ids + self.around[self.before:] if around else ids

    def is_word(self, c):
        return bool(c) and bool(self.word_class.search(c))

    def leftmost(self, group, text, data, scan):
        """(begin, content) of the longest content at the first place where one may be found"""
        expression, tokens = self.groups[group]
        while expression and (m := expression.search(text, scan)):
            for n in range(len(m[0]), 0, -1):
                content = text[m.start():m.start() + n]
                if content in tokens and not (tokens[content][1] & 8 and any(data[m.start():m.start() + n])):
                    return m.start(), content
            scan = m.start() + 1
        return None

    def take(self, group, text, data):
        """(begin, end, id or None) of added tokens and what lies between"""
        scan = start = 0
        while found := self.leftmost(group, text, data, scan):
            begin, content = found
            scan = end = begin + len(content)
            id, flags = self.groups[group][1][content]
            if flags & 4 and (self.is_word(text[begin - 1:begin]) or self.is_word(text[end:end + 1])):
                continue
            if flags & 1:
                begin = max(start, len(text[:begin].rstrip(WHITE)))
            if flags & 2:
                end = len(text) - len(text[end:].lstrip(WHITE))
            if begin >= end:
                continue
            if start < begin:
                yield start, begin, None
            yield begin, end, id
            start = end
        if start < len(text):
            yield start, len(text), None

    def normalize(self, text, *ends):
        for step in self.normal:
            text = step(text, *ends)
        return text

    def origins(self, segment, data, normal):
        """For every character of normal text, whether it is data."""
        made, of_made, at = "", [], 0
        while at < len(segment):
            end = at + 1
            while end < len(segment) and data[end] == data[at]:
                end += 1
            part = self.normalize(segment[at:end], at == 0, end == len(segment))
            made += part
            of_made += [data[at]] * len(part)
            at = end
        return of_made if made == normal else [any(data)] * len(normal)

    def encode_run(self, run, data, first):
        ids = []
        for a, b, id in self.take(0, run, data):
            if id is not None:
                ids.append(id)
                continue
            normal = self.normalize(run[a:b])
            is_first = first and a == 0 and self.normalize(run[a]) != ""
            for c, d, id in self.take(1, normal, self.origins(run[a:b], data[a:b], normal)):
                ids += [id] if id is not None else self.encode_piece(normal[c:d], is_first and c == 0)
        return ids

    def encode_piece(self, text, first):
        pieces = [(text, first)]
        for step in self.walk:
            pieces = [part for piece in pieces for part in step(*piece)]
        return [id for piece, _ in pieces for id in self.encode_model(piece)]

    def symbols(self, piece):
        out, pending = [], []
        for c in piece if self.model == 2 else (bytes([b]) for b in piece.encode()):
            raw = c.encode() if self.model == 2 else c
            id = self.find(raw) if self.model == 2 else self.of_byte[raw[0]]
            spelled = [self.of_byte[b] for b in raw]
            if id != NONE:
                out += pending + [id]
                pending = []
            elif self.flags & 1 and NONE not in spelled:
                out += spelled
            elif self.unk != NONE:
                out += pending if not self.flags & 2 else []
                pending = [self.unk]
        return out + pending

    def encode_model(self, piece):
        if self.flags & 4 and (id := self.find(piece.encode())) != NONE:
            return [id]
        ids = self.symbols(piece)
        found = [self.find_pair(*pair) for pair in zip(ids, ids[1:])]
        while True:
            best = min((f[0], i) for i, f in enumerate(found) if f) if any(found) else None
            if best is None:
                return ids
            i = best[1]
            ids[i:i + 2] = [found[i][1]]
            del found[i]
            for k in (i - 1, i):
                if 0 <= k < len(found):
                    found[k] = self.find_pair(ids[k], ids[k + 1])

    # -- ids to text --

    def decode(self, ids, special=True):
        out, run = [], b""
        wanted = [id for id in ids if id < self.tokens and self.token_flags[id] & 1 and (special or not self.token_flags[id] & 2)]
        for i, id in enumerate(wanted):
            data = self.form[id] if i else self.first_form[id]
            if self.mode == 2 and self.token_flags[id] & 8 and len(data) == 1:
                run += data
                continue
            out += [self.end_run(run), b" " if i and self.mode == 3 else b"", data]
            run = b""
        text = b"".join(out) + self.end_run(run)
        if self.strip:
            text = self.stripped(text, chr(self.strip).encode())
        return text.decode("utf-8", "replace")

    @staticmethod
    def end_run(run):
        try:
            run.decode()
            return run
        except UnicodeDecodeError:
            return "\ufffd".encode() * len(run)

    def stripped(self, text, char):
        for _ in range(self.strip_begin):
            if not text.startswith(char):
                break
            text = text[len(char):]
        for _ in range(self.strip_end):
            if not text.endswith(char):
                break
            text = text[:-len(char)]
        return text
