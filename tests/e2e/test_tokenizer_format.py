#!/usr/bin/env python3
"""The compiled tokenizer as it is stored: by a reader written from docs/format.md, and by every flipped byte."""
import concurrent.futures
import glob
import gzip
import json
import os
import random
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))
import harness
import read_tokenizer
from harness import Folder, error_line, tprun, tpshard

STRINGS = 4 * harness.SHARE  # one of so many
MADE_UP = int(os.environ.get("MADE_UP", "55"))


def strings():
    with gzip.open(os.path.join(harness.DATA, "tokenizers", "strings.jsonl.gz")) as f:
        found = [json.loads(line) for line in f]
    return [s for s in found if read_tokenizer.is_old(s)]


def tokenize(compiled, values, *options):
    done = tprun("tokenize", compiled, *options, input="".join(json.dumps(v) + "\n" for v in values).encode())
    return [json.loads(line) for line in done.stdout.splitlines()]


def compare(what, values, ours, theirs):
    assert len(values) == len(ours) == len(theirs), what
    for value, a, b in zip(values, ours, theirs):
        assert a == b, f"{what}: {json.dumps(value)[:300]}: {json.dumps(a)[:300]} by the document, {json.dumps(b)[:300]} by tprun"


def compare_one(folder, texts, d):
    name = os.path.basename(folder)
    compiled = os.path.join(d, name + ".tpt")
    tpshard("tokenizer", folder, "-o", compiled, "-q")
    with open(compiled, "rb") as f:
        reader = read_tokenizer.Tokenizer(f.read())
    ids = tokenize(compiled, texts)
    compare(name, texts, [reader.encode(t) for t in texts], ids)
    compare(name + " --no-special", texts[:50], [reader.encode(t, False) for t in texts[:50]], tokenize(compiled, texts[:50], "--no-special"))
    # what no text gives: parts of characters, holes, ids that are none, in any order
    ids += [[(a * 7919 + b * 104729) % (reader.tokens + 3) for b in range(a)] for a in range(60)]
    compare(name + " decoded", ids, [reader.decode(i) for i in ids], tokenize(compiled, ids, "--decode"))
    compare(name + " decoded, --no-special", ids, [reader.decode(i, False) for i in ids], tokenize(compiled, ids, "--decode", "--no-special"))
    return reader


def test_a_reader_written_from_the_document_agrees_both_ways():
    texts = strings()[::STRINGS]
    folders = sorted(os.path.dirname(p) for p in glob.glob(os.path.join(harness.DATA, "tokenizers", "*", "tokenizer.json")))
    assert len(texts) * harness.SHARE > 150 and len(folders) >= 10
    with Folder() as d:
        for folder in folders:
            compare_one(folder, texts, d)
    print(f"    {len(folders)} tokenizers, {len(texts)} texts")


def test_the_demo_s_tokenizer_too_with_its_texts():
    with open(os.path.join(harness.DATA, "demo", "heldout.txt"), encoding="utf-8") as f:
        held = f.read()
    texts = [held[at:at + 400] for at in range(0, len(held), 400 * harness.SHARE)][:100] + strings()[1::STRINGS]
    with open(os.path.join(harness.DEMO, "tokenizer_config.json")) as f:
        config = json.load(f)
    with Folder() as d:
        found = {(kind, name.decode()): value.decode() for kind, name, value in compare_one(harness.DEMO, texts, d).texts}
    assert found.pop((1, "default"), None) == config.get("chat_template")
    assert found == {(2, k): v if isinstance(v, str) else v["content"] for k, v in config.items() if k.endswith("_token") and v}, found


# ---- made up: what published tokenizers do not combine ----

ALPHABET = "abxA- \n"
OTHERS = ALPHABET * 3 + "▁éß日\u0301\u3000İ＃"  # é has all its bytes in the vocabulary, 日 has not


def made_up(rng):
    """A random tokenizer.json over a few characters; some are refused."""
    def some(population, most):
        return [rng.choice(population) for _ in range(rng.randrange(most + 1))]
    level = rng.random() < 0.3  # of bytes
    letters = [read_tokenizer.letters(c) if level else c for c in ALPHABET + "▁"]
    pairs = [[a, b] for a in letters for b in letters if a + b not in letters and rng.random() < 0.5]
    pairs += [[a + b, c] for a, b in pairs for c in letters if rng.random() < 0.1]
    rng.shuffle(pairs)
    bytes_known = ["<0xC3>", "<0xA9>", "<0x0A>", "<0xE6>"]
    names = dict.fromkeys(["<unk>", *letters, *bytes_known, *(a + b for a, b in pairs)])
    vocab = {name: i + (i > 20) for i, name in enumerate(names)}  # with a hole
    names, added = list(vocab), {}
    for content in {"".join(some(OTHERS, 3)) for _ in range(5)} - {""}:
        flags = {k: rng.random() < 0.4 for k in ("lstrip", "rstrip", "single_word", "normalized", "special")}
        added[content] = dict(id=vocab.get(content, 1000 + len(added)), content=content, **flags)
    metaspace = dict(type="Metaspace", replacement="▁", prepend_scheme=rng.choice(("always", "first", "never")), split=rng.random() < 0.5)
    regexes = [r"x*", r"[ab]+", r"\s+", r"(?=-)", r"\p{Lu}|\p{Ll}a", r"(?i:ax)|\n", r"(?<=a)b", r"\s+(?!\S)|\s+"]
    split = dict(type="Split", pattern=rng.choice([{"Regex": rng.choice(regexes)}, {"String": rng.choice(("a", " ", "-x"))}]), invert=rng.random() < 0.4,
                 behavior=rng.choice(("Removed", "Isolated", "MergedWithPrevious", "MergedWithNext", "Contiguous")))
    steps = some([metaspace, split, split, dict(type="Digits", individual_digits=True), dict(type="Punctuation", behavior="Contiguous"),
                  dict(type="WhitespaceSplit"), dict(type="Whitespace"), dict(type="CharDelimiterSplit", delimiter="-")], 2)
    if level:
        steps.append(dict(type="ByteLevel", add_prefix_space=rng.random() < 0.5, trim_offsets=False, use_regex=rng.random() < 0.5))
    normalizers = some([*(dict(type=t) for t in ("NFC", "NFD", "NFKC", "NFKD", "Lowercase", "StripAccents", "Nmt", "ByteLevel")),
                        dict(type="Replace", pattern={"Regex": rng.choice(regexes)}, content=rng.choice(("", "b", "x ", "$0"))),
                        dict(type="Replace", pattern={"String": rng.choice(("", "a", " "))}, content=rng.choice(("", "▁", "ab"))),
                        dict(type="Prepend", prepend=rng.choice(("▁", "ab"))), dict(type="Strip", strip_left=True, strip_right=rng.random() < 0.5),
                        dict(type="BertNormalizer", clean_text=rng.random() < 0.5, handle_chinese_chars=True, strip_accents=rng.random() < 0.5,
                             lowercase=rng.random() < 0.5)], 2)
    strip = dict(type="Strip", content=rng.choice("a▁ "), start=rng.randrange(3), stop=rng.randrange(3))
    decoder = rng.choice([None, dict(metaspace, split=False), dict(type="ByteLevel", add_prefix_space=True, trim_offsets=True, use_regex=True), dict(
        type="Sequence", decoders=[dict(type="Replace", pattern={"String": "▁"}, content=" "), dict(type="ByteFallback"), dict(type="Fuse"), strip])])
    model = dict(type="BPE", vocab=vocab, merges=pairs, unk_token=rng.choice((None, "<unk>", "a")), byte_fallback=rng.random() < 0.5,
                 fuse_unk=rng.random() < 0.5, ignore_merges=rng.random() < 0.3)
    return dict(version="1.0", added_tokens=sorted(added.values(), key=lambda t: t["id"]), model=model, post_processor=None, decoder=decoder,
                normalizer=dict(type="Sequence", normalizers=normalizers), pre_tokenizer=dict(type="Sequence", pretokenizers=steps))


def bytes_and_data(rng, texts):
    """Texts in parts that are data or not, some with bytes that are not UTF-8 between"""
    out = []
    for text in texts:
        raw, data = b"", b""
        while text:
            n, is_data = rng.randrange(1, 9), rng.random() < 0.5
            part = text[:n].encode() + rng.choice((b"", b"", b"", b"\xff", b"\xe6\x97", b"\xc3", b"\xed\xa0\x80"))
            raw, data, text = raw + part, data + bytes([is_data]) * len(part), text[n:]
        out.append((raw, data))
    return [(raw, data) for raw, data in out if raw]


def encode_bytes(compiled, pairs):
    lines = "".join(f"{raw.hex()} {''.join(map(str, data))}\n" for raw, data in pairs)
    done = harness.run([os.path.join(harness.BUILD, "tests", "encode_bytes"), compiled], input=lines.encode())
    return [[int(id) for id in line.split()] for line in done.stdout.decode().split("\n")[:-1]]


def test_made_up_tokenizers_of_all_parts_agree_both_ways():
    made = refused = 0
    with Folder() as d:
        for seed in (*range(MADE_UP // harness.SHARE), 255):  # 255: normal text that its runs do not make
            rng = random.Random(seed)
            with open(d + "/tokenizer.json", "w") as f:
                json.dump(made_up(rng), f)
            if tpshard("tokenizer", d, "-o", d + "/t.tpt", "-q", status=None).returncode:
                refused += 1
                continue
            with open(d + "/t.tpt", "rb") as f:
                reader = read_tokenizer.Tokenizer(f.read())
            texts = ["".join(rng.choices(OTHERS, k=rng.randrange(30))) for _ in range(40)]
            ids = tokenize(d + "/t.tpt", texts)
            compare(f"made up {seed}", texts, [reader.encode(t) for t in texts], ids)
            pairs = bytes_and_data(rng, texts)
            compare(f"made up {seed}, data", [str(p) for p in pairs], [reader.encode(raw, False, data) for raw, data in pairs],
                    encode_bytes(d + "/t.tpt", pairs))
            ids += [rng.choices(range(reader.tokens + 2), k=rng.randrange(12)) for _ in range(40)]
            compare(f"made up {seed}, decoded", ids, [reader.decode(i) for i in ids], tokenize(d + "/t.tpt", ids, "--decode"))
            made += 1
    assert made > refused
    print(f"    {made} tokenizers, {refused} refused")


# ---- damage ----

def small(folder):
    """A tokenizer of some two kilobytes that has most sections."""
    vocab = {"a": 0, "b": 1, "ab": 2, "<0x0A>": 3, "▁": 4, "<unk>": 5}
    added = [dict(id=i, content=c, special=i == 6, normalized=i == 7, lstrip=i == 6, rstrip=False, single_word=False) for i, c in ((6, "<s>"), (7, "A"))]
    document = {"version": "1.0", "added_tokens": added, "normalizer": {"type": "Lowercase"},
                "pre_tokenizer": {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "first", "split": True},
                "post_processor": {"type": "TemplateProcessing", "single": [{"SpecialToken": {"id": "<s>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}],
                                   "special_tokens": {"<s>": {"id": "<s>", "ids": [6], "tokens": ["<s>"]}}},
                "decoder": {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "first", "split": True},
                "model": {"type": "BPE", "byte_fallback": True, "vocab": vocab, "merges": ["a b"]}}
    os.makedirs(folder)
    for name, value in (("tokenizer.json", document), ("tokenizer_config.json", {"chat_template": "{{ bos_token }}", "bos_token": "<s>"})):
        with open(os.path.join(folder, name), "w") as f:
            json.dump(value, f)


def is_malformed(data):
    try:
        read_tokenizer.Tokenizer(data)
    except read_tokenizer.Malformed:
        return True
    return False


def refuse_all(path, whole, places):
    """Each place in turn: one bit flipped, refused by tprun, which names the file; some of them by the document as well."""
    with open(path, "wb") as f:
        f.write(whole)
        f.flush()
        for at in places:
            bad = bytes([whole[at] ^ 1 << at % 8])
            os.pwrite(f.fileno(), bad, at)
            done = tprun("tokenize", path, status=None, input=b'"ab"\n')
            os.pwrite(f.fileno(), whole[at:at + 1], at)
            expected = 8 if 8 <= at < 12 else 7 if 24 <= at else 3  # version; hash; magic and sizes
            error_line(done, expected, os.path.basename(path))
            assert not done.stdout and (at % 16 or is_malformed(whole[:at] + bad + whole[at + 1:])), at
    return len(places)


def test_every_flipped_byte_is_refused_by_name():
    with Folder() as d:
        small(d + "/m")
        tpshard("tokenizer", d + "/m", "-o", d + "/t.tpt", "-q")
        with open(d + "/t.tpt", "rb") as f:
            whole = f.read()
        assert tokenize(d + "/t.tpt", ["Ab ab"]) == [read_tokenizer.Tokenizer(whole).encode("Ab ab")] != [[]]
        places = range(0, len(whole), harness.SHARE)
        with concurrent.futures.ProcessPoolExecutor(2) as pool:
            done = pool.map(refuse_all, (d + "/one.tpt", d + "/two.tpt"), (whole, whole), (places[::2], places[1::2]))
            print(f"    {sum(done)} flips in {len(whole)} bytes")


def test_with_a_right_hash_the_document_and_tprun_refuse_and_read_the_same():
    """A bit flipped and the hash made anew: what is checked beside it, and what the bit means where nothing is wrong."""
    texts, refused = ["Ab ab\n q", "<s>ab A"], 0
    with Folder() as d:
        small(d + "/m")
        tpshard("tokenizer", d + "/m", "-o", d + "/t.tpt", "-q")
        with open(d + "/t.tpt", "rb") as f:
            whole = f.read()
        for i, at in enumerate(range(40, len(whole), 13 * harness.SHARE)):
            data = bytearray(whole)
            data[at] ^= 1 << i % 8
            data[24:40] = read_tokenizer.xxh3_128(data[40:])
            with open(d + "/new.tpt", "wb") as f:
                f.write(data)
            done = tprun("tokenize", d + "/new.tpt", status=None, input="".join(json.dumps(t) + "\n" for t in texts).encode())
            if is_malformed(bytes(data)):
                error_line(done, 3, "new.tpt")
                refused += 1
            else:
                assert done.returncode == 0, (at, done.stderr)
                reader = read_tokenizer.Tokenizer(bytes(data))
                compare(f"byte {at}", texts, [reader.encode(t) for t in texts], [json.loads(line) for line in done.stdout.splitlines()])
        assert refused * harness.SHARE > 100, refused
        print(f"    {i + 1} files, {refused} of them refused")


def test_every_length_but_the_right_one_is_refused_by_name():
    with Folder() as d:
        small(d + "/m")
        tpshard("tokenizer", d + "/m", "-o", d + "/t.tpt", "-q")
        with open(d + "/t.tpt", "rb") as f:
            whole = f.read()
        for n in {*range(0, len(whole), 61), 7, 8, 39, 511, 512, 513, len(whole) - 1, len(whole) + 1, len(whole) + 64}:
            cut = (whole + bytes(64))[:n]
            with open(d + "/cut.tpt", "wb") as f:
                f.write(cut)
            done = tprun("tokenize", d + "/cut.tpt", status=None, input=b'"ab"\n')
            assert done.returncode in (3, 7), (n, done.returncode, done.stderr)
            error_line(done, done.returncode, "cut.tpt")
            assert is_malformed(cut), n


harness.main(globals())
