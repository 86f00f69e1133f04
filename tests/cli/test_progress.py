#!/usr/bin/env python3
"""What tpshard says of a long work: phases on a terminal, nothing of them in a pipe, and at the end what was done, in what time."""
import os
import pty
import re
import shutil
import subprocess
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))
import harness
from harness import DEMO, TPRUN, TPSHARD, Skip, checkpoint, convert, tpshard

NUMBERS = r": (\d+)%, (\d+\.\d\d) of (\d+\.\d\d) GB, \d+\.\d\d GB/s"
DONE = re.compile(r"tpshard: (\S+): (.*?)(\d+) ranks?, (\d+\.\d{3}) GB(.*?)(?:[,;] converted in (\d+\.\d\d) s \((\d+\.\d\d) GB/s read and written\))?[,;] (\d+\.\d\d) s in all")


def at_terminal(*args, program=TPSHARD):
    """What a command prints on its standard error, which is a terminal: a line for each time it is written anew."""
    try:
        master, slave = pty.openpty()
    except OSError as why:
        raise Skip(f"no pseudo-terminal: {why}")
    process = subprocess.Popen([program, *map(str, args)], stdout=subprocess.DEVNULL, stderr=slave)
    os.close(slave)
    text = b""
    while True:
        try:
            part = os.read(master, 65536)
        except OSError:  # the last one has closed it
            break
        if not part:
            break
        text += part
    os.close(master)
    assert process.wait() == 0, text
    return [line.replace("\x1b[K", "") for line in re.split(r"[\r\n]+", text.decode())], text.decode()


def phases(lines):
    """The phases in order, each once, and that their numbers never fall nor leave 0 to 100 %."""
    order, last = [], 0
    for line in lines:
        found = re.fullmatch(r"tpshard: ([a-z: ]+?)(?:" + NUMBERS + r"|, \d+ s)?", line)
        if not found:
            continue
        if not order or order[-1] != found[1]:
            order.append(found[1])
            last = 0
        if found[2]:
            assert last <= int(found[2]) <= 100, lines
            last = int(found[2])
    return order


SELFTEST = "selftest: tprun answers fixed prompts"


def test_every_phase_of_a_conversion_has_its_own_line_at_a_terminal(tmp):
    lines, text = at_terminal("convert", DEMO, "-o", tmp + "/a", "--tp", 2, "--compress", "zstd")
    assert phases(lines) == ["looking at what is there", "converting", "syncing", SELFTEST, "compressing", "syncing"], lines
    for phase in ("converting", "compressing"):
        assert any(re.fullmatch(f"tpshard: {phase}{NUMBERS}", line) for line in lines), (phase, lines)
    assert "left" not in text and "eta" not in text.lower()  # nobody knows
    assert text.rstrip().split("\x1b[K")[-1].startswith("tpshard: "), text  # the line is gone before the last one
    lines, _ = at_terminal("convert", DEMO, "-o", tmp + "/b", "--no-selftest")
    assert phases(lines) == ["looking at what is there", "converting", "syncing"], lines
    for args, phase in ((("verify", tmp + "/a"), "checking"), (("export", tmp + "/a", "-o", tmp + "/x"), "exporting"),
                        (("reshard", tmp + "/a", "-o", tmp + "/r", "--tp", 3), "converting")):
        assert phase in phases(at_terminal(*args)[0]), args
        lines, text = at_terminal(*args, "-q", *(["--force"] if args[0] != "verify" else []))
        assert not text, text


def test_an_interrupted_conversion_says_what_was_there(tmp):
    model, bundle = checkpoint("qwen2-bias"), tmp + "/b"
    convert(model, bundle, status=-9, env=dict(os.environ, TP_FAULT="kill:sync:40"))  # of 96 or more
    lines, _ = at_terminal("convert", model, "-o", bundle, "--no-selftest")
    assert "converting" in phases(lines)
    assert any(re.search(r"GB, of it \d+\.\d{3} GB from the interrupted run; converted in ", line) for line in lines), lines


def test_nothing_of_the_progress_is_in_a_pipe(tmp):
    for i, args in enumerate((["convert", DEMO, "--compress", "zstd"], ["convert", DEMO, "--tp", "3"])):
        said = tpshard(*args, "-o", f"{tmp}/{i}").stderr.decode()
        assert len(said.splitlines()) == 1 and DONE.fullmatch(said.rstrip()), said
        assert not re.search(r"[\r\x1b]", said), said
    assert not tpshard("convert", DEMO, "-o", tmp + "/q", "-q").stderr


def test_the_rate_is_of_the_converting_alone(tmp):
    """With a tprun that takes a second more."""
    shutil.copy(TPSHARD, tmp + "/tpshard")
    with open(tmp + "/tprun", "w") as f:
        f.write(f'#!/bin/sh\nsleep 1.2\nexec "{TPRUN}" "$@"\n')
    os.chmod(tmp + "/tprun", 0o755)
    lines, _ = at_terminal("convert", DEMO, "-o", tmp + "/seen", program=tmp + "/tpshard")
    assert f"tpshard: {SELFTEST}, 1 s" in lines, lines  # it lives
    done = harness.run([tmp + "/tpshard", "convert", DEMO, "-o", tmp + "/b", "-v"])
    *_, times, line = done.stderr.decode().splitlines()
    found = DONE.fullmatch(line)
    _, _, ranks, gb, _, seconds, rate, whole = found.groups()
    assert (ranks, float(gb)) == ("1", 0.003) and float(seconds) < 1 <= float(whole), line
    read = os.path.getsize(DEMO + "/model.safetensors") if os.path.exists(DEMO + "/model.safetensors") else sum(
        os.path.getsize(os.path.join(DEMO, f)) for f in os.listdir(DEMO) if f.endswith(".safetensors"))
    moved = (read + os.path.getsize(tmp + "/b/rank-000-of-001.tps")) * 1e-9
    assert (float(rate) - 0.006) * (float(seconds) - 0.006) < 1.02 * moved, line
    assert 0.98 * moved < (float(rate) + 0.006) * (float(seconds) + 0.006), line
    parts = re.fullmatch(r"tpshard: time: converting (\S+) s, selftest (\S+) s, the rest (\S+) s", times).groups()
    assert parts[0] == seconds and float(parts[1]) >= 1 and abs(sum(map(float, parts)) - float(whole)) < 0.03, (times, line)


def test_verbose_tells_the_details_and_quiet_nothing(tmp):
    for args in (["convert", DEMO, "-o", tmp + "/b"], ["reshard", tmp + "/b", "-o", tmp + "/r", "--tp", "3"], ["export", tmp + "/b", "-o", tmp + "/x"]):
        usual = tpshard(*args).stderr.decode()
        details = tpshard(*args, "--force", "-v").stderr.decode()
        assert "disk: " not in usual and "time: " not in usual, usual
        assert "disk: " in details and ("time: " in details) == (args[0] != "export"), details
        assert not tpshard(*args, "--force", "-q").stderr


harness.main(globals())
