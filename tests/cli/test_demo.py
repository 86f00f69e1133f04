#!/usr/bin/env python3
"""README.md, docs/ and the demo say what the programs do: the story, the session, commands, options, limits."""
import glob
import os
import re
import subprocess
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))
import harness
from harness import BUILD, ROOT, TPRUN, TPSHARD, run

PROGRAMS = {"tpshard": TPSHARD, "tprun": TPRUN}


def read(*path):
    with open(os.path.join(ROOT, *path), encoding="utf-8") as f:
        return f.read()


def help_of(program, command=None):
    return run([PROGRAMS[program], *([command] if command else []), "--help"]).stdout.decode()


def commands(program):
    """The subcommands that --help lists."""
    return re.findall(r"(?m)^  ([a-z]+) ", help_of(program))


def options(text):
    return set(re.findall(r"(?<![\w-])--[a-z][a-z0-9-]*", text))


def test_the_demo_prints_the_text_of_the_readme():
    done = run([os.path.join(ROOT, "scripts", "demo.sh"), os.path.relpath(BUILD, ROOT)], cwd=ROOT)
    shown = re.search(r"(?s)<!-- demo:.*?-->\n```text\n(.*?)```\n<!-- /demo -->", read("README.md")).group(1)
    printed = done.stdout.decode().replace(os.path.relpath(BUILD, ROOT) + "/", "build/")
    assert printed == shown, f"the demo prints\n{printed}"


def test_every_command_and_option_of_the_readme_exists():
    text = read("README.md")
    for program in PROGRAMS:
        named = set(re.findall(rf"(?m)(?:^\$ |`)(?:build/)?{program} ([a-z]+)\b", text))
        assert named == set(commands(program)), (program, named)
        for line in text.splitlines():
            found = re.match(rf"(?:\| `|\$ )(?:build/)?{program} ([a-z]+)", line)
            if found:
                unknown = options(line) - options(help_of(program, found.group(1)))
                assert not unknown, f"{program} {found.group(1)} has no {unknown}"


def man_options(program):
    """Long options of a page: man(7) writes them \\-\\-name, mdoc(7) Fl -name on macro lines."""
    text = read("docs", program + ".1")
    if ".Dt" not in text:
        return options(text.replace("\\-", "-"))
    text = re.sub(r"(?s)\.Ss Other names of options\n.*?\.El\n", "", text)  # those are in no help
    lines = [l for l in text.splitlines() if re.match(r"\.((Op |Pq )?|It .*)Fl ", l)]
    return {"-" + o for l in lines for o in re.findall(r"(?<![\w-])-[a-z][a-z-]+", l)}


def test_the_man_pages_have_every_option_of_help_and_no_other():
    for program in PROGRAMS:
        page = man_options(program) | {"--help"}
        helped = set().union({"--help"}, *(options(help_of(program, c)) for c in commands(program)), {"--version"})
        assert helped == page, f"{program}.1 lacks {helped - page} and has {page - helped}"


def test_the_man_pages_render_without_warnings():
    for program in PROGRAMS:
        try:
            done = subprocess.run(["man", "--warnings", "-l", os.path.join(ROOT, "docs", program + ".1")],
                                  stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=dict(os.environ, LC_ALL="C.UTF-8"))
        except FileNotFoundError:
            raise harness.Skip("man is not installed")
        assert done.returncode == 0 and not done.stderr, done.stderr.decode()


def test_every_file_that_the_docs_name_exists():
    for name in ("README.md", "SECURITY.md", *(os.path.join("docs", f) for f in os.listdir(os.path.join(ROOT, "docs")) if f.endswith(".md"))):
        for path in re.findall(r"`((?:tools|runtime|kernels|format|tests|scripts|docs)/[\w./-]*\w)`", read(name)):
            if not re.search(r"NAME|test_NAME", path):
                assert os.path.exists(os.path.join(ROOT, path)), f"{name} names {path}"
        for path in re.findall(r"\]\(([\w./-]+)\)", read(name)):
            assert os.path.exists(os.path.join(ROOT, os.path.dirname(name), path)), f"{name} links {path}"


def test_every_fault_of_the_catalogue_has_its_row_and_every_test_of_it_exists():
    text = open(os.path.join(ROOT, "docs/testing.md")).read().split("## The catalogue of faults")[1].split("\n## ")[0]
    rows = [line.split("|") for line in text.splitlines() if re.match(r"\| \d", line)]
    numbers = []
    for row in rows:
        for part in row[1].split(","):
            first, _, last = part.strip().partition(" to ")
            numbers += range(int(first), int(last or first) + 1)
    assert sorted(numbers) == list(range(1, 201)), sorted(set(range(1, 201)) ^ set(numbers))
    files = {os.path.basename(p): p for p in glob.glob(os.path.join(ROOT, "tests/*/*"))}
    sources = "".join(open(p).read() for n, p in files.items() if n.endswith((".py", ".c")))
    for name in re.findall(r"`(test_\w+(?:\.\w+)?)`", text):
        assert name in files if "." in name else f"def {name}(" in sources, f"{name} is no test"


def test_every_symbol_that_the_docs_name_exists():
    """Names with an underscore, between backquotes: in a source, or a source's own name."""
    words = set()
    for folder in ("format", "kernels", "tools", "runtime", "tests", "scripts"):
        for path, _, files in os.walk(os.path.join(ROOT, folder)):
            for f in files:
                words.add(re.sub(r"\.(inc\.h|\w+)$", "", f))
                if f.endswith((".c", ".h", ".py", ".sh")) or "." not in f and path.endswith("scripts"):
                    words.update(re.findall(r"\w+", read(os.path.join(path, f))))
    for name in ("README.md", "SECURITY.md", *(os.path.join("docs", f) for f in os.listdir(os.path.join(ROOT, "docs")) if f.endswith(".md"))):
        text = re.sub(r"(?ms)^```.*?^```", "", read(name))
        named = set(re.findall(r"`(?:struct |enum )?([a-z]\w*_\w+)(?:\(\))?`", text))
        assert named <= words, f"{name}: {sorted(named - words)}"


def test_the_architecture_lists_every_source_file_once():
    text = read("docs", "architecture.md")
    rooms = [os.path.relpath(folder, ROOT) for room in ("format", "kernels", "tools", "runtime") for folder, _, _ in os.walk(os.path.join(ROOT, room))]
    for room in rooms:
        assert f"| `{room}/` |" in text, room
        section = re.search(rf"(?ms)^### {room}/\n(.*?)^##", text).group(1)
        rows = re.findall(r"(?m)^\| ([^|]+) \|", section)[1:]
        listed = sorted(n for row in rows for n in re.findall(r"`([\w.]+)`", row))
        there = sorted({re.sub(r"\.(inc\.h|[ch])$", "", f) for f in os.listdir(os.path.join(ROOT, room)) if f.endswith((".c", ".h"))})
        assert listed == there, f"{room}: {sorted(set(listed) ^ set(there))}"


def test_the_architecture_has_the_exit_codes_and_limits_of_the_source():
    text, source = read("docs", "architecture.md"), ""
    for folder, _, files in os.walk(ROOT):
        if os.path.relpath(folder, ROOT).split(os.sep)[0] in ("format", "kernels", "tools", "runtime"):
            source += "".join(read(folder, f) for f in files if f.endswith((".c", ".h")))
    for code in re.findall(r"(?m)^    TP_EXIT_\w+ = (\d+),", source):
        assert re.search(rf"(?m)^\| {code} \|", text), f"exit status {code}"
    for name in re.findall(r"`([A-Z][A-Z0-9_]{5,})`", text):
        assert re.search(rf"\b{name}\b", source), f"{name} is in no source file"


harness.main(globals())
