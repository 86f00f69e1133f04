#!/usr/bin/env python3
"""Published tokenizers, compiled, against what others expect of them: text to ids and ids to text."""
import glob
import gzip
import json
import os
import subprocess
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))
import harness
from harness import Folder, SHARED, Skip, tpshard, tprun

TOKENIZERS = os.path.join(SHARED, "data", "tokenizers")
EXPECTED = os.path.join(SHARED, "data", "tokenizer-expectations")
VOCABS = os.path.join(SHARED, "data", "llama.cpp-vocab")


def read(*path, newline="\n"):
    with open(os.path.join(*path), encoding="utf-8", newline=newline) as f:
        return f.read()


def compile_one(name, folder):
    """The compiled tokenizer of a folder of the published ones."""
    source = os.path.join(TOKENIZERS, name)
    if not os.path.isdir(source):
        raise Skip(f"{source} is not here")
    if os.path.exists(source + "/tokenizer.json.gz"):
        with gzip.open(source + "/tokenizer.json.gz") as f, open(folder + "/tokenizer.json", "wb") as out:
            out.write(f.read())
        source = folder
    out = os.path.join(folder, name + ".tpt")
    if not os.path.exists(out):
        tpshard("tokenizer", source, "-o", out, "-q")
    return out


def tokenize(compiled, values, *options):
    done = tprun("tokenize", compiled, *options, input="".join(json.dumps(v) + "\n" for v in values).encode())
    found = [json.loads(line) for line in done.stdout.decode().split("\n")[:-1]]
    assert len(found) == len(values), (len(found), len(values))
    return found


def equal(what, inputs, expected, found):
    for i, (value, e, f) in enumerate(zip(inputs, expected, found)):
        assert e == f, f"{what}, case {i}: {json.dumps(value)[:300]}: {json.dumps(e)[:300]} expected, {json.dumps(f)[:300]} found"
    assert len(expected) == len(found) == len(inputs)


def cleaned(text):
    """What transformers makes of decoded text where tokenizer_config.json has clean_up_tokenization_spaces."""
    for a, b in ((" .", "."), (" ?", "?"), (" !", "!"), (" ,", ","), (" ' ", "'"), (" n't", "n't"), (" 'm", "'m"), (" 's", "'s"),
                 (" 've", "'ve"), (" 're", "'re")):
        text = text.replace(a, b)
    return text


def both_ways(what, compiled, texts, ids, decoded, *options):
    """options are those of encoding. decoded None: not told; with or without clean-up."""
    equal(what, texts, ids, tokenize(compiled, texts, *options))
    if decoded:
        found = tokenize(compiled, ids, "--decode")
        equal(what + " decoded", ids, decoded, [d if cleaned(f) == d else f for d, f in zip(decoded, found)])
    print(f"{what}: {len(texts)} texts")


# ---- kitoken ----

def kitoken_lines(name):
    lines = read(EXPECTED, "kitoken", name).rstrip("\n").split("\n")
    return [l.replace("\\n", "\n").replace("\\s", " ").replace("\\x", "") for l in lines]


def ids_of(line):
    return [int(x) for x in line.replace(",", " ").split()]


def kitoken(name, tokenizer):
    base = os.path.join(EXPECTED, "kitoken")
    if not os.path.isdir(base):
        raise Skip(f"{base} is not here")
    spaced = os.path.exists(f"{base}/small_output_{name}.txt")  # decoding does not give the text back
    with Folder() as d:
        compiled = compile_one(tokenizer, d)
        for part in "small", "mixed":
            texts = kitoken_lines(part + "_input.txt")
            ids = [ids_of(l) for l in read(base, f"{part}_tokens_{name}.txt").rstrip("\n").split("\n")]
            output = f"{part}_output_{name}.txt"
            decoded = kitoken_lines(output) if os.path.exists(f"{base}/{output}") else None if spaced else texts
            both_ways(f"kitoken {part} {name}", compiled, texts, ids, decoded, "--no-special")
        text = read(base, "utf8_input.txt", newline="")
        decoded = read(base, f"utf8_output_{name}.txt", newline="") if spaced else text
        both_ways(f"kitoken utf8 {name}", compiled, [text], [ids_of(read(base, f"utf8_tokens_{name}.txt"))], [decoded], "--no-special")


def test_kitoken_gpt2():
    kitoken("gpt2", "gpt2")


def test_kitoken_llama2():
    kitoken("llama2", "tinyllama-1.1b-chat")


def test_kitoken_llama32():
    kitoken("llama32", "llama-3.2")


def test_kitoken_mistral01():
    kitoken("mistral01", "mistral-7b-v0.1")


def test_kitoken_mistral03():
    kitoken("mistral03", "mistral-7b-v0.3")


# ---- llama.cpp ----

def llama_cpp(name, tokenizer):
    stem = os.path.join(VOCABS, f"ggml-vocab-{name}.gguf")
    if not os.path.exists(stem + ".inp"):
        raise Skip(f"{stem}.inp is not here")
    texts = read(stem + ".inp", newline="").split("\n__ggml_vocab_test__\n")
    ids = [ids_of(l) for l in read(stem + ".out").split("\n")][:len(texts)]
    with Folder() as d:
        both_ways(f"llama.cpp {name}", compile_one(tokenizer, d), texts[:len(ids)], ids, texts[:len(ids)], "--no-special")


def test_llama_cpp_qwen2():
    llama_cpp("qwen2", "qwen2")


def test_llama_cpp_llama_bpe():
    llama_cpp("llama-bpe", "llama-3-8b-instruct")


def test_llama_cpp_gpt_2():
    llama_cpp("gpt-2", "gpt2")


def test_llama_cpp_llama_spm():
    llama_cpp("llama-spm", "tinyllama-1.1b-chat")


def test_llama_cpp_phi_3():
    llama_cpp("phi-3", "phi-3-mini")


def test_llama_cpp_deepseek_coder():
    llama_cpp("deepseek-coder", "deepseek-coder")


# ---- transformers.js, swift-transformers ----

TRANSFORMERS_JS = {"Xenova/gpt2": "gpt2", "openai-community/gpt2": "gpt2", "Xenova/llama-tokenizer": "tinyllama-1.1b-chat",
                   "Xenova/llama3-tokenizer": "llama-3-8b-instruct", "Xenova/llama3-tokenizer-new": "llama-3-8b-instruct",
                   "Xenova/deepseek-coder-1.3b-instruct": "deepseek-coder", "Xenova/Qwen1.5-0.5B-Chat": "qwen2"}
WITHOUT = {"Xenova/llama3-tokenizer", "Xenova/deepseek-coder-1.3b-instruct"}  # here without, or there with, what goes around a text


def test_transformers_js():
    path = os.path.join(EXPECTED, "transformers.js", "cases.json")
    if not os.path.exists(path):
        raise Skip(f"{path} is not here")
    other = []
    for group in json.loads(read(path)).values():
        for model, cases in group["tests"].items():
            if model not in TRANSFORMERS_JS:
                other.append(model)
                continue
            cases = [c for c in cases.values() if "text" in c]
            with Folder() as d:
                compiled = compile_one(TRANSFORMERS_JS[model], d)
                ids = [c["ids"] for c in cases]
                decoded = [c["decoded"] for c in cases]
                texts = [c["text"] for c in cases]
                if "deepseek" in model:  # the vocabulary here has no post-processor
                    first = ids[0][0]
                    assert all(i[0] == first for i in ids)
                    begin = tokenize(compiled, [[first]], "--decode")[0]
                    texts = [begin + t for t in texts]
                both_ways(f"transformers.js {model}", compiled, texts, ids, decoded, *(["--no-special"] if model in WITHOUT else []))
    print("SKIP vocabularies that are not here: " + ", ".join(other))


def test_swift_transformers():
    base = os.path.join(EXPECTED, "swift-transformers")
    if not os.path.isdir(base):
        raise Skip(f"{base} is not here")
    with Folder() as d:
        for name, tokenizer, special in (("gpt2_encoded_tokens", "gpt2", []), ("llama_encoded", "tinyllama-1.1b-chat", []),
                                         ("llama_3.2_encoded", "llama-3.2", [])):
            case = json.loads(read(base, name + ".json"))
            both_ways(f"swift-transformers {name}", compile_one(tokenizer, d), [case["text"]], [case["token_ids"]], None, *special)
            found = tokenize(compile_one(tokenizer, d), [case["token_ids"]], "--decode")[0]
            assert case["decoded_text"] in (found, cleaned(found)), (case["decoded_text"], found)
        tests = json.loads(read(base, "tokenizer_tests.json"))
        for model, tokenizer in (("distilgpt2", "gpt2"), ("coreml-projects/Llama-2-7b-chat-coreml", "tinyllama-1.1b-chat"),
                                 ("pcuenq/Llama-3.2-1B-Instruct-tokenizer", "llama-3.2")):
            cases, compiled = tests[model], compile_one(tokenizer, d)
            ids = [c["encoded"]["input_ids"] for c in cases]
            both_ways(f"swift-transformers {model}", compiled, [c["input"] for c in cases], ids, [c["decoded_with_special"] for c in cases])
            without = [c["decoded_without_special"] for c in cases]
            found = tokenize(compiled, ids, "--decode", "--no-special")
            equal(model, ids, without, [w if cleaned(f) == w else f for w, f in zip(without, found)])


# ---- mistral-common: whole chats as text, a piece of each kind; ▁ stands for a space, <0x0A> for a newline ----

def test_mistral_common():
    base = os.path.join(EXPECTED, "mistral-common")
    if not os.path.isdir(base):
        raise Skip(f"{base} is not here")
    with Folder() as d:
        for version, tokenizer in (("v1", "mistral-7b-v0.1"), ("v2", "mistral-7b-v0.3"), ("v3", "mistral-7b-v0.3")):
            found = sorted(glob.glob(f"{base}/*/tokens_{version}.json"))
            assert found
            ids = [json.loads(read(p))["tokens"] for p in found]
            texts = [read(os.path.dirname(p), f"text_{version}.txt", newline="").replace("▁", " ").replace("<0x0A>", "\n") for p in found]
            both_ways(f"mistral-common {version}", compile_one(tokenizer, d), texts, ids, texts, "--no-special")


# ---- small ones of our own, with what the reference made of many texts (scripts/make_tokenizers.py) ----

def packed(path):
    with gzip.open(path) as f:
        return [json.loads(line) for line in f]


def golden(folder, shared, d):
    name = os.path.basename(folder)
    compiled = os.path.join(d, name + ".tpt")
    tpshard("tokenizer", folder, "-o", compiled, "-q")
    rows = packed(folder + "/golden.jsonl.gz")
    encoded = [r[1:] for r in rows if r[0] == "encode"]
    texts = [shared[text] if isinstance(text, int) else text for text, *_ in encoded]
    ids = [r[1] for r in encoded]
    plain = [text if r[2] == 0 else r[2] for text, r in zip(texts, encoded)]
    without = [p if r[3] == 0 else r[3] for p, r in zip(plain, encoded)]
    decoded = [r[1:] for r in rows if r[0] == "decode"]
    equal(name, texts, ids, tokenize(compiled, texts))
    ids += [r[0] for r in decoded]
    plain += [r[1] for r in decoded]
    without += [r[1] if r[2] == 0 else r[2] for r in decoded]
    equal(name + " decoded", ids, plain, tokenize(compiled, ids, "--decode"))
    equal(name + " decoded without control tokens", ids, without, tokenize(compiled, ids, "--decode", "--no-special"))
    print(f"{name}: {len(texts)} texts, {len(ids)} rows of ids")


def test_our_tokenizers_give_the_reference_s_results():
    base = os.path.join(harness.DATA, "tokenizers")
    shared = packed(base + "/strings.jsonl.gz")
    folders = sorted(os.path.dirname(p) for p in glob.glob(base + "/*/tokenizer.json"))
    assert len(folders) >= 10
    with Folder() as d:
        for folder in folders:
            golden(folder, shared, d)


# ---- tprun tokenize ----

class Talk:
    """A conversation line by line: an answer is there before the next question is put."""

    def __init__(self, *args):
        self.p = subprocess.Popen([harness.TPRUN, "tokenize", *args], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)

    def ask(self, line):
        self.p.stdin.write(line.encode() + b"\n")
        self.p.stdin.flush()
        return json.loads(self.p.stdout.readline())

    def end(self, line=b""):
        out, err = self.p.communicate(line)
        return self.p.returncode, out.decode(), err.decode()


def demo_tokenizer(d):
    tpshard("tokenizer", harness.DEMO, "-o", d + "/t.tpt", "-q")
    return d + "/t.tpt"


def test_every_line_is_answered_before_the_next_is_read():
    with Folder() as d:
        t = demo_tokenizer(d)
        talk, back = Talk(t), Talk(t, "--decode")
        for text in ("Once upon a time", "", "é\u0000x", "a" * 300000, "\n\t\"\\\u007f"):
            ids = talk.ask(json.dumps(text))
            assert ids or not text
            assert back.ask(json.dumps(ids)) == text
        assert talk.end() == (0, "", "") and back.end() == (0, "", "")


def test_lines_may_end_as_they_like_and_be_empty():
    with Folder() as d:
        t = demo_tokenizer(d)
        one, = tokenize(t, ["Once"])
        done = tprun("tokenize", t, input=b'\n  \n"Once"\r\n "Once" \n"Once"')
        assert [json.loads(l) for l in done.stdout.splitlines()] == [one] * 3


def test_a_malformed_line_is_named_and_earlier_answers_stand():
    with Folder() as d:
        t = demo_tokenizer(d)
        bad = {b'"abc': (), b"[1]": (), b'{"a": 1}': (), b"1 2": (), b'"a" x': (), b'"\\ud800"': (), b'"\xff"': (), b"'a'": (), b"null": (),
               b'"a"': ("--decode",), b"[1.5]": ("--decode",), b"[-1]": ("--decode",), b'["a"]': ("--decode",), b"[4294967296]": ("--decode",),
               b"[[1]]": ("--decode",), b"[" * 5000: ("--decode",)}
        for line, options in bad.items():
            good = b"[1]\n" if options else b'"Once"\n'
            done = harness.run([harness.TPRUN, "tokenize", t, *options], None, input=good + b"\n" + line + b"\n" + good)
            harness.error_line(done, 3, "line 3")
            assert len(done.stdout.splitlines()) == 1, (line, done.stdout)


def test_ids_that_are_no_token_decode_to_nothing():
    with Folder() as d:
        t = demo_tokenizer(d)
        ids, = tokenize(t, ["Once upon"])
        found = tokenize(t, [ids, [4294967295, *ids, 1000000], [], [1000000]], "--decode")
        assert found == ["Once upon", "Once upon", "", ""], found


def test_a_bundle_serves_as_well_as_the_compiled_file():
    with Folder() as d:
        harness.convert(harness.DEMO, d + "/b")
        for rank in glob.glob(d + "/b/rank-*"):  # no weights are read
            os.remove(rank)
        texts = ["Once upon a time", "  x", "<s>"]
        assert tokenize(d + "/b", texts) == tokenize(demo_tokenizer(d), texts)
        harness.error_line(harness.run([harness.TPRUN, "tokenize", d], None, input=b""), 3, d)
        harness.error_line(harness.run([harness.TPRUN, "tokenize", d + "/none"], None, input=b""), 5, "none")
        harness.error_line(harness.run([harness.TPRUN, "tokenize"], None, input=b""), 2)


harness.main(globals())
