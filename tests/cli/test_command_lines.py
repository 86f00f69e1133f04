#!/usr/bin/env python3
"""Command lines of both programs: the same mistake has the same words and the same code, help is where it is looked for, and
tprun's manual has other names of options, and every error code."""
import os
import re
import shutil
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))
import harness
from harness import ROOT, TPRUN, TPSHARD, Skip, run

PROGRAMS = {"tpshard": (TPSHARD, "convert plan inspect verify diff reshard export tokenizer".split()),
            "tprun": (TPRUN, "generate chat logits selftest tokenize render info".split())}
# What both say, and what they are asked; {} are the words of each that differ.
MISTAKES = (
    ("-o is missing: the file to make", (["tokenizer", "m"],), (["logits", "b", "-p", "x"],)),
    ("{}: no such command (--help lists them)", (["frobnicate"], "frobnicate"), (["frobnicate"], "frobnicate")),
    ("{}: no such command (--help lists them)", (["--frobnicate"], "--frobnicate"), (["--frobnicate"], "--frobnicate")),
    ("{}: no such command (--help lists them)", (["help", "x"], "x"), (["help", "x"], "x")),
    ("{}: no such command; did you mean {}?", (["convret"], "convret", "convert"), (["genrate"], "genrate", "generate")),
    ("{}: no such command; did you mean {}?", (["help", "dif"], "dif", "diff"), (["help", "hat"], "hat", "chat")),
    ("{}: one argument too many (several words are one in quotation marks)", (["help", "plan", "x"], "x"), (["help", "chat", "x"], "x")),
    ("{}: no such option of {} (--help lists them)", (["plan", "m", "--frobnicate"], "--frobnicate", "plan"), (["chat", "b", "--frobnicate"], "--frobnicate", "chat")),
    ("{}: no such option of {} (--help lists them)", (["plan", "--frobnicate=3", "m"], "--frobnicate", "plan"), (["chat", "--frobnicate=3", "b"], "--frobnicate", "chat")),
    ("{}: no such option of {} (--help lists them)", (["plan", "m", "-z"], "-z", "plan"), (["chat", "b", "-z"], "-z", "chat")),
    ("{}: no such option of {}; did you mean {}?", (["convert", "m", "-o", "x", "--dryrun"], "--dryrun", "convert", "--dry-run"),
     (["generate", "b", "--tempp", "1"], "--tempp", "generate", "--temp")),
    ("{}: no such option of {}; did you mean {}?", (["plan", "m", "--contxet=3"], "--contxet", "plan", "--context"),
     (["generate", "b", "--contxet=3"], "--contxet", "generate", "--context")),
    ("{}: an option of other commands, not of {}", (["plan", "m", "--force"], "--force", "plan"), (["logits", "b", "--seed", "3"], "--seed", "logits")),
    ("{}: an option of other commands, not of {}", (["verify", "m", "-o", "x"], "-o", "verify"), (["chat", "m", "-o", "x"], "-o", "chat")),
    ("{}: a value is missing", (["convert", "m", "-o"], "-o"), (["generate", "b", "-p"], "-p")),
    ("{}: a value is missing", (["convert", "m", "--threads"], "--threads"), (["generate", "b", "--threads"], "--threads")),
    ("{}: takes no value", (["verify", "b", "--quiet=1"], "--quiet"), (["generate", "b", "--quiet=1"], "--quiet")),
    ("{}: a command of {}", (["generate", "b"], "generate", "tprun"), (["help", "convert"], "convert", "tpshard")),
    ("{}: one argument too many (several words are one in quotation marks)", (["--version", "x"], "x"), (["-V", "x"], "x")),
    ("{}: one argument too many (several words are one in quotation marks)", (["help", "help", "x"], "x"), (["--help", "help", "x"], "x")),
    ('"" given, a path expected', (["inspect", ""],), (["generate", "", "x"],)),
    ('"" given, a path expected', (["diff", "a", ""],), (["render", ""],)),
    ('{}: "" given, a path expected', (["convert", "m", "-o", ""], "-o"), (["generate", "b", "-f", ""], "-f")),
    ('{}: "" given, a path expected', (["verify", "b", "--against="], "--against"), (["chat", "b", "--history="], "--history")),
    # an option is named as it was given
    ('{}: "{}" given, {} expected', (["convert", "b", "-o", "x", "--thr=0"], "--threads", "0", "1 to 1024"), (["generate", "b", "x", "-n=3"], "-n", "=3", "0 to 4294967295")),
    ('{}: "{}" given, {} expected', (["convert", "b", "--group", "x"], "--group", "x", "0, 32, 64 or 128"), (["generate", "b", "--max-tokens=x"], "--max-tokens", "x", "0 to 4294967295")),
    ('{}: "{}" given, {} expected', (["convert", "b", "--tp", "two"], "--tp", "two", "a number from 1 to 48"),
     (["generate", "b", "--isa", "sse"], "--isa", "sse", "scalar, avx2, avx512 or avx512bf16")),
    ('{}: "{}" given, {} expected', (["reshard", "b", "--tp", "1,2"], "--tp", "1,2", "a number from 1 to 48"), (["chat", "b", "--temp", "x"], "--temp", "x", "a number from 0 to 1000")),
    # options that mean nothing alone, or together
    ("{} goes with {}", (["convert", "m", "-o", "x", "--json"], "--json", "--dry-run"), (["generate", "b", "x", "--system", "s"], "generate: --system", "--chat")),
    ("{} goes with {}", (["plan", "m", "--mem-fraction", "1"], "--mem-fraction", "--gpu-mem"), (["generate", "b", "x", "--parse-special"], "generate: --parse-special", "--chat")),
    ("{}", (["plan", "m", "--gpu-mem", "16"], '--gpu-mem: "16" given, at least 1M, such as 16G, expected'),
     (["generate", "b", "--chat", "--prompt-ids", "1"], "generate: --chat and --prompt-ids exclude each other")),
    ("{}: several options of {} begin like this", (["convert", "m", "--qu"], "--qu", "convert"), (["generate", "b", "--to"], "--to", "generate")),
    ('{}: "{}" given, {} expected', (["verify", "b", "--threads", "many"], "--threads", "many", "1 to 1024"),
     (["generate", "b", "--threads", "many"], "--threads", "many", "1 to 1024")),
    ('{}: "{}" given, {} expected', (["plan", "b", "--context=0"], "--context", "0", "1 to 1099511627776"),
     (["generate", "b", "--chunk=0"], "--chunk", "0", "1 to 65536")),
    ('{}: "{}" given, {} expected', (["verify", "b", "--threads", "0"], "--threads", "0", "1 to 1024"), (["generate", "b", "--pin", "on"], "--pin", "on", "auto, yes or no")),
    ('{}: "{}" given, {} expected', (["convert", "b", "--dtype=int"], "--dtype", "int", "keep, f32, bf16 or f16"),
     (["generate", "b", "--kv-dtype=int"], "--kv-dtype", "int", "f32, bf16 or f16")),
    ("{} expected, {} given", (["inspect"], "one BUNDLE", "none"), (["generate"], "one BUNDLE", "none")),
    ("{}: one argument too many (several words are one in quotation marks)", (["inspect", "b", "x"], "x"), (["chat", "b", "x"], "x")),
    ("{}: one argument too many (several words are one in quotation marks)", (["diff", "a", "b", "x"], "x"), (["info", "x"], "x")),
)


def test_the_same_mistake_has_the_same_words_in_both_programs():
    for words, *each in MISTAKES:
        for name, (args, *own) in zip(PROGRAMS, each):
            done = run([PROGRAMS[name][0], *args], 2)
            want = f"{name}: error CL01: {words.format(*own)}\n"
            assert (done.stderr.decode(), done.stdout) == (want, b""), (args, done.stderr, want)


def test_a_command_of_the_other_program_is_known_as_one():
    for name, (path, own) in PROGRAMS.items():
        for other, (_, commands) in PROGRAMS.items():
            for command in commands if other != name else ():
                for args in ([command], ["help", command]):
                    done = run([path, *args], 2)
                    assert done.stderr.decode() == f"{name}: error CL01: {command}: a command of {other}\n", done.stderr


def test_a_folder_is_made_under_a_name():
    for command, *args in (("convert", "m"), ("convert", "m", "--dry-run"), ("reshard", "b", "--tp", "2"), ("export", "b"), ("plan", "m")):
        done = run([TPSHARD, command, *args, "-o", "-"], 2)
        assert done.stderr == b"tpshard: error CL01: -o -: a folder is made: name one\n", done.stderr


def test_what_is_not_in_this_version_is_said_to_be_not():
    assert run([TPRUN, "generate", "b", "x", "--isa", "amx"], 4).stderr == b"tprun: error CL02: --isa amx: not in this version\n"
    done = run([TPSHARD, "plan", "m", "--quant", "int4", "--group", "48", "--offset", "min"], None)
    assert done.stderr.startswith(b"tpshard: error CL0") and b"--group" in done.stderr
    listed = re.search(r"--isa (\S+)\n", run([TPRUN, "chat", "--help"]).stdout.decode())[1].split("|")
    refused = run([TPRUN, "chat", "b", "--isa", "sse"], 2).stderr.decode()
    page = re.search(r"\.It Fl -isa Ar name\n((?s:.*?))default:", read("docs/tprun.1"))[1]
    assert re.findall(r"\w+", refused.split("given, ")[1].split(" expected")[0].replace(" or ", " ")) == listed
    assert re.findall(r"(?:scalar|avx\w+)", page) == listed


def test_help_is_on_stdout_however_it_is_asked_for():
    for program, (path, commands) in PROGRAMS.items():
        texts = [run([path, *ask]) for ask in (["--help"], ["-h"], ["help"], ["help", "help"], ["help", "--help"])]
        assert all(t.stdout == texts[0].stdout and t.stderr == b"" for t in texts)
        nothing = run([path], 2)
        assert nothing.stderr == texts[0].stdout and nothing.stdout == b""
        for command in commands:
            assert re.search(rf"(?m)^  {command} ", texts[0].stdout.decode()), command
            said = [run([path, *ask]) for ask in (["help", command], [command, "--help"], [command, "-h"], ["--help", command], [command, "x", "--help"])]
            assert all(s.stdout == said[0].stdout and s.stderr == b"" for s in said), command
            assert said[0].stdout.decode().startswith(f"usage: {program} {command}") and said[0].stdout.endswith(b"\n")


# ---- the manual of tprun ----

def read(path):
    with open(os.path.join(ROOT, path), encoding="utf-8") as f:
        return f.read()


def options():
    """(name, identity) of every option of tprun, in the order of its table"""
    found = re.findall(r'\{"([\w-]+)", [01], (OPT_\w+),', read("runtime/cmd/run_options.c"))
    assert len(found) > 40
    return found


def test_other_names_of_options_stand_in_the_manual_once():
    page, helps = read("docs/tprun.1"), read("runtime/cmd/run_help.c")
    own, others = {}, []
    for name, identity in options():
        if own.setdefault(identity, name) != name:
            others.append(name)
    assert len(others) == 8
    for name in others:
        assert len(re.findall(rf"(?<=[ ,]-){name}(?![\w-])", page)) == 1, f"--{name} is to stand once in the manual"
        assert not re.search(rf"--{name}(?![\w-])", helps), f"--{name} is to stand in no help"


def test_the_manual_has_every_error_code_and_its_status():
    header = read("format/base/error.h")
    numbers = dict(re.findall(r"(TP_EXIT_\w+) = (\d+)", header))
    table = [(code, numbers[status]) for code, status in re.findall(r'X\(TP_E_\w+, "(\w+)", (TP_EXIT_\w+)\)', header)]
    page = re.findall(r"(?m)^\.It Li (\w\w\d\d) Pq (\d+)\n[^.]", read("docs/tprun.1"))
    assert page == table, [set(page) ^ set(table)]
    exits = re.search(r"(?s)\.Sh EXIT STATUS\n(.*?)\.Sh ", read("docs/tprun.1"))[1]
    assert re.findall(r"(?m)^\.It (\d+)$", exits) == list(numbers.values())


def test_manuals_are_good_mdoc():
    if not shutil.which("mandoc"):
        raise Skip("mandoc is not installed")
    done = run(["mandoc", "-T", "lint", "-W", "warning", os.path.join(ROOT, "docs", "tprun.1")], None)
    assert done.stdout == b"", done.stdout.decode()
    text = re.sub("\N{BACKSPACE}.|.\N{BACKSPACE}", "", run(["mandoc", "-T", "utf8", os.path.join(ROOT, "docs", "tprun.1")]).stdout.decode())
    for command in PROGRAMS["tprun"][1]:
        assert re.search(rf"(?m)^ +tprun {command}\b", text), command


harness.main(globals())
