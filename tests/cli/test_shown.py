"""What the programs print: names from files never reach a terminal as they are, errors keep file and reason however
long a path is, and a standard output that is full or closed is an error of every command."""
import json
import os
import shutil
import subprocess
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))
import harness
import seal
from harness import DEMO, TPRUN, TPSHARD, checkpoint, convert, error_line, tiny_model, tprun, tpshard

TPSHARD_COMMANDS = ("convert", "plan", "inspect", "verify", "diff", "reshard", "export", "tokenizer")
TPRUN_COMMANDS = ("generate", "chat", "logits", "selftest", "tokenize", "render", "info")
# controls, C1, what reorders, hides or breaks lines; and what may be shown
MARKS = "\x1b[31m\x07\r\x7f\u0085\u009b31m\u061c\u200b\u200f\u2028\u2029\u202e\u2066\u2069\ufeff\U000e0041"
NAME = f"n{MARKS}\u00e9\u65e5\u00a0"
BYTES = os.fsdecode(b"\x9b\xff\xc2\x1b]0;x\x07")  # a file's name has any bytes


def obeyed(c):
    c = ord(c)
    return c < 32 or 0x7f <= c <= 0x9f or c in (0xad, 0x61c, 0x180e, 0xfeff) or 0x200b <= c <= 0x200f or 0x2028 <= c <= 0x202e or \
        0x2060 <= c <= 0x206f or 0xfff9 <= c <= 0xfffb or 0xe0000 <= c <= 0xe0fff


def harmless(done, *what):
    for raw in done.stdout, done.stderr:
        text = raw.decode()  # which is UTF-8
        found = sorted({f"U+{ord(c):04X}" for c in text if c != "\n" and obeyed(c)})
        assert not found, (what, found, text[:600])
    return done.stdout.decode() + done.stderr.decode()


def model_with_templates(folder):
    """The demo model, whose templates have such names, and refuse with such words."""
    shutil.copytree(DEMO, folder)
    with open(folder + "/tokenizer_config.json", encoding="utf-8") as f:
        config = json.load(f)
    template = config.pop("chat_template", None) or "{{ messages[0].content }}"
    config["chat_template"] = [{"name": "default", "template": template}, {"name": NAME, "template": "{{ 1 }}"},
                               {"name": NAME + "2", "template": "{% " + MARKS + " %}"}]
    with open(folder + "/tokenizer_config.json", "w", encoding="utf-8") as f:
        json.dump(config, f)
    for name in os.listdir(folder):
        if name.endswith(".jinja"):
            os.remove(os.path.join(folder, name))
    return folder


def test_names_of_files_and_folders_are_shown_escaped(tmp):
    here = os.path.join(tmp, NAME + BYTES)
    os.mkdir(here)
    model, bundle = model_with_templates(here + "/m" + NAME), here + "/b" + BYTES
    said = harmless(tpshard("convert", model, "-o", bundle, "--tp", "2"), "convert")
    assert "\\x1b[31m\\x07" in said and "\u00e9\u65e5\u00a0" in said and "2 ranks" in said, said
    convert(checkpoint("yarn"), here + "/other")
    open(here + "/lines", "w").write("x")
    for args in (["convert", model, "-o", bundle], ["convert", model, "-o", here + "/n", "--dry-run"], ["convert", model, "-o", here + "/n", "--dry-run", "--json"],
                 ["convert", bundle, "-o", here + "/n"], ["plan", model], ["plan", model, "--json"], ["plan", bundle + "x"],
                 ["inspect", bundle], ["inspect", bundle, "--json", "--tensors"], ["inspect", here], ["verify", bundle], ["verify", bundle, "--against", model],
                 ["diff", bundle, bundle], ["diff", bundle, here + "/other"], ["diff", bundle, here + "/other", "--json"], ["diff", bundle, here],
                 ["reshard", bundle, "-o", here + "/r" + NAME, "--tp", "1"], ["export", bundle, "-o", here + "/e" + NAME],
                 ["tokenizer", model, "-o", here + "/t" + NAME], ["tokenizer", here, "-o", here + "/u"], [NAME], ["plan", model, "--tp", NAME], ["plan", "--" + NAME],
                 ["verify", bundle, NAME, NAME]):
        harmless(tpshard(*args, status=None), *args)
    for args in (["generate", bundle, "-p", "a", "-n", "2", "--ids"], ["generate", bundle, "-p", "a", "-n", "2", "--ids", "--report", "json"], ["generate", bundle, "a", "-v"], ["generate", here, "-p", "a"],
                 ["generate", bundle, "-f", here], ["generate", bundle, "--prompts", here + "/lines"], ["generate", bundle, "-p", "a", "--trace", here], ["selftest", bundle],
                 ["logits", bundle, "-p", "a", "-o", here + "/logits"], ["logits", bundle, "-p", "a", "-o", here + "/no/logits"], ["tokenize", here], ["tokenize", bundle], ["render", bundle],
                 ["render", "--template", here], ["info"], [NAME], ["generate", bundle, "--" + NAME], ["chat", bundle, "-n", "1"], ["generate", bundle, "--isa", NAME, "-p", "a"]):
        harmless(tprun(*args, status=None, input=b""), *args)
    harmless(tprun("chat", bundle, "-n", "1", input=os.fsencode(f"/load {here}/none\n/save {here}/no/file\n/{MARKS[:4]}\n"), status=None), "chat")


def test_texts_of_a_manifest_are_shown_escaped(tmp):
    """Forged: every hash is true."""
    convert(model_with_templates(tmp + "/m"), tmp + "/b")
    convert(DEMO, tmp + "/good")
    plain = tpshard("inspect", tmp + "/b", "--json").stdout
    assert json.loads(plain)["chat_templates"].keys() >= {NAME}, "nothing is lost in JSON"

    def change(m):
        m["model"]["architecture"] = "A" + MARKS
        m["chat_templates"]["t" + MARKS] = "d" + MARKS
        m["files"][0]["name"] = "f\u0085\u202e\u200b"  # those below a space are no plain name
        for t in m["ranks"][0]["tensors"]:
            t["hash"] = "h" + MARKS
    seal.seal(tmp + "/b", change)
    for args in (["inspect"], ["inspect", "--tensors"], ["inspect", "--json"], ["inspect", "--json", "--tensors"], ["verify"], ["export", "-o", tmp + "/e"],
                 ["reshard", "--tp", "2", "-o", tmp + "/r"], ["diff", tmp + "/good"], ["diff", tmp + "/good", "--json"]):
        done = tpshard(args[0], tmp + "/b", *args[1:], status=None)
        text = harmless(done, *args)
        if args[0] == "inspect":
            assert done.returncode == 0 and ("\\u202e" if "--json" in args else "\\xe2\\x80\\xae") in text, text
        if args == ["inspect", "--json"]:
            found = json.loads(done.stdout)
            assert found["model"]["architecture"] == "A" + MARKS and found["chat_templates"]["t" + MARKS] == "d" + MARKS
    for args in ["generate", "-p", "a"], ["selftest"], ["tokenize"], ["chat"], ["logits", "-p", "a", "-o", tmp + "/l"]:
        harmless(tprun(args[0], tmp + "/b", *args[1:], status=None, input=b""), *args)


def test_names_of_tensors_and_keys_are_shown_escaped(tmp):
    tiny_model(tmp + "/m")
    with open(tmp + "/m/config.json") as f:
        config = json.load(f)
    for change in {"k" + MARKS: 1}, {"architectures": ["X" + MARKS]}, {"hidden_act": MARKS}, {"torch_dtype": MARKS}, {"quantization_config": {"quant_method": MARKS}}:
        with open(tmp + "/m/config.json", "w") as f:
            json.dump({**config, **change}, f)
        for command in "convert", "plan":
            harmless(tpshard(command, tmp + "/m", *(["-o", tmp + "/b"] if command == "convert" else []), status=None), command, *change)
    with open(tmp + "/m/config.json", "w") as f:
        json.dump(config, f)
    header = json.dumps({"t" + MARKS: {"dtype": "BF16", "shape": [1], "data_offsets": [0, 2]}, "u" + MARKS: {"dtype": MARKS, "shape": [1], "data_offsets": [2, 4]}}).encode()
    with open(tmp + "/m/model.safetensors", "wb") as f:
        f.write(len(header).to_bytes(8, "little") + header + bytes(4))
    harmless(tpshard("convert", tmp + "/m", "-o", tmp + "/c", status=3), "tensor")


def test_what_render_prints_is_json_without_what_a_terminal_obeys(tmp):
    with open(tmp + "/t.jinja", "w") as f:
        f.write("{{ x }}\u202e\x1b\u00e9")
    done = tprun("render", "--template", tmp + "/t.jinja", input=json.dumps({"x": MARKS}).encode() + b"\n")
    harmless(done, "render")
    assert json.loads(done.stdout) == MARKS + "\u202e\x1b\u00e9" and "\u00e9" in done.stdout.decode()


def test_ids_of_prompts_are_shown_escaped_in_json(tmp):
    convert(DEMO, tmp + "/b")
    with open(tmp + "/p", "w", encoding="utf-8") as f:
        f.write(json.dumps({"id": NAME, "prompt": "Once"}, ensure_ascii=False) + "\n")
    done = tprun("generate", tmp + "/b", "--prompts", tmp + "/p", "--json", "-n", "2", "-q")
    harmless(done, "generate")
    assert json.loads(done.stdout)["id"] == NAME


# ---- long paths ----

def long_folder(tmp, n):
    """A folder whose path has n bytes."""
    path = tmp
    while len(path) < n:
        path += "/" + "d" * max(1, min(200, n - len(path) - 1))
    os.makedirs(path)
    return path


def test_an_error_about_a_long_path_says_file_and_reason(tmp):
    tiny_model(tmp + "/source")
    convert(DEMO, tmp + "/good")
    for n in 300, 600, 2000, 4000:
        d = long_folder(f"{tmp}/{n}", n)
        for name in "m", "wrong", "b":
            os.mkdir(f"{d}/{name}")
        with open(d + "/m/config.json", "w") as f:
            f.write('{"a": 1, x')
        for name in os.listdir(tmp + "/source"):
            shutil.copy(f"{tmp}/source/{name}", d + "/wrong")
        with open(d + "/wrong/model.safetensors", "wb") as f:
            f.write(b"\1\2\3")
        with open(d + "/b/manifest.json", "w") as f:
            f.write("{}")
        with open(d + "/b/file", "w") as f:
            f.write("x")
        missing = "No such file or directory"
        for program, args, status, *words in (
                (tpshard, ["convert", d + "/none", "-o", tmp + "/o"], 5, "/none: no such folder"), (tpshard, ["convert", d + "/m", "-o", tmp + "/o"], 3, "m/config.json: line 1"),
                (tpshard, ["convert", d + "/wrong", "-o", tmp + "/o"], 3, "model.safetensors: 3 bytes"), (tpshard, ["convert", tmp + "/source", "-o", d + "/b/file"], 2, "b/file: "),
                (tpshard, ["convert", tmp + "/source", "-o", d + "/b"], 2, "/b: "), (tpshard, ["inspect", d + "/b"], 3, "b/manifest.json: "), (tpshard, ["inspect", d + "/none"], 5, "/none: no such folder"),
                (tpshard, ["diff", tmp + "/good", d + "/b"], 3, "b/manifest.json: "), (tpshard, ["tokenizer", d + "/wrong", "-o", tmp + "/o"], 5, "wrong/tokenizer.json: ", missing),
                (tpshard, ["export", tmp + "/good", "-o", d + "/b"], 2, "/b: "), (tprun, ["generate", d + "/b", "-p", "a"], 3, "b/manifest.json: "),
                (tprun, ["generate", tmp + "/good", "-f", d + "/none"], 5, "/none: ", missing), (tprun, ["generate", tmp + "/good", "--prompts", d + "/b/file"], 3, "b/file: line 1"),
                (tprun, ["logits", tmp + "/good", "-p", "a", "-o", d + "/none/l"], 5, "none", missing), (tprun, ["tokenize", d + "/b/file"], 3, "b/file: "),
                (tprun, ["render", "--template", d + "/none"], 5, "/none: ", missing)):
            done = program(*args, status=None, input=b"")
            line = error_line(done, done.returncode, *words)
            assert done.returncode == status, (n, args[0], done.returncode, line)
            assert n < 500 or tmp not in line or "..." in line, line


def test_an_error_about_long_names_keeps_its_reason(tmp):
    tiny_model(tmp + "/m")
    for name in "t" * 1024, "\x1b" * 1000, "t " * 500:
        header = json.dumps({name: {"dtype": "BF16", "shape": [1], "data_offsets": [0, 4]}}).encode()
        with open(tmp + "/m/model.safetensors", "wb") as f:
            f.write(len(header).to_bytes(8, "little") + header + bytes(4))
        line = error_line(tpshard("convert", tmp + "/m", "-o", tmp + "/b", status=3), 3, "model.safetensors: ", f"({len(name)} bytes)")
        assert "2 bytes" in line.split(f"({len(name)} bytes)")[1], line
    a, b = tmp + "/" + "a" * 230, tmp + "/" + "b" * 230
    convert(checkpoint("yarn"), a)
    convert(checkpoint("llama3-rope"), b)
    error_line(tpshard("diff", a, b, status=8), 8, "aaa", "bbb", " difference")


# ---- standard output ----

def test_a_full_standard_output_is_exit_5_for_every_help(tmp):
    calls = [[TPSHARD, "--help"], [TPSHARD, "-h"], [TPRUN, "--help"], [TPRUN, "-h"], *([TPSHARD, c, "--help"] for c in TPSHARD_COMMANDS), *([TPRUN, c, "--help"] for c in TPRUN_COMMANDS)]
    for args in calls:
        with open("/dev/full", "w") as full:
            error_line(subprocess.run(args, stdout=full, stderr=subprocess.PIPE), 5, "tandard output", "No space left on device")
        read, write = os.pipe()
        os.close(read)
        error_line(subprocess.run(args, stdout=write, stderr=subprocess.PIPE), 5, "tandard output", "Broken pipe")
        os.close(write)
        closed = subprocess.run(["sh", "-c", 'exec "$@" >&-', "sh", *args], stderr=subprocess.PIPE)
        error_line(closed, 5, "tandard output")
    for program in TPSHARD, TPRUN:  # without a command: help is an error's, and on standard error
        with open("/dev/full", "w") as full:
            done = subprocess.run([program], stdout=full, stderr=subprocess.PIPE)
        assert done.returncode == 2 and done.stderr.startswith(b"usage: "), done


def test_a_full_standard_output_is_exit_5_for_every_command(tmp):
    convert(DEMO, tmp + "/b", selftest=True)
    convert(checkpoint("yarn"), tmp + "/other")
    line = json.dumps("word " * 100000).encode() + b"\n"
    for args, text in (([TPSHARD, "convert", DEMO, "-o", tmp + "/n", "--dry-run"], None), ([TPSHARD, "convert", DEMO, "-o", tmp + "/n", "--dry-run", "--json"], None),
                       ([TPSHARD, "plan", DEMO], None), ([TPSHARD, "plan", DEMO, "--json"], None), ([TPSHARD, "inspect", tmp + "/b"], None), ([TPSHARD, "inspect", tmp + "/b", "--json"], None),
                       ([TPSHARD, "verify", tmp + "/b"], None), ([TPSHARD, "diff", tmp + "/b", tmp + "/b"], None), ([TPSHARD, "diff", tmp + "/b", tmp + "/b", "--json"], None),
                       ([TPRUN, "generate", tmp + "/b", "-p", "a", "-n", "2"], None), ([TPRUN, "generate", tmp + "/b", "-p", "a", "-n", "2", "--json"], None),
                       ([TPRUN, "logits", tmp + "/b", "-p", "a", "-o", "-"], None), ([TPRUN, "selftest", tmp + "/b"], None), ([TPRUN, "chat", tmp + "/b", "-n", "2"], b"hello\n"),
                       ([TPRUN, "tokenize", tmp + "/b"], b'"a"\n'), ([TPRUN, "tokenize", tmp + "/b"], line), ([TPRUN, "tokenize", tmp + "/b", "--decode"], b"[1, 2]\n"),
                       ([TPRUN, "render", tmp + "/b"], b'{"messages": []}\n'), ([TPRUN, "info"], None)):
        with open("/dev/full", "w") as full:
            error_line(subprocess.run(args, stdout=full, stderr=subprocess.PIPE, input=text if text else b""), 5)


harness.main(globals())
