#!/usr/bin/env python3
"""tprun generate as a user types it: the text, the line and the report about a run, why an answer ends, the first layers of a model."""
import json
import os
import pty
import re
import struct
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))
import harness
from harness import DEMO, ROOT, TPRUN, checkpoint, convert, error_line, first_layers, tprun

LINE = r"tprun: (\d+) tokens? in [\d.]+ s, \d+ tok/s"
GREEDY = ("--temp", "0")


def demo(d):
    convert(DEMO, d + "/b", "--tp", "2")
    return d + "/b"


def lines(done):
    return done.stderr.decode().splitlines()


def test_a_text_without_an_option_is_the_prompt(d):
    b = demo(d)
    want = tprun("generate", b, "-p", "Once upon", "-n", "9", *GREEDY)
    assert tprun("generate", b, "Once upon", "-n", "9", *GREEDY).stdout == want.stdout
    assert tprun("generate", "-n", "9", *GREEDY, b, "Once upon").stdout == want.stdout
    assert tprun("generate", b, "--prompt=Once upon", "--max-new-tokens=9", "--temperature=0").stdout == want.stdout
    for name in "xy":
        tprun("logits", b, *(["Once upon"] if name == "x" else ["-p", "Once upon"]), "-o", d + "/" + name)
    assert open(d + "/x", "rb").read() == open(d + "/y", "rb").read()
    for more in (["-p", "b"], ["-f", d + "/x"], ["--prompt-ids", "1"], ["--prompts", d + "/x"]):
        for command in (["generate"], ["logits", "-o", d + "/z"]):
            error_line(tprun(*command, b, "a", *more, status=None), 2, "more than one of TEXT, -p")
    error_line(tprun("generate", b, "Once", "upon", status=None), 2, "upon: one argument too many", "quotation marks")
    assert error_line(tprun("generate", b, status=None), 2).startswith("tprun: error CL01: generate: none of TEXT")


def test_a_run_says_one_line_of_itself(d):
    b = demo(d)
    done = tprun("generate", b, "Once upon", "-n", "9", *GREEDY)
    assert re.fullmatch(LINE + r" \(length\)", done.stderr.decode()[:-1]) and done.stderr.endswith(b"\n"), done.stderr
    assert re.match(LINE, lines(done)[0])[1] == "9"
    assert tprun("generate", b, "Once", "-n", "1").stderr.startswith(b"tprun: 1 token in ")
    for quiet in (["-q"], ["--report", "none"]):
        assert tprun("generate", b, "Once upon", "-n", "9", *GREEDY, *quiet).stderr == b""
        assert tprun("logits", b, "Once upon", "-o", d + "/l", *quiet).stderr == b""
    assert re.fullmatch(LINE, lines(tprun("logits", b, "Once upon", "-o", d + "/l"))[0])
    with open(d + "/p", "w") as f:
        f.write('{"prompt": "Once"}\n{"prompt": "Once", "n": 3}\n{"prompt": "The", "n": 3}\n')
    done = tprun("generate", b, "--prompts", d + "/p", "-n", "30", "--context", "12", "--ids", *GREEDY)
    assert re.fullmatch(LINE + r" \(3 answers: 2 length, 1 context\)", lines(done)[0]), done.stderr
    assert sum(len(l.split()) for l in done.stdout.decode().splitlines()) == int(re.match(LINE, lines(done)[0])[1])
    assert lines(tprun("selftest", b, status=None))[0].startswith("tprun: error CL02")


def test_quiet_hushes_notes_and_no_warning(d):
    b = demo(d)
    for command, more in ((["generate", b, "Once", "-n", "1"], {}), (["logits", b, "Once", "-o", d + "/l"], {}), (["chat", b, "-n", "1"], {"input": b"hi\n"})):
        command += ["--context", "3000", "--threads", "1000", "--verify", "header"]
        warning = b"tprun: warning: --verify=header: the weights are used without being checked\n"
        notes = tprun(*command, **more).stderr
        assert notes.count(b"note: ") == (1 if command[0] == "logits" else 2) and warning in notes, notes
        assert tprun(*command, "-q", **more).stderr == warning
        said = tprun(*command, "--report", "json", **more).stderr
        assert said.startswith(warning) and json.loads(said[len(warning):])["schema"] == 1
    for asked in (["-q"], ["--report", "json"]):
        assert b"is full" not in tprun("chat", b, "--context", "20", *asked, input=b"hi\n").stderr
    assert b"is full" in tprun("chat", b, "--context", "20", input=b"hi\n").stderr


def test_on_a_terminal_the_answer_comes_first_and_the_line_below(d):
    b = demo(d)
    pid, fd = pty.fork()
    if pid == 0:
        os.execv(TPRUN, [TPRUN, "generate", b, "Once upon", "-n", "9", *GREEDY])
    said = b""
    try:
        while part := os.read(fd, 4096):
            said += part
    except OSError:  # its end
        pass
    assert os.waitpid(pid, 0)[1] == 0
    answer, line, rest = said.decode().split("\r\n")
    assert answer == tprun("generate", b, "Once upon", "-n", "9", *GREEDY).stdout.decode()[:-1]
    assert re.fullmatch(LINE + r" \(length\)", line) and rest == ""


def test_the_report_is_printed_where_it_is_asked_for(d):
    b = demo(d)
    args = ("generate", b, "Once upon", "-n", "9", *GREEDY)
    for asked in (["-v"], ["--verbose"], ["--report", "text"], ["-v", "-q"]):
        said = lines(tprun(*args, *asked))
        assert all(l.startswith("tprun: report: ") for l in said), said
        assert any("layers 6 of 6, device cpu" in l for l in said)
        assert [l[:22] for l in said[:2]] == ["tprun: report: rank 0 ", "tprun: report: rank 1 "]
    page = open(os.path.join(ROOT, "docs", "tprun.1")).read()
    section = page[page.index(".Sh REPORT"):page.index(".Sh FILES")]
    for command in (["generate"], ["logits", "-o", d + "/l"]):
        for asked in (["--report", "json"], ["--report=json", "-q"], ["-v", "--report", "json"]):
            done = tprun(*command, b, "Once upon", *asked)
            report = json.loads(done.stderr)  # one object and nothing else
            assert report["schema"] == 1 and report["tp"] == 2 and report["layers"] == report["model_layers"] == 6
            for key in [*report, *report["ranks"][0]]:
                assert re.search(rf"\b{key}\b", section), f"{key} is not in the manual"
    assert json.loads(tprun("chat", b, "--report", "json", input=b"hi\n").stderr)["schema"] == 1
    assert tprun("chat", b, input=b"hi\n").stderr == b""
    error_line(tprun(*args, "--report", "xml", status=None), 2, "--report", "text, json or none expected")


def test_an_answer_says_why_it_ends(d):
    b = demo(d)

    def answer(*args):
        done = tprun("generate", b, "Once upon a time, there was a little bird", "--temp", "0.5", "--seed", "44", "--json", *args)
        line = json.loads(done.stdout)
        assert list(line) == ["schema", "id", "prompt_ids", "ids", "text", "finish"] and line["schema"] == 1
        assert lines(done)[0].endswith(f" ({line['finish']})"), done.stderr
        return line["finish"], len(line["ids"]), len(line["prompt_ids"])
    finish, n, prompt = answer("-n", "160")
    assert finish == "eos" and n > 100
    assert answer("-n", "9")[:2] == ("length", 9)
    for context in (prompt, prompt + 1, prompt + 9):
        assert answer("-n", "20", "--context", context)[:2] == ("context", context - prompt)
    assert answer("-n", "9", "--context", prompt + 9)[:2] == ("length", 9)
    assert answer("-n", "0", "--context", prompt)[:2] == ("length", 0)
    assert answer("-n", n, "--context", prompt + n)[0] == "eos"
    assert answer("-n", "160", "--stop", " a")[0] == "stop"


def results(d, bundle, *args):
    """Logits, trace and drawn ids."""
    ids = ",".join(map(str, (1, 5, 9, 2, 14, 7, 7, 3)))
    tprun("logits", bundle, "--prompt-ids", ids, "-o", d + "/l", "--trace", d + "/t", "-q", *args)
    drawn = tprun("generate", bundle, "--prompt-ids", ids, "-n", "12", "--temp", "0.9", "--ids", "--ignore-eos", "-q", *args)
    return [open(d + "/" + n, "rb").read() for n in "lt"] + [drawn.stdout]


def test_the_first_layers_are_those_of_a_model_that_has_no_more(d):
    recipes = ([], ["--tp", "3"], ["--compress", "zstd", "--tp", "2"], ["--quant", "int8"], ["--dtype", "f32", "--tp", "5"],
               ["--quant", "int4", "--group", "32", "--tp", "2"])
    for i, name in enumerate(("yarn", "qwen3-norm", "mistral-window", "llama3-rope", "mqa-bias", "qwen2-bias")):
        model = checkpoint(name)
        layers = json.load(open(model + "/config.json"))["num_hidden_layers"]
        convert(model, f"{d}/{name}", *recipes[i])
        seen = set()
        for n in range(1, layers + 1):
            first_layers(model, f"{d}/{name}-{n}", n)
            convert(f"{d}/{name}-{n}", f"{d}/{name}-{n}-b", *recipes[i])
            want, got = results(d, f"{d}/{name}-{n}-b"), results(d, f"{d}/{name}", "--layers", n)
            assert want == got, (name, n)
            seen.add(got[0])
        assert len(seen) == layers and results(d, f"{d}/{name}")[0] == got[0], "every layer counts"


def test_layers_are_those_that_convert_takes(d):
    model = checkpoint("yarn")
    convert(model, d + "/all")
    convert(model, d + "/two", "--layers", "2")
    assert results(d, d + "/all", "--layers", "2") == results(d, d + "/two")
    for bundle, n in (("all", ["--layers", "2"]), ("two", [])):
        args = ("generate", f"{d}/{bundle}", "--prompt-ids", "1,2", "-n", "2", "--ids", *n)
        assert lines(tprun(*args))[0].endswith(", layers 2 of 3")
        report = json.loads(tprun(*args, "--report", "json").stderr)
        assert (report["layers"], report["model_layers"]) == (2, 3)
    assert results(d, d + "/two", "--layers", "1") == results(d, d + "/all", "--layers", "1")
    error_line(tprun(*args, "--layers", "3", status=None), 2, "--layers 3: ", " has 2 layers")


def test_what_is_left_out_is_neither_read_nor_checked_nor_counted(d):
    b = demo(d)

    def report(*args):
        return json.loads(tprun("generate", b, "Once upon", "-n", "3", "--report", "json", *args).stderr)
    whole, part = report(), report("--layers", "2")
    assert (part["layers"], part["model_layers"]) == (2, 6) and whole["layers"] == 6
    assert report("--layers", "6")["hashed_bytes"] == whole["hashed_bytes"]
    for one, other in zip(whole["ranks"], part["ranks"]):
        saved = one["weight_bytes"] - other["weight_bytes"]
        assert 0.5 < saved / one["weight_bytes"] < 0.7 and other["kv_bytes"] * 3 == one["kv_bytes"]
        assert other["used_bytes"] == other["planned_bytes"]
    assert part["hashed_bytes"] < 0.5 * whole["hashed_bytes"]
    line = lines(tprun("generate", b, "Once upon", "-n", "3", "--layers", "4", *GREEDY))
    assert len(line) == 1 and line[0].endswith("tok/s (length), layers 4 of 6"), line
    manifest = json.load(open(b + "/manifest.json"))
    tensors = {t["name"]: t for t in manifest["ranks"][0]["tensors"]}
    path = b + "/rank-000-of-002.tps"
    data = bytearray(open(path, "rb").read())
    start = struct.unpack_from("<Q", data, 80)[0]  # of the data area
    for name in tensors:
        layer = re.search(r"\d+", name)
        at = start + tensors[name]["offset"]
        data[at] ^= 1
        open(path, "wb").write(data)
        for layers in (1, 3):
            good = bool(layer) and int(layer[0]) >= layers
            done = tprun("generate", b, "Once upon", "-n", "3", "--layers", layers, status=None)
            assert done.returncode == (0 if good else 7), (name, layers, done.stderr)
            if not good:
                error_line(done, 7, "rank-000-of-002.tps", name)
        data[at] ^= 1
    open(path, "wb").write(data)


def test_more_layers_than_there_are_is_an_error(d):
    b = demo(d)
    for command in (["generate"], ["logits", "-o", d + "/l"]):
        for n in ("7", "1000"):
            assert error_line(tprun(*command, b, "a", "--layers", n, status=None), 2) == \
                f"tprun: error CL01: --layers {n}: {b} has 6 layers"
        for n in ("0", "-1", "x", "1025", ""):
            error_line(tprun(*command, b, "a", "--layers", n, status=None), 2, "--layers", f'"{n}" given')
    error_line(tprun("selftest", b, "--layers", "1", status=None), 2, "--layers: an option of other commands, not of selftest")


def test_a_temperature_that_is_next_to_nothing_is_greedy(d):
    b = demo(d)
    want = tprun("generate", b, "Once upon", "-n", "9", "-q", *GREEDY).stdout
    for t in ("1e-45", "1e-30", "9.9e-7"):
        assert tprun("generate", b, "Once upon", "-n", "9", "-q", "--temp", t).stdout == want
    tprun("generate", b, "Once upon", "-n", "9", "-q", "--temp", "1e-6")
    error_line(tprun("generate", b, "a", "--temp", "1001", status=None), 2, "--temp", "0 to 1000")


def test_what_a_prompt_is_read_from_is_no_output(d):
    b = demo(d)
    text, lines_ = d + "/p.txt", d + "/p.jsonl"
    kept = {text: b"Once upon", lines_: b'{"prompt": "Once"}\n'}
    for path, data in kept.items():
        open(path, "wb").write(data)
    os.symlink(text, d + "/link")
    for command in (("logits", b, "-o"), ("generate", b, "-n", "1", "--trace")):
        for given in (("-f", text, text), ("-f", d + "/link", text), ("-f", text, d + "/./p.txt"), ("--prompts", lines_, lines_)):
            error_line(tprun(*command, given[2], *given[:2], status=None), 2, "is a file that is read; name another")
            assert all(open(path, "rb").read() == data for path, data in kept.items())
    tprun("logits", b, "-o", d + "/other", "-f", text)


harness.main(globals())
