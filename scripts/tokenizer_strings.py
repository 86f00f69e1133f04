"""Strings that try a tokenizer: real lines, mixed scripts, emoji, marks, long runs, control tokens inside text.

strings(seed, count, lines, added, pieces) gives the same ones for the same arguments. No standard library
beyond random, so that goldens do not depend on a Python's Unicode tables."""
import random

SCRIPTS = [(0x20, 0x7e), (0xa0, 0x17f), (0x250, 0x2af), (0x370, 0x3ff), (0x400, 0x4ff), (0x531, 0x58f), (0x591, 0x5f4), (0x600, 0x6ff),
           (0x900, 0x97f), (0x980, 0x9fe), (0xe01, 0xe5b), (0x1000, 0x109f), (0x10a0, 0x10ff), (0x1100, 0x11ff), (0x13a0, 0x13fd),
           (0x1e00, 0x1fff), (0x2000, 0x206f), (0x2070, 0x209c), (0x20a0, 0x20bf), (0x2100, 0x218b), (0x2190, 0x22ff), (0x2460, 0x24ff),
           (0x2500, 0x25ff), (0x2c00, 0x2c7f), (0x3000, 0x303f), (0x3041, 0x309f), (0x30a0, 0x30ff), (0x3400, 0x34ff), (0x4e00, 0x9fff),
           (0xa640, 0xa69f), (0xa720, 0xa7ff), (0xac00, 0xd7a3), (0xf900, 0xfaff), (0xfb00, 0xfb4f), (0xfe20, 0xfe2f), (0xff01, 0xffee),
           (0x10330, 0x1034a), (0x10400, 0x1044f), (0x1d400, 0x1d7ff), (0x1f100, 0x1f1ff), (0x20000, 0x200ff), (0x1e900, 0x1e95f)]
EMOJI = [0x1f600, 0x1f602, 0x2764, 0x1f468, 0x1f469, 0x1f467, 0x1f466, 0x1f3f3, 0x1f308, 0x1f44d, 0x1f9d1, 0x1f52c, 0x261d, 0x1f1e9,
         0x1f1ea, 0x1f1fa, 0x1f1f8, 0x31, 0x23]
JOINERS = [0x200d, 0xfe0f, 0x1f3fb, 0x1f3ff, 0x20e3, 0xfe0e, 0xe0067, 0xe007f]
MARKS = [(0x300, 0x36f), (0x483, 0x487), (0x591, 0x5bd), (0x610, 0x61a), (0x64b, 0x65f), (0x93c, 0x94d), (0x9bc, 0x9cd), (0xe38, 0xe4e),
         (0xf71, 0xf84), (0x1ab0, 0x1ace), (0x1dc0, 0x1dff), (0x20d0, 0x20f0), (0x302a, 0x302f), (0x3099, 0x309a), (0x1d165, 0x1d169)]
ODD = [0x0, 0x1, 0x7, 0x8, 0x9, 0xa, 0xb, 0xc, 0xd, 0x1b, 0x1c, 0x1f, 0x7f, 0x80, 0x85, 0x9f, 0xa0, 0xad, 0x1680, 0x180e, 0x2000, 0x2009,
       0x200b, 0x200c, 0x200d, 0x200e, 0x2028, 0x2029, 0x202e, 0x202f, 0x205f, 0x2060, 0x3000, 0xd7ff, 0xe000, 0xf8ff, 0xfdd0, 0xfeff,
       0xfff9, 0xfffc, 0xfffd, 0xfffe, 0xffff, 0x10000, 0x1fffe, 0xe0001, 0x10fffd, 0x10ffff, 0x2581, 0x120, 0x10a, 0x130, 0x131, 0x17f,
       0x1e9e, 0x3a3, 0x3c2, 0x212a, 0x2126, 0x1c89, 0xa7dc, 0x10d50, 0x1e4ef]
WORDS = ("the of and to in is was he for it with as his on be at by had not are but from or have an they which one you were all her she "
         "there would their we him been has when who will no more if out so up said what its about than into them can only other time new "
         "Hello World token izer don't I'll we've IT'S THEY'RE o'clock naïve café Straße ΣΊΣΥΦΟΣ Ωμέγα İstanbul ǅ ﬁn ½ x² № привет МИР "
         "слово こんにちは 世界 日本語 안녕 하세요 مرحبا שלום नमस्ते สวัสดี Tiếng Việt étude 12 345 6,789.01 0x1F 1e-5 2024-07-26 v1.2.3 "
         "https://example.org/a?b=c&d=%20 user@example.org #tag @name $HOME /usr/bin ~/x C:\\dir foo_bar fooBar FOO __init__ a+b==c; {}[]() "
         "<0x0A> <0xFF> <unk> <s> </s> ▁ ▁the Ġthe").split(" ")
GAPS = [" ", " ", " ", " ", "  ", "   ", "\n", "\n\n", "\t", " \n", "\r\n", "\u00a0", "", "-", ", ", ". ", "\u3000"]


def _char(rng):
    low, high = rng.choice(SCRIPTS)
    return chr(rng.randint(low, high))


def _any_char(rng):
    while True:
        c = rng.randrange(0x110000)
        if not 0xd800 <= c < 0xe000:
            return chr(c)


def _real(rng, lines, added, pieces):
    line = rng.choice(lines)
    if rng.random() < 0.5:
        return line
    a, b = sorted((rng.randint(0, len(line)), rng.randint(0, len(line))))
    return line[a:b]


def _mixed(rng, lines, added, pieces):
    out = []
    for _ in range(rng.randint(1, 6)):
        low, high = rng.choice(SCRIPTS)
        out += [chr(rng.randint(low, high)) for _ in range(rng.randint(1, 8))] + [rng.choice(GAPS)]
    return "".join(out)


def _emoji(rng, lines, added, pieces):
    return "".join(chr(rng.choice(EMOJI if rng.random() < 0.6 else JOINERS)) if rng.random() < 0.9 else rng.choice(WORDS)
                   for _ in range(rng.randint(1, 20)))


def _marks(rng, lines, added, pieces):
    out = []
    for _ in range(rng.randint(1, 8)):
        out.append(_char(rng))
        for _ in range(rng.randint(0, 5 if rng.random() < 0.95 else 60)):
            low, high = rng.choice(MARKS)
            out.append(chr(rng.randint(low, high)))
    return "".join(out)


def _run(rng, lines, added, pieces):
    unit = rng.choice([_char(rng), rng.choice(WORDS), rng.choice(GAPS), chr(rng.choice(ODD)), "a", " ", "=", "\n", "ab", "▁"])
    return rng.choice(["", "x", " "]) + unit * rng.randint(2, 40 if rng.random() < 0.9 else 700) + rng.choice(["", "x", " ", "\n"])


def _added(rng, lines, added, pieces):
    out = []
    for _ in range(rng.randint(1, 6)):
        t = rng.choice(added)
        if rng.random() < 0.15:
            t = t[:rng.randint(0, len(t))]
        if rng.random() < 0.1:
            t = t.upper() if rng.random() < 0.5 else t.lower()
        out += [rng.choice(["", "", " ", "  ", "\n", "a", "_", "é", rng.choice(WORDS), rng.choice(lines)[:20], _char(rng)]), t]
    return "".join(out) + rng.choice(["", " ", "x", "\n\n", rng.choice(WORDS)])


def _odd(rng, lines, added, pieces):
    return "".join(chr(rng.choice(ODD)) if rng.random() < 0.6 else rng.choice(WORDS) if rng.random() < 0.5 else _char(rng)
                   for _ in range(rng.randint(1, 16)))


def _words(rng, lines, added, pieces):
    out = []
    for _ in range(rng.randint(1, 14)):
        w = rng.choice(WORDS)
        out += [rng.choice([w, w, w.upper(), w.lower(), w.capitalize()]), rng.choice(GAPS)]
    return "".join(out)


def _case(rng, lines, added, pieces):
    w = rng.choice(lines)[:60]
    return "".join(c.upper() if rng.random() < 0.5 else c.lower() for c in w) + rng.choice(["'S", "'ſ", "'LL", "'Re", "'d", "’s", "''t"])


def _any(rng, lines, added, pieces):
    return "".join(_any_char(rng) for _ in range(rng.randint(1, 12)))


def _pieces(rng, lines, added, pieces):
    return "".join(rng.choice(pieces) + rng.choice(["", "", "", " "]) for _ in range(rng.randint(1, 12)))


KINDS = [_real, _real, _real, _mixed, _mixed, _emoji, _marks, _run, _added, _added, _odd, _words, _words, _case, _any, _pieces]


def strings(seed, count, lines, added, pieces):
    rng = random.Random(seed)
    found = ["", " ", "  ", "\n", "\u0000", "▁", "a", "é", "\ufffd", " a", "a "] + ["".join(map(chr, ODD))]
    kinds = [k for k in KINDS if (lines or k not in (_real, _case, _added)) and (added or k is not _added) and (pieces or k is not _pieces)]
    while len(found) < count:
        found.append(rng.choice(kinds)(rng, lines, added, pieces))
    return found[:count]
