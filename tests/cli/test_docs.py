#!/usr/bin/env python3
"""The documents' commands are run, and print what the documents show.

A block of a document with lines "$ COMMAND" is a session: its commands run in order, in one folder for each document that has
build/, tests/ and scripts/ as the tree has them, and what they print on both streams is compared with the lines below. A line
"..." stands for any lines; figures of time, rate, memory and of the machine are not compared; "> LINE" is typed. Before a block may stand

    <!-- not run: WHY -->               its commands are not run (a download, another machine)
    <!-- file: NAME -->                 no session: the block is written to that file
    <!-- needs SMOLLM2 as NAME -->      run where the environment names the folder, which is linked as NAME
    <!-- demo: WHAT -->                 run; test_demo.py compares the output

A command that stands in no such block, and is not marked, fails.
"""
import glob
import os
import re
import subprocess
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))
import harness
from harness import BUILD, ROOT, Skip

PAGES = sorted(glob.glob(os.path.join(ROOT, "*.md")) + glob.glob(os.path.join(ROOT, "docs", "*.md")))
COMMAND = re.compile(r"(\w+=\S* )*(\./)?((build/)?(tpshard|tprun|tests/\w+)|make|hf|pip|python3|apt|apt-get|sudo|dpkg|git|scripts/\w+(\.sh)?)( |$)")
BLOCK = re.compile(r"(?m)(?:^<!-- (?P<mark>[^\n]*?) -->\n+)?^```(?P<kind>\w*)\n(?P<text>(?s:.*?))^```$")
INDENTED = re.compile(r"(?m)(?:^<!-- (?P<mark>[^\n]*?) -->\n+)?^(?P<text>(?:    .*\n)+)")
TIMES = (r"\d[\d.,]*(?= ?(?:s|ms|us|[GM]B/s|tok/s)\b)", r"(?<=kernels )\w+", r"(?<=threads )\d+", r"(?<=memory )\d+",
         r"[\d.]+(?= GB free)", r"(?<=GB free in ).*", r"(?<=leaves about )[\d.]+", r"\d+(?= ms after)", r"(?<=map )[\d.]+", r"(?<=hash )[\d.]+(?=,)", r"(?<=allocate )[\d.]+", r"(?<=\()\d+(?= threads?\))")
OF_THE_MACHINE = r"\w+: note: \d+ threads take turns"


def blocks_of(page):
    """(mark, kind, text) of every block of code, in order."""
    with open(page, encoding="utf-8") as f:
        text = f.read()
    found = [(m.start(), m["mark"] or "", m["kind"], m["text"]) for m in BLOCK.finditer(text)]
    plain = BLOCK.sub(lambda m: "\n" * m[0].count("\n"), text)
    found += [(m.start(), m["mark"] or "", "indented", re.sub(r"(?m)^    ", "", m["text"])) for m in INDENTED.finditer(plain)]
    return [b[1:] for b in sorted(found)]


def commands_of(text):
    """[command, the lines typed to it, the lines below it], of a session"""
    found = []
    for line in re.sub(r"\\\n", " ", text).splitlines():
        if line.startswith("$ "):
            found.append((line[2:], [], []))
        elif found:
            found[-1][1 if line.startswith("> ") else 2].append(line[2:] if line.startswith("> ") else line)
    return found


def without_figures(line):
    for figure in TIMES:
        line = re.sub(figure, "#", line)
    return line.rstrip()


def fits(shown, printed):
    """Do the printed lines fit the shown ones, "..." any number of them?"""
    places = {0}
    for line in shown:
        if line == "...":
            places = set(range(min(places), len(printed) + 1)) if places else places
        else:
            places = {at + 1 for at in places if at < len(printed) and printed[at] == line}
    return len(printed) in places


def compare(command, shown, printed):
    lines = [[without_figures(l) for l in part if l.strip() and not re.match(OF_THE_MACHINE, l)] for part in (shown, printed)]
    if not fits(*lines):
        missing = [l for l in lines[0] if l not in lines[1] and l != "..."]
        raise AssertionError(f"$ {command}\nprints\n" + "\n".join(printed) + ("\nand not\n" + "\n".join(missing) if missing else ""))


def prepare(folder):
    for name in ("tests", "scripts"):
        os.symlink(os.path.join(ROOT, name), os.path.join(folder, name))
    os.mkdir(os.path.join(folder, "build"))
    for name in ("tpshard", "tprun"):
        os.symlink(os.path.join(BUILD, name), os.path.join(folder, "build", name))


def status_of(shown):
    """The exit status that goes with an error line that is shown; 0 without."""
    codes = dict(re.findall(r'X\(\w+, "(\w+)", (TP_EXIT_\w+)\)', open(os.path.join(ROOT, "format/base/error.h")).read()))
    numbers = dict(re.findall(r"(TP_EXIT_\w+) = (\d+)", open(os.path.join(ROOT, "format/base/error.h")).read()))
    error = re.search(r"(?m)^\w+: error (\w+):", "\n".join(shown))
    return int(numbers[codes[error.group(1)]]) if error else 0


def play(text, folder, compared=True):
    env = dict(os.environ, PATH=os.path.join(folder, "build") + ":" + os.environ["PATH"])
    for command, typed, shown in commands_of(text):
        done = subprocess.run(["bash", "-c", command], cwd=folder, env=env, input="".join(l + "\n" for l in typed).encode(),
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        printed = done.stdout.decode(errors="replace").splitlines()
        assert done.returncode == status_of(shown), f"$ {command}\nends with status {done.returncode}\n" + "\n".join(printed)
        if compared:
            compare(command, shown, printed)


def play_page(page, folder, need):
    """The sessions of a page that need this, or nothing; those before them are played too."""
    prepare(folder)
    for mark, kind, text in blocks_of(page):
        wants = re.match(r"needs (\w+) as (\S+)", mark)
        if mark.startswith("file: "):
            with open(os.path.join(folder, mark[6:]), "w") as f:
                f.write(text)
        elif mark.startswith("not run: ") or not commands_of(text) or (wants.group(1) if wants else "") != need:
            continue
        else:
            if wants and not os.path.lexists(os.path.join(folder, wants.group(2))):
                os.symlink(os.path.abspath(os.environ[need]), os.path.join(folder, wants.group(2)))
            play(text, folder, not mark.startswith("demo: "))


def made(page, need):
    def test(folder):
        if need and not os.environ.get(need):
            raise Skip(f"{need} names no folder")
        play_page(page, folder, need)
    return test


for page in PAGES:
    needs = {m.group(1) for mark, _, _ in blocks_of(page) for m in [re.match(r"needs (\w+) as ", mark)] if m}
    if any(commands_of(text) for mark, _, text in blocks_of(page) if not mark.startswith("not run: ")):
        for need in ("", *sorted(needs)):
            name = re.sub(r"\W", "_", os.path.relpath(page, ROOT)[:-3]).lower()
            globals()[f"test_{name}" + (f"_with_{need}" if need else "")] = made(page, need)


def test_no_command_is_left_out():
    for page in PAGES:
        for mark, kind, text in blocks_of(page):
            if mark.startswith(("not run: ", "file: ")):
                continue
            bare = [l for l in text.splitlines() if COMMAND.match(l)] if "$ " not in text else []
            assert not bare, f"{os.path.relpath(page, ROOT)}: neither run nor marked: {bare[0]}"


def test_a_shown_line_that_is_not_printed_is_noticed():
    printed = ["one 3 s", "two", "three"]
    compare("c", ["one 4 s", "...", "three"], printed)
    compare("c", ["...", "two", "three"], printed)
    for shown in (["one 3 s", "two"], ["...", "too", "..."], ["three", "...", "two"], ["...", "two"], []):
        try:
            compare("c", shown, printed)
        except AssertionError:
            continue
        raise Exception(f"{shown} was taken")


def examples(page):
    """The commands of a man page's EXAMPLES."""
    text = open(page, encoding="utf-8").read()
    section = re.search(r"(?ms)^\.Sh EXAMPLES\n(.*?)(?=^\.Sh )", text)
    lines = re.findall(r"(?m)^(?:\.Dl )?\$ (.*)$", section.group(1)) if section else []
    return [l.replace("\\-", "-").replace("\\e", "\\").replace("\\(aq", "'").replace("\\&", "") for l in lines]


def test_the_examples_of_the_man_pages_are_commands(folder):
    """Of models that are not here: what is wrong must be the missing model, not the command."""
    prepare(folder)
    for page in sorted(glob.glob(os.path.join(ROOT, "docs", "*.1"))):
        found = examples(page)
        assert found, f"{page} has no examples"
        for command in found:
            env = dict(os.environ, PATH=os.path.join(folder, "build") + ":" + os.environ["PATH"])
            done = subprocess.run(["bash", "-c", command], cwd=folder, env=env, stdin=subprocess.DEVNULL,
                                  stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
            assert done.returncode in (0, 3, 5), f"{page}: $ {command}: status {done.returncode}: {done.stdout.decode()}"


harness.main(globals())
