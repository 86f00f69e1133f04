#!/usr/bin/env python3
"""Folders as people have them: tokenizers, chat templates and generation_config.json that are wrong and leave the weights
usable. A warning says what, the bundle is made, its manifest counts it; --strict makes exit status 3 of it. Where
transformers takes a folder, ids and texts are those of transformers 5.24 (tokenizers 0.23), written here as constants."""
import json
import os
import shutil
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))
import harness
from harness import Folder, checkpoint, error_line, tprun, tpshard

IDS_ONLY = "the bundle takes token ids only"
GREEDY = [315, 131, 173, 483, 131, 24, 339, 356]  # llama3-rope after 1, as its golden.json has it of transformers
VOCAB = 515
TEMPLATE = ("{{ bos_token }}{% for m in messages %}[{{ m.role }}] {{ m.content }}{{ eos_token }}\n{% endfor %}"
            "{% if tools %}#{{ tools|length }}{% endif %}")
BODY = "<s>[user] Hi\r\nyou</s>\n"
TOOLS = [{"type": "function", "function": {"name": "f", "description": "d", "parameters": {"type": "object", "properties": {}}}}]
MESSAGES = [{"role": "user", "content": "Hi\r\nyou"}]
POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"0" * 64 + b"\nsize 1842767\n"
PAGE = b"<!DOCTYPE html>\n<html><head><title>Sign in</title></head></html>\n"


def load(path):
    with open(path) as f:
        return json.load(f)


def put(path, value):
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "wb") as f:
        f.write(value if isinstance(value, bytes) else value.encode() if isinstance(value, str) else json.dumps(value).encode())


def folder(path, files=None, drop=(), name="llama3-rope", config=None, **keys):
    """A copy of a small checkpoint; files to write over it; keys of tokenizer_config.json, and of config.json."""
    shutil.copytree(checkpoint(name), path, ignore=shutil.ignore_patterns("golden*"))
    for file, changes in ("tokenizer_config.json", keys), ("config.json", config or {}):
        value = {**load(f"{path}/{file}"), **changes}
        for key in drop:
            value.pop(key, None)
        put(f"{path}/{file}", value)
    for file, value in (files or {}).items():
        put(f"{path}/{file}", value)
    return path


def edited(change):
    """tokenizer.json after change(document)."""
    doc = load(checkpoint("llama3-rope") + "/tokenizer.json")
    change(doc)
    return doc


def warnings_of(done):
    return [l.split(": warning: ", 1)[1] for l in done.stderr.decode(errors="replace").splitlines() if ": warning: " in l]


def converted(path, *words, count=1):
    """Convert, with so many warnings that hold the words; the manifest counts them, --strict refuses. The bundle."""
    done = tpshard("convert", path, "-o", path + ".b", "--no-selftest")
    said = warnings_of(done)
    assert len(said) == count and all(any(w in s for s in said) for w in words), (words, said)
    assert load(path + ".b/manifest.json")["source"].get("warnings", 0) == count, said
    strict = tpshard("convert", path, "-o", path + ".s", "--no-selftest", "--strict", status=None)
    if count:
        error_line(strict, 3)
        assert not os.path.exists(path + ".s")
    else:
        assert strict.returncode == 0, strict.stderr
    return path + ".b"


def generate(bundle, *args, n=8):
    done = tprun("generate", bundle, "--json", "-q", "-n", n, *args)
    return [json.loads(l) for l in done.stdout.splitlines()]


def greedy(bundle):
    return generate(bundle, "--prompt-ids", "1", "--ignore-eos")[0]["ids"]


def encode(bundle, text):
    return json.loads(tprun("tokenize", bundle, input=json.dumps(text).encode()).stdout)


def render(bundle, tools=None, *args, status=0):
    done = tprun("render", bundle, *args, input=json.dumps({"messages": MESSAGES, "tools": tools}).encode(), status=status)
    return json.loads(done.stdout) if status == 0 else error_line(done, status)


# ---- tokenizer.json ----

def merges(doc, *more):
    doc["model"]["merges"] += list(more)


def test_a_malformed_tokenizer_json_is_left_out():
    """Rows 61, 63, 65, 67, 75 of the catalogue, and files that are none: weights work, ids work, text does not."""
    vocab = lambda **more: edited(lambda d: d["model"]["vocab"].update(more))
    added = lambda *more: edited(lambda d: d["added_tokens"].extend(more))
    token = lambda i, content, **more: {"id": i, "content": content, "special": False, "normalized": False, "lstrip": False,
                                        "rstrip": False, "single_word": False, **more}
    cases = {
        "negative": (vocab(new=-1), "new"), "large": (vocab(new=1 << 31), "new"), "fraction": (vocab(new=1.5), "new"),
        "two tokens": (vocab(new=7), "id 7"), "two ids": (added(token(40, "<s>")), "<s>"), "no content": (added({"id": 7}), "added_tokens"),
        "merge of nothing": (edited(lambda d: merges(d, "a qqq")), "merge"), "merge of three": (edited(lambda d: merges(d, "a b c")), "two parts"),
        "merge of one": (edited(lambda d: merges(d, ["a"])), "two parts"), "no merges": (edited(lambda d: d["model"].pop("merges")), "merges"),
        "long": (vocab(**{"q" * 65537: 511}), "65536"), "long, added": (added(token(511, "<" * 1025)), "1024"),
        "no model": (edited(lambda d: d.pop("model")), "model"), "no vocab": (edited(lambda d: (d.update(added_tokens=[]), d["model"].update(vocab={}))), "empty vocab"),
        "byte": (edited(lambda d: (d["model"].update(byte_fallback=True), d["model"]["vocab"].update({"<0xZZ>": 511}))), ""),
        **{f"regex {r}": (edited(lambda d, r=r: d.update(pre_tokenizer={"type": "Split", "pattern": {"Regex": r}, "behavior": "Isolated", "invert": False})), "tokenizer.json: pre_tokenizer")
           for r in ("((", "[a", "a)", "*")},
        "post": (edited(lambda d: d["post_processor"].update(single=[])), "post_processor"),
        "comma": (b'{"version": "1.0",}', "line 1"), "empty": (b"", "empty"), "list": (b"[]", "object"), "half": (b'{"model": {"ty', "line 1"),
        "pointer": (POINTER, "Git LFS pointer"), "page": (PAGE, "HTML page"), "mark": (b"\xef\xbb\xbf{}", "byte order mark"),
        "binary": (bytes(range(256)), "tokenizer.json"), "deep": (b'{"a":' + b"[" * 99 + b"]" * 99 + b"}", "nested"),
        "huge id": (edited(lambda d: d["model"]["vocab"].update(new="X"))and json.dumps(vocab(new=7777)).replace("7777", "1" + "0" * 30), "tokenizer.json"),
    }
    with Folder() as d:
        for i, (name, (value, word)) in enumerate(cases.items()):
            path = folder(f"{d}/{i}", {"tokenizer.json": value})
            bundle = converted(path, "tokenizer.json", word, IDS_ONLY)
            assert not os.path.exists(bundle + "/tokenizer.tpt"), name
            assert greedy(bundle) == GREEDY, name
            error_line(tprun("generate", bundle, "-p", "x", status=None), 4, "tokenizer")
            error_line(tpshard("tokenizer", path, "-o", path + ".t", status=None), 6 if name == "long, added" else 3, "tokenizer.json", word)
            with open(path + "/tokenizer.json", "rb") as a, open(bundle + "/tokenizer.json", "rb") as b:
                assert a.read() == b.read(), "it travels as it came"


def test_integers_of_any_size_in_tokenizer_json_are_read():
    with Folder() as d:
        want = encode(converted(folder(d + "/m"), count=0), "Hello there")
        for i, change in enumerate((lambda doc: doc.update(x=10**50), lambda doc: doc.update(more=[-10**30]),
                                    lambda doc: doc.update(truncation={"max_length": 2**64 - 1, "stride": 0, "strategy": "LongestFirst", "direction": "Right"}))):
            assert encode(converted(folder(f"{d}/{i}", {"tokenizer.json": edited(change)}), count=0), "Hello there") == want


def test_a_tokenizer_json_larger_than_any_is_left_out():
    with Folder() as d:
        path = folder(d + "/m")
        with open(path + "/tokenizer.json", "wb") as f:
            f.truncate((256 << 20) + 1)
        bundle = converted(path, "tokenizer.json", str(256 << 20), IDS_ONLY)
        assert greedy(bundle) == GREEDY and not os.path.exists(bundle + "/tokenizer.json")


def test_a_kind_that_is_not_supported_is_a_note():
    """Unigram, WordPiece, Precompiled, tokenizer.model alone: no fault of the folder, --strict takes it."""
    cases = [edited(lambda d, t=t: d["model"].update(type=t)) for t in ("Unigram", "WordPiece", "WordLevel", "Nonsense")]
    cases += [edited(lambda d: d.update(normalizer={"type": "Precompiled", "precompiled_charsmap": "AAAA"})), None]
    with Folder() as d:
        for i, value in enumerate(cases):
            path = folder(f"{d}/{i}", {"tokenizer.json": value} if value else {"tokenizer.model": b"\n\x0f"})
            if not value:
                os.remove(path + "/tokenizer.json")
            done = tpshard("convert", path, "-o", f"{d}/b{i}", "--no-selftest", "--strict")
            assert IDS_ONLY in done.stderr.decode() and not warnings_of(done), done.stderr
            assert greedy(f"{d}/b{i}") == GREEDY


# ---- files that disagree ----

def test_tokens_without_a_row_are_dropped_and_named():
    """Ids at and beyond vocab_size, added or of the vocabulary: no text becomes one, none is drawn."""
    token = lambda i, content: {"id": i, "content": content, "special": True, "normalized": False, "lstrip": False, "rstrip": False, "single_word": False}
    with Folder() as d:
        path = folder(d + "/added", {"tokenizer.json": edited(lambda doc: doc["added_tokens"].extend([token(515, "<pad>"), token(600, "<p2>")]))},
                      pad_token="<pad>", added_tokens_decoder={"515": {"content": "<pad>"}, "1": {"content": "<s>"}})
        bundle = converted(path, "2 tokens", '"<pad>" (515)', '"<p2>" (600)', "vocab_size of config.json is 515")
        assert encode(bundle, "hello") == [1, 259, 305, 81]
        assert max(encode(bundle, "a<pad>b<p2>")) < VOCAB
        for answer in generate(bundle, "--prompt-ids", "1", "--temp", "30", n=200):
            assert max(answer["ids"]) < VOCAB
        path = folder(d + "/vocabulary", {"tokenizer.json": edited(lambda doc: (doc["model"]["vocab"].update({"hell": 900}), merges(doc, "h ell"))
                                                                  if "ell" in doc["model"]["vocab"] else doc["model"]["vocab"].update({"hell": 900}))})
        bundle = converted(path, "1 token", '"hell" (900)')
        assert encode(bundle, "hello") == [1, 259, 305, 81]
        doc = edited(lambda doc: [t.update(id=700) for t in doc["added_tokens"] if t["content"] == "<s>"] and doc["model"]["vocab"].pop("<s>", None))
        doc["post_processor"]["special_tokens"]["<s>"]["ids"] = [700]
        path = folder(d + "/bos", {"tokenizer.json": doc}, added_tokens_decoder={})
        bundle = converted(path, '"<s>" (700)')
        assert encode(bundle, "hello") == [259, 305, 81], "what has no row is not put in front"
        assert greedy(bundle) == GREEDY


def test_a_named_token_that_is_not_special_is_a_warning():
    """Its text in a message would be the token."""
    def plain(doc):
        for token in doc["added_tokens"]:
            token["special"] = False
    with Folder() as d:
        converted(folder(d + "/m", {"tokenizer.json": edited(plain)}, drop=["added_tokens_decoder", "additional_special_tokens", "unk_token", "pad_token"]),
                  "no special token", count=2)


def test_bos_and_eos_that_differ_are_a_warning_and_the_tokenizers_count():
    with Folder() as d:
        cases = (("bos", {"config": {"bos_token_id": 0}}, ("<s>", "1", "0", "tokenizer's counts"), 1),
                 ("Vicuna", {"config": {"bos_token_id": 0, "eos_token_id": 1, "pad_token_id": -1}}, ("bos_token", "eos_token", "either"), 2),
                 ("distill", {"config": {"bos_token_id": 2}}, ("config.json: 2",), 1),
                 ("unknown", {"bos_token": "<|startoftext|>"}, ("<|startoftext|>", "no such token"), 1),
                 ("pad", {"pad_token": "<pad>", "mask_token": {"content": "<mask>", "__type": "AddedToken"}}, ("<pad>", "<mask>"), 2),
                 ("list", {"eos_token": ["</s>"]}, ("eos_token", "an array"), 1), ("number", {"bos_token": 5}, ("bos_token", "an integer"), 1),
                 ("null", {"bos_token": None, "pad_token": None}, (), 0), ("object", {"bos_token": {"content": "<s>"}}, (), 0),
                 ("decoder", {"added_tokens_decoder": {"7": {"content": "<s>"}}}, ("<s>", "7", "1", "tokenizer.json counts"), 1),
                 ("decoder, new", {"added_tokens_decoder": {"300": {"content": "<t>"}, "301": {"content": "<u>"}}}, ("<t>", "300", "1 more"), 1),
                 ("decoder, odd", {"added_tokens_decoder": {"x": {"content": "<s>"}, "3": 7}}, ("malformed",), 1),
                 ("decoder, list", {"added_tokens_decoder": []}, ("an object expected, an array found",), 1),
                 ("more", {"additional_special_tokens": ["<s>", "<t>"], "extra_special_tokens": {"image_token": "<i>"}}, ("<t>", "<i>"), 2),
                 ("added_tokens.json, half", {"files": {"added_tokens.json": {"<s>": 1.5}}, "drop": ["added_tokens_decoder"]}, ("malformed",), 1),
                 ("added_tokens.json", {"files": {"added_tokens.json": {"<x>": 7, "<s>": 1}}, "drop": ["added_tokens_decoder"]}, ("<x>", "7"), 1),
                 ("flags", {"added_tokens_decoder": {"1": {"content": "<s>", "lstrip": True}, "2": {"content": "</s>", "single_word": False}}}, ("<s>", "it with lstrip false"), 1),
                 ("special", {"added_tokens_decoder": {"1": {"content": "<s>", "special": False}}}, ("it with special true",), 1),
                 ("text alone", {"additional_special_tokens": ["ve"], "pad_token": "ve"}, ("ve", "it as text alone"), 2),
                 ("split", {"split_special_tokens": True}, ("split_special_tokens",), 1), ("no split", {"split_special_tokens": False}, (), 0),
                 ("class", {"tokenizer_class": "Nonsense"}, (), 0), ("numbers", {"model_max_length": 10**30, "x": [-10**40]}, (), 0))
        for i, (name, changes, words, count) in enumerate(cases):
            bundle = converted(folder(f"{d}/{i}", **changes), *words, count=count)
            assert greedy(bundle) == GREEDY, name
            assert encode(bundle, "hello") == [1, 259, 305, 81], name  # bos: tokenizer.json's, whatever add_bos_token is
            for name in os.listdir(f"{d}/{i}"):
                assert not name.endswith(".json") or name == "tokenizer.json" or os.path.exists(f"{bundle}/{name}")


def test_an_added_token_that_stands_twice_with_one_id_is_taken_once():
    with Folder() as d:
        for i, special in enumerate((True, False)):
            twice = lambda doc: doc["added_tokens"].append({**next(t for t in doc["added_tokens"] if t["content"] == "<s>"), "special": special})
            assert encode(converted(folder(f"{d}/{i}", {"tokenizer.json": edited(twice)}), count=0), "<s>hello") == [1, 1, 259, 305, 81]


def test_add_bos_token_leaves_tokenizer_json_as_it_is():
    with Folder() as d:
        for i, keys in enumerate(({"add_bos_token": False}, {"add_eos_token": True}, {"add_bos_token": None}, {"add_bos_token": True, "add_eos_token": True})):
            assert encode(converted(folder(f"{d}/{i}", **keys), count=0), "hello") == [1, 259, 305, 81]


def test_an_answer_ends_at_every_eos():
    """generation_config.json's, else config.json's; and the tokenizer's, with and without --chat."""
    with Folder() as d:
        at = 6
        end = GREEDY[at]
        name = next(k for k, v in load(checkpoint("llama3-rope") + "/tokenizer.json")["model"]["vocab"].items() if v == end)
        cases = (("config", {"config": {"eos_token_id": end}, "files": {"generation_config.json": {}}}, 1),
                 ("generation", {"files": {"generation_config.json": {"eos_token_id": [2, end]}}}, 0),
                 ("generation over config", {"config": {"eos_token_id": end}}, 1),
                 ("tokenizer", {"eos_token": name, "config": {"eos_token_id": 2}}, 2),  # it is text alone
                 ("bad ones", {"config": {"eos_token_id": end}, "files": {"generation_config.json": {"eos_token_id": [[2], 515]}}}, 3))
        for i, (label, changes, count) in enumerate(cases):
            bundle = converted(folder(f"{d}/{i}", **changes), count=count)
            answer = generate(bundle, "--prompt-ids", "1")[0]
            ends = label != "generation over config"
            assert answer["ids"] == (GREEDY[:at + 1] if ends else GREEDY) and answer["finish"] == ("eos" if ends else "length"), (label, answer)


# ---- generation_config.json ----

def test_generation_config_that_is_no_json_is_ignored():
    cases = {"comma": b'{\n "eos_token_id": 2,\n "temperature": 0.15,\n}\n', "empty": b"", "list": b"[]", "pointer": POINTER, "page": PAGE,
             "mark": b'\xef\xbb\xbf{"do_sample": true}', "half": b'{"do_sample": tr', "text": b"none\n", "NaN": b'{"do_sample": true, "temperature": NaN}'}
    with Folder() as d:
        for i, (name, value) in enumerate(cases.items()):
            path = folder(f"{d}/{i}", {"generation_config.json": value})
            bundle = converted(path, "generation_config.json", "the file is ignored", "greedily")
            assert greedy(bundle) == GREEDY, name
            with open(bundle + "/generation_config.json", "rb") as f:
                assert f.read() == value, "it travels as it came"
            note = tprun("generate", bundle, "--prompt-ids", "1", "-n", "1", "--ids").stderr.decode()
            assert "note: generation_config.json: all of it is ignored" in note, note


def test_a_field_of_generation_config_that_is_not_usable_is_ignored_alone():
    sampled = {"do_sample": True, "temperature": 0.7}
    cases = (({**sampled, "temperature": -1}, "temperature"), ({**sampled, "temperature": "0.7"}, "temperature"), ({**sampled, "top_k": -1}, "top_k"),
             ({**sampled, "top_k": 1.5}, "top_k"), ({**sampled, "top_p": 7}, "top_p"), ({**sampled, "min_p": [0.1]}, "min_p"),
             ({**sampled, "repetition_penalty": 0}, "repetition_penalty"), ({"do_sample": 1, "temperature": 0.7}, "do_sample"),
             ({"do_sample": "yes"}, "do_sample"), ({**sampled, "top_k": 10**30}, "top_k"))
    with Folder() as d:
        for i, (value, field) in enumerate(cases):
            bundle = converted(folder(f"{d}/{i}", {"generation_config.json": value}), f"generation_config.json: {field}:", "greedily")
            assert greedy(bundle) == GREEDY, value
            note = tprun("generate", bundle, "--prompt-ids", "1", "-n", "1", "--ids").stderr.decode()
            assert f"note: generation_config.json: {field} is ignored" in note, note
        many = converted(folder(d + "/many", {"generation_config.json": {"top_k": -1, "eos_token_id": [-1, -2], "penalty_alpha": 0.6, "num_beams": 4, "typical_p": 1}}), count=3)
        assert "note: generation_config.json: top_k and 3 more are ignored" in tprun("generate", many, "--prompt-ids", "1", "-n", "1", "--ids").stderr.decode()
        good = ({"do_sample": False, "temperature": 0.6, "top_p": 0.9}, {"do_sample": None, "temperature": None, "top_k": None}, {"top_k": 20.0, "max_length": 10**30},
                {"eos_token_id": 2.0}, {})
        for i, value in enumerate(good):
            assert greedy(converted(folder(f"{d}/good{i}", {"generation_config.json": value}), count=0)) == GREEDY, value
        draws = converted(folder(d + "/draws", {"generation_config.json": {**sampled, "temperature": 5.0, "top_k": 0}}), count=0)
        assert greedy(draws) != GREEDY


# ---- templates ----

def test_templates_are_those_that_transformers_finds():
    """What apply_chat_template renders without tools and with one; None: it has no template for that."""
    default, tool_use = {"name": "default", "template": "D" + TEMPLATE}, {"name": "tool_use", "template": "T" + TEMPLATE}
    rag = {"name": "rag", "template": "R" + TEMPLATE}
    plain = (BODY, BODY + "#1")
    both = ("D" + BODY, "T" + BODY + "#1")
    cases = {
        "file": ({"files": {"chat_template.jinja": TEMPLATE}}, plain, 0),
        "file with CRLF": ({"files": {"chat_template.jinja": TEMPLATE.replace("\n", "\r\n")}}, plain, 0),
        "file with a mark": ({"files": {"chat_template.jinja": b"\xef\xbb\xbf" + TEMPLATE.encode()}}, tuple("\ufeff" + t for t in plain), 1),
        "list": ({"chat_template": [default, tool_use]}, both, 0),
        "list with one name twice": ({"chat_template": [rag, {**rag, "name": "default"}, default]}, ("D" + BODY, "D" + BODY + "#1"), 0),
        "list without default": ({"chat_template": [rag, tool_use]}, (None, "T" + BODY + "#1"), 0),
        "list of one": ({"chat_template": [rag]}, (None, None), 0),
        "object": ({"chat_template": {"default": default["template"], "tool_use": tool_use["template"]}}, both, 0),
        "null": ({"chat_template": None}, (None, None), 0),
        "empty list": ({"chat_template": []}, (None, None), 0),
        "a number": ({"chat_template": 7}, (None, None), 1),
        "folder": ({"files": {"chat_template.jinja": "D" + TEMPLATE, "additional_chat_templates/tool_use.jinja": "T" + TEMPLATE}}, both, 0),
        "folder alone": ({"files": {"additional_chat_templates/tool_use.jinja": "T" + TEMPLATE}, "chat_template": "X"}, (None, "T" + BODY + "#1"), 0),
        "folder with a default": ({"files": {"chat_template.jinja": "D", "additional_chat_templates/default.jinja": "F" + TEMPLATE}}, ("F" + BODY, "F" + BODY + "#1"), 0),
        "special_tokens_map": ({"files": {"special_tokens_map.json": {"bos_token": "</s>", "eos_token": {"content": "<s>", "lstrip": False}}}, "chat_template": TEMPLATE,
                                "drop": ["added_tokens_decoder"]}, ("</s>[user] Hi\r\nyou<s>\n", "</s>[user] Hi\r\nyou<s>\n#1"), 0),
        "special_tokens_map beside a decoder": ({"files": {"special_tokens_map.json": {"bos_token": "</s>"}}, "chat_template": TEMPLATE}, plain, 0),
        "bos null": ({"bos_token": None, "chat_template": TEMPLATE}, (BODY[3:], BODY[3:] + "#1"), 0),
        "bos unknown": ({"bos_token": "<q>", "chat_template": TEMPLATE}, ("<q>" + BODY[3:], "<q>" + BODY[3:] + "#1"), 1),
        # not the reference's: it renders nothing
        "empty file": ({"files": {"chat_template.jinja": ""}}, (None, None), 1),
    }
    with Folder() as d:
        for i, (name, (changes, texts, count)) in enumerate(cases.items()):
            bundle = converted(folder(f"{d}/{i}", **changes), count=count)
            for tools, text in zip((None, TOOLS), texts):
                if text is None:
                    render(bundle, tools, status=4)
                else:
                    assert render(bundle, tools) == text, (name, tools)


def test_a_template_is_chosen_by_name():
    templates = [{"name": n, "template": n[0].upper() + TEMPLATE} for n in ("default", "tool_use", "rag")]
    with Folder() as d:
        bundle = converted(folder(d + "/m", chat_template=templates), count=0)
        none = converted(folder(d + "/n", chat_template=templates[1:]), count=0)
        line = d + "/lines.jsonl"
        put(line, json.dumps({"messages": MESSAGES}) + "\n" + json.dumps({"messages": MESSAGES, "tools": TOOLS}) + "\n")
        first = lambda b, *args: [chr(a["prompt_ids"][0] + 30) for a in generate(b, "--chat", "--prompts", line, *args, n=1)]
        letters = {c: chr(encode(bundle, c)[1] + 30) for c in "DTR"}
        assert first(bundle) == [letters["D"], letters["T"]]
        for name in "default", "tool_use", "rag":
            assert render(bundle, TOOLS, "--chat-template", name).startswith(name[0].upper() + "<s>")
            assert first(bundle, "--chat-template", name) == [letters[name[0].upper()]] * 2
        assert "tool_use, rag" in render(none, None, status=4)
        put(line, json.dumps({"messages": MESSAGES, "tools": TOOLS}) + "\n")
        assert first(none) == [letters["T"]]
        error_line(tprun("generate", none, "--chat", "-p", "x", status=None), 4, "default", "tool_use, rag")
        error_line(tprun("chat", none, status=None, input=b"x\n"), 4, "default", "tool_use, rag")
        assert tprun("chat", none, "--chat-template", "rag", "-n", "1", "-q", input=b"x\n").returncode == 0
        for command in ("generate", none, "--chat", "-p", "x"), ("chat", none), ("render", none):
            error_line(tprun(*command, "--chat-template", "nope", status=None, input=b'{"messages": []}\n'), 2, "nope", "tool_use, rag")
        error_line(tprun("generate", none, "-p", "x", "--chat-template", "rag", status=None), 2, "--chat")
        error_line(tprun("render", "--template", line, "--chat-template", "rag", status=None, input=b""), 2, "--template")


def test_what_is_wrong_with_a_template_costs_that_one():
    hostile = "{% for i in range(10**4) %}{% for j in range(10**4) %}{% endfor %}{% endfor %}"
    with Folder() as d:
        cases = (({"chat_template.jinja": "{% if %}"}, "chat_template.jinja:1:", "default"), ({"chat_template.jinja": hostile}, "chat_template.jinja:1:", "default"),
                 ({"chat_template.jinja": POINTER}, "Git LFS pointer", "default"), ({"chat_template.jinja": PAGE}, "HTML page", "default"),
                 ({"chat_template.jinja": b"\xff"}, "UTF-8", "default"), ({"chat_template.jinja": "x" * ((1 << 20) + 1)}, "1048576", "default"),
                 ({"chat_template.jinja": TEMPLATE, "additional_chat_templates/tool_use.jinja": "{{ range(10**12) }}"}, "tool_use.jinja:1:", "tool_use"),
                 ({"chat_template.jinja": TEMPLATE, "additional_chat_templates/tool_use.jinja": b"a\xffb"}, "tool_use.jinja", "tool_use"),
                 ({"chat_template.json": b"{"}, "chat_template.json", None))
        for i, (files, word, name) in enumerate(cases):
            bundle = converted(folder(f"{d}/{i}", files, drop=["chat_template"]), word)
            assert greedy(bundle) == GREEDY
            if name == "default":
                assert word in render(bundle, None, status=4)
            elif name:
                assert render(bundle) == BODY
                assert word in render(bundle, TOOLS, status=4), "another one in its place"


def test_of_too_many_templates_the_last_by_name_are_left_out():
    """Whatever the order of the folder; never those that a chat takes without a name."""
    names = [f"t{i:03}" for i in range(80)] + ["tool_use", "default"]
    with Folder() as d:
        for i, order in enumerate((names, names[::-1])):
            path = folder(f"{d}/{i}", {f"additional_chat_templates/{n}.jinja": n + TEMPLATE for n in order}, drop=["chat_template"])
            bundle = converted(path, "82 templates, at most 64", '"t062"')
            assert sorted(load(bundle + "/additional_chat_templates.json")) == ["default"] + names[:62] + ["tool_use"]
            assert render(bundle) == "default" + BODY and render(bundle, TOOLS) == "tool_use" + BODY + "#1"


def test_a_list_of_templates_without_names_is_said_once():
    nameless = [{"template": TEMPLATE}, {"name": 7, "template": TEMPLATE}, {"name": "default"}, "text"]
    with Folder() as d:
        for i, (value, word) in enumerate(((nameless, "4 of 4 entries"), (nameless[:2] + [{"name": "default", "template": TEMPLATE}], "2 of 3 entries"))):
            bundle = converted(folder(f"{d}/{i}", chat_template=value), f"tokenizer_config.json: chat_template: {word}")
            assert render(bundle) == BODY if i else render(bundle, status=4)


def test_what_is_no_regular_file_is_left_out_and_said_once():
    with Folder() as d:
        files = ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json", "generation_config.json", "chat_template.jinja",
                 "chat_template.json", "additional_chat_templates/tool_use.jinja")
        for i, name in enumerate(files):
            for make in os.mkdir, os.mkfifo:
                path = folder(f"{d}/{i}{make.__name__}", drop=["added_tokens_decoder", "chat_template"])
                os.makedirs(os.path.dirname(f"{path}/{name}"), exist_ok=True)
                if os.path.exists(f"{path}/{name}"):
                    os.remove(f"{path}/{name}")
                make(f"{path}/{name}")
                bundle = converted(path, name + ": not a regular file", IDS_ONLY if name == "tokenizer.json" else "it is left out" if "/" in name else name)
                assert greedy(bundle) == GREEDY
                if name in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja") or "/" in name:
                    done = tpshard("tokenizer", path, "-o", path + ".t", status=None)
                    assert name + ": not a regular file" in done.stderr.decode() and (done.returncode != 0) == (name == "tokenizer.json"), done.stderr


def test_an_added_tokens_json_that_is_none_is_ignored():
    with Folder() as d:
        for i, value in enumerate((POINTER, PAGE, b"", b"[1]", b"\xef\xbb\xbf{}", b"{", b'{"a": 1, "a": 2}')):
            bundle = converted(folder(f"{d}/{i}", {"added_tokens.json": value}, drop=["added_tokens_decoder"]), "added_tokens.json", "the file is ignored")
            assert encode(bundle, "hello") == [1, 259, 305, 81]
        converted(folder(d + "/beside", {"added_tokens.json": b""}, added_tokens_decoder={"1": {"content": "<s>"}}), count=0)  # nobody asks


def test_a_tokenizer_config_that_is_no_json_is_ignored():
    with Folder() as d:
        for i, value in enumerate((b"{", b"", b"[1]", PAGE, POINTER, b'{"bos_token": "<s>",}', b"\xef\xbb\xbf{}", b'{"a": 1, "a": 2}')):
            bundle = converted(folder(f"{d}/{i}", {"tokenizer_config.json": value, "chat_template.jinja": "t{{ bos_token }}"}), "tokenizer_config.json", "the file is ignored")
            assert encode(bundle, "hello") == [1, 259, 305, 81] and render(bundle) == "t"
        for i, value in enumerate((b"{", b"[]", b"")):
            files = {"special_tokens_map.json": value, "chat_template.jinja": TEMPLATE}
            assert render(converted(folder(f"{d}/map{i}", files, drop=["added_tokens_decoder"]), "special_tokens_map.json")) == BODY


def test_what_is_said_of_a_long_path_keeps_its_end():
    with Folder() as d:
        path = d + "/" + "/".join(["x" * 200] * 3)
        os.makedirs(path)
        converted(folder(path + "/m", {"generation_config.json": "{"}), "tokens are chosen greedily")
        converted(folder(path + "/n", {"tokenizer.json": "{"}), "the bundle takes token ids only")


def test_a_template_that_is_read_is_no_output():
    with Folder() as d:
        path = folder(d + "/m", {"additional_chat_templates/x.jinja": "{{ 1 }}"})
        for out in ("additional_chat_templates/x.jinja", "tokenizer.json"):
            error_line(tpshard("tokenizer", path, "-o", f"{path}/{out}", status=None), 2, out, "is a file that is read")
        assert open(path + "/additional_chat_templates/x.jinja").read() == "{{ 1 }}"


def test_export_gives_templates_back():
    """Converted again, it is the same; a second export replaces the first."""
    texts = {"tool_use": "T" + TEMPLATE.replace("\n", "\r\n"), "rag": "\ufeffR\u00e9" + TEMPLATE, "broken": "{% if %}"}
    with Folder() as d:
        files = {f"additional_chat_templates/{n}.jinja": t for n, t in texts.items()}
        path = folder(d + "/m", {**files, "chat_template.jinja": TEMPLATE, "additional_chat_templates/notes.txt": "no template"})
        bundle = converted(path, "broken", "byte order mark", count=2)
        assert load(bundle + "/additional_chat_templates.json") == texts
        tpshard("export", bundle, "-o", d + "/e", "-q")
        for n, t in texts.items():
            with open(f"{d}/e/additional_chat_templates/{n}.jinja", "rb") as f:
                assert f.read() == t.encode()
        assert sorted(os.listdir(d + "/e/additional_chat_templates")) == sorted(n + ".jinja" for n in texts)
        assert os.stat(d + "/e/additional_chat_templates").st_mode & 0o777 == os.stat(d + "/e").st_mode & 0o777
        tpshard("convert", d + "/e", "-o", d + "/again", "-q", "--no-selftest")
        assert load(d + "/again/manifest.json")["bundle_id"] == load(bundle + "/manifest.json")["bundle_id"]
        tpshard("verify", d + "/again", "--against", path)
        tpshard("reshard", bundle, "-o", d + "/r", "--tp", "2", "-q")
        tpshard("export", d + "/r", "-o", d + "/e", "-q", "--force")
        assert sorted(os.listdir(d + "/e/additional_chat_templates")) == sorted(n + ".jinja" for n in texts)
        # what is somebody's stays
        put(d + "/e/additional_chat_templates/mine.jinja", "mine")
        error_line(tpshard("export", bundle, "-o", d + "/e", "-q", "--force", status=None), 2, "additional_chat_templates")
        os.remove(d + "/e/additional_chat_templates/mine.jinja")
        put(d + "/e/additional_chat_templates/rag.jinja", "edited")
        error_line(tpshard("export", bundle, "-o", d + "/e", "-q", "--force", status=None), 2, "additional_chat_templates")
        with open(d + "/e/additional_chat_templates/rag.jinja") as f:
            assert f.read() == "edited"
        os.unlink(d + "/e/additional_chat_templates/rag.jinja")
        os.symlink("/etc/passwd", d + "/e/additional_chat_templates/rag.jinja")
        error_line(tpshard("export", bundle, "-o", d + "/e", "-q", "--force", status=None), 2, "additional_chat_templates")


def test_an_export_of_templates_that_is_killed_is_brought_to_its_end():
    """At any of its file calls, over an older export that has a file of somebody's: nothing of that is lost."""
    with Folder() as d:
        path = folder(d + "/m", {"chat_template.jinja": TEMPLATE, **{f"additional_chat_templates/{n}.jinja": n + TEMPLATE for n in "abc"}})
        bundle = converted(path, count=0)
        command = ("export", bundle, "-o", d + "/e", "-q", "--force")
        tpshard(*command)
        whole = harness.tree_bytes(d + "/e")
        count = tpshard(*command, env={**os.environ, "TP_FAULT": "count"}).stderr.decode()
        calls = int(count.split("io calls: ")[1].split()[0])
        assert calls > 100, count
        for k in range(1, calls + 1, max(1, calls // (60 // min(harness.SHARE, 10)))):
            put(d + "/e/mine.txt", "mine")
            tpshard(*command, status=None, env={**os.environ, "TP_FAULT": f"kill:{k}"})
            tpshard(*command)
            assert harness.tree_bytes(d + "/e") == {**whole, "mine.txt": b"mine"}, k
            assert not os.path.exists(d + "/e.partial"), k


if __name__ == "__main__":
    harness.main(globals())
