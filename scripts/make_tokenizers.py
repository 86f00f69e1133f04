#!/usr/bin/env python3
"""Make tests/data/tokenizers: small tokenizers of every kind, and what PyPI tokenizers makes of many strings.

    scripts/make_tokenizers.py [-o FOLDER]

Each is trained here on the text in the tree. NAME/tokenizer.json, and NAME/golden.jsonl.gz with lines
["encode", text, ids, decoded, decoded without control tokens] (0: the same as the text, the one before) and
["decode", ids, text, text without]. strings.jsonl.gz: the texts that all share, where text is their number.
"""
import argparse
import gzip
import json
import os
import random
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import tokenizer_strings
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from tokenizers import __version__ as version

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
SHARED_COUNT, OWN_COUNT, DECODE_COUNT = 1500, 300, 300
GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
LLAMA3 = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
SPM = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
BYTES = [f"<0x{b:02X}>" for b in range(256)]


def train(t, lines, size, alphabet, first):
    """first: tokens that are in the vocabulary before the merges."""
    t.train_from_iterator(lines, trainers.BpeTrainer(vocab_size=size, initial_alphabet=alphabet, special_tokens=first, show_progress=False,
                                                     limit_alphabet=200, max_token_length=12))


def tokenizer(lines, normalizer, pre, decoder, *, chars=False, first=(), size=420, added=(), post=None, train_pre=None, **model):
    """A tokenizer of these parts. chars: its symbols are characters, not bytes' letters; model: what BPE is told."""
    t = Tokenizer(models.BPE(**model))
    if normalizer:
        t.normalizer = normalizer
    t.pre_tokenizer = train_pre or pre or pre_tokenizers.Whitespace()
    train(t, lines, size, [] if chars else pre_tokenizers.ByteLevel.alphabet(), list(first))
    doc = json.loads(t.to_str())
    doc["added_tokens"] = []  # what training made special is in the vocabulary; which of it is a token is said below
    doc["model"].update(model)
    doc["pre_tokenizer"] = None
    t = Tokenizer.from_str(json.dumps(doc))
    if pre:
        t.pre_tokenizer = pre
    if decoder:
        t.decoder = decoder
    t.add_special_tokens([a for a in added if isinstance(a, str) or a.special])
    t.add_tokens([a for a in added if not isinstance(a, str) and not a.special])
    if post:
        t.post_processor = processors.TemplateProcessing(single=post, special_tokens=[(x, t.token_to_id(x)) for x in ("<s>", "</s>")])
    return t


ADDED = ["<s>", "</s>", "<|mid|>", AddedToken("LEFT", lstrip=True, normalized=False), AddedToken("Right", rstrip=True, normalized=False),
         AddedToken("word", single_word=True, normalized=False), AddedToken("Ünï", normalized=True), AddedToken("a b", normalized=True, lstrip=True, rstrip=True),
         AddedToken("<both>", special=True, lstrip=True, rstrip=True, normalized=False), AddedToken("日本", single_word=True, normalized=True)]


def all_of_them(lines):
    n, p = normalizers, pre_tokenizers
    byte_level = p.ByteLevel(add_prefix_space=False, use_regex=False)
    yield "llama2", tokenizer(lines, n.Sequence([n.Prepend("▁"), n.Replace(" ", "▁")]), None, decoders.Sequence(SPM), chars=True,
                              first=["<unk>", "<s>", "</s>", *BYTES], size=600, added=["<unk>", *ADDED], post="<s> $A", train_pre=p.Metaspace(),
                              byte_fallback=True, fuse_unk=True, unk_token="<unk>")
    yield "mistral", tokenizer(lines, None, p.Metaspace(prepend_scheme="first", split=False), decoders.Sequence(SPM), chars=True,
                               first=["<unk>", "<s>", "</s>", *BYTES], size=600, added=["<unk>", *ADDED], post="<s> $A </s>",
                               byte_fallback=True, fuse_unk=True, unk_token="<unk>")
    yield "metaspace", tokenizer(lines, n.NFKC(), p.Metaspace(prepend_scheme="always", split=True), decoders.Metaspace(prepend_scheme="always"),
                                 chars=True, first=["<unk>"], added=["<unk>", *ADDED], unk_token="<unk>", fuse_unk=False)
    yield "metaspace-never", tokenizer(lines, n.Replace(Regex(r"\s+"), " "), p.Metaspace(prepend_scheme="never", split=True), decoders.Metaspace(
        prepend_scheme="never"), chars=True, first=["<unk>", *BYTES[:200]], size=600, added=["<unk>"], unk_token="<unk>", fuse_unk=True, byte_fallback=True)
    yield "qwen", tokenizer(lines, n.NFC(), p.Sequence([p.Split(Regex(LLAMA3), "isolated"), byte_level]), decoders.ByteLevel(), added=ADDED, ignore_merges=True)
    yield "gpt2-prefix", tokenizer(lines, n.Sequence([n.NFKC(), n.Lowercase()]), p.ByteLevel(add_prefix_space=True, use_regex=True), decoders.ByteLevel(),
                                   added=ADDED, post="<s> $A </s>")
    yield "whitespace", tokenizer(lines, n.Sequence([n.NFD(), n.Lowercase(), n.StripAccents()]), p.Whitespace(), None, chars=True, first=["[UNK]"],
                                  added=["[UNK]", *ADDED], unk_token="[UNK]")
    yield "punctuation", tokenizer(lines, n.Sequence([n.Strip(), n.NFKD()]), p.Sequence([p.Punctuation("contiguous"), p.Digits(individual_digits=False), byte_level]),
                                   decoders.ByteLevel(), added=ADDED)
    yield "bert", tokenizer(lines, n.BertNormalizer(), p.Sequence([p.WhitespaceSplit(), p.Punctuation("merged_with_previous"), p.Digits(individual_digits=True)]),
                            None, chars=True, added=ADDED)
    yield "splits", tokenizer(lines, None, p.Sequence([p.Split("-", "merged_with_next"), p.Split(Regex(r"\n+"), "removed"), p.Split(
        Regex(r"[\p{L}\p{N}]+|[^\s\p{L}\p{N}]+"), "contiguous", invert=True), p.Split(Regex("[aeiou]"), "merged_with_previous"), p.Digits(individual_digits=True), byte_level]),
        decoders.ByteLevel(), added=ADDED)


def write(path, rows):
    with open(path, "wb") as f, gzip.GzipFile(fileobj=f, mode="wb", mtime=0, filename="") as z:
        for row in rows:
            z.write(json.dumps(row, ensure_ascii=False, separators=(",", ":")).encode() + b"\n")


def golden(t, shared, own, seed):
    rng = random.Random(seed)
    size = t.get_vocab_size()
    for i, text in [*enumerate(shared), *((None, x) for x in own)]:
        ids = t.encode(text).ids
        plain, without = (t.decode(ids, skip_special_tokens=skip) for skip in (False, True))
        yield ["encode", text if i is None else i, ids, 0 if plain == text else plain, 0 if without == plain else without]
    for _ in range(DECODE_COUNT):
        few = rng.randint(2, size + 2)
        ids = [rng.randrange(rng.choice([few, size + 2])) for _ in range(rng.randint(0, 20))]
        plain, without = (t.decode(ids, skip_special_tokens=skip) for skip in (False, True))
        yield ["decode", ids, plain, 0 if without == plain else without]


def main():
    a = argparse.ArgumentParser()
    a.add_argument("-o", dest="folder", default=os.path.join(ROOT, "tests", "data", "tokenizers"))
    folder = a.parse_args().folder
    with open(os.path.join(ROOT, "tests", "data", "demo", "heldout.txt"), encoding="utf-8") as f:
        lines = [l for l in f.read().split("\n") if l][:1500]
    words = tokenizer_strings.WORDS
    text = lines + [" ".join(words[i:i + 8]) for i in range(len(words) - 8)] * 5
    os.makedirs(folder, exist_ok=True)
    shared = [s[:300] for s in tokenizer_strings.strings(1, SHARED_COUNT, lines, [], [])]
    write(os.path.join(folder, "strings.jsonl.gz"), shared)
    for seed, (name, t) in enumerate(all_of_them(text)):
        os.makedirs(os.path.join(folder, name), exist_ok=True)
        with open(os.path.join(folder, name, "tokenizer.json"), "w", encoding="utf-8") as f:
            f.write(t.to_str(pretty=False) + "\n")
        added = [x.content for x in t.get_added_tokens_decoder().values()]
        rng = random.Random(seed)
        pieces = [x for x in (t.decode([rng.randrange(t.get_vocab_size())], skip_special_tokens=False) for _ in range(300)) if x]
        own = [s[:300] for s in tokenizer_strings.strings(seed + 100, 8 * OWN_COUNT, lines, added, pieces) if any(x in s for x in added)][:OWN_COUNT]
        write(os.path.join(folder, name, "golden.jsonl.gz"), golden(t, shared, own, seed))
        print(f"{name}: {t.get_vocab_size()} tokens, {len(shared) + len(own)} texts, tokenizers {version}")


main()
