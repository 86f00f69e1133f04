#!/usr/bin/env python3
"""What the programs say of themselves and of the machine: --version, tprun info."""
import json
import os
import re
import shutil
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))
import harness
from harness import ROOT, TPRUN, TPSHARD, Skip, run, tprun


def test_both_programs_say_the_same_of_their_version():
    said = []
    for program in (TPSHARD, TPRUN):
        name = os.path.basename(program)
        text = run([program, "--version"]).stdout.decode()
        assert text == run([program, "-V"]).stdout.decode()
        lines = text.splitlines()
        assert re.fullmatch(name + r" \d+\.\d+\.\d+", lines[0]), lines
        assert re.fullmatch(r"commit    (unknown|[\w.-]+)", lines[1]), lines
        assert re.fullmatch(r"compiler  (gcc|clang) \d.*", lines[2]), lines
        said.append([lines[0].split()[1], *lines[1:]])
    assert said[0] == said[1]
    makefile = open(os.path.join(ROOT, "Makefile")).read()
    assert said[0][0] == re.search(r"(?m)^VERSION = (.*)$", makefile).group(1)
    # docs/format.md is of these versions
    assert said[0][3] == "formats   bundle 2, rank file 2, compiled tokenizer 2", said[0][3]


def test_the_header_of_the_version_follows_the_commit_and_is_written_only_then(folder):
    if not shutil.which("git"):
        raise Skip("git is not installed")
    script = os.path.join(ROOT, "scripts", "make_version.sh")
    env = dict(os.environ, GIT_AUTHOR_NAME="a", GIT_AUTHOR_EMAIL="a@b", GIT_COMMITTER_NAME="a", GIT_COMMITTER_EMAIL="a@b", HOME=folder)

    def git(*args):
        return run(["git", "-c", "init.defaultBranch=main", *args], cwd=folder, env=env).stdout.decode().strip()

    def commit(where=folder):
        run([script, "1.2.3", "build/made.h"], cwd=where, env=env)
        path = os.path.join(where, "build/made.h")
        text = open(path).read()
        assert '#define TP_VERSION "1.2.3"\n' in text
        return re.search(r'TP_COMMIT "(.*)"', text).group(1), os.stat(path).st_mtime_ns

    assert commit()[0] == "unknown"
    git("init", "-q")
    with open(f"{folder}/.gitignore", "w") as f:
        f.write("build/\n")
    git("add", ".gitignore")
    git("commit", "-qm", "one")
    first, when = commit()
    assert first == git("rev-parse", "--short", "HEAD")
    assert commit() == (first, when), "written again"
    with open(f"{folder}/.gitignore", "a") as f:
        f.write("more\n")
    assert commit()[0] == first + "-dirty"
    git("commit", "-qam", "two")
    git("tag", "-a", "v9", "-m", "nine")
    assert commit()[0] == "v9"
    os.mkdir(f"{folder}/build/sources")  # unpacked below a repository: not that one's commit
    assert commit(f"{folder}/build/sources")[0] == "unknown"


def leaves(value, name=""):
    """(name of a line, value) of everything in the object"""
    if isinstance(value, dict):
        for key, item in value.items():
            yield from leaves(item, f"{name} {key}".strip())
    elif isinstance(value, list) and value and isinstance(value[0], dict):
        for i, item in enumerate(value):
            yield from leaves(item, f"{name} {i}")
    else:
        yield name, value


def test_info_says_what_the_machine_has():
    info = json.loads(tprun("info", "--json").stdout)
    assert info.pop("schema") == 1
    with open(os.path.join(ROOT, "docs", "tprun.1")) as f:
        page = re.search(r"(?ms)^\.Ss info\n(.*?)^\.Ss", f.read()).group(1)
    keys = {k for value in info.values() for k in value}
    assert not [k for k in keys if not re.search(rf"\b{k}\b", page)], keys
    cpu, kernel = info["cpu"], open("/proc/cpuinfo").read()
    flags = re.search(r"(?m)^flags\s*: (.*)$", kernel).group(1).split()
    assert set(cpu["features"]) == {f.replace("avx512_", "avx512") for f in flags
                                    if re.fullmatch("avx2|fma|f16c|avx512(f|bw|vl|dq|_bf16|_?vbmi)|amx_(tile|bf16)", f)}
    assert cpu["kernels"][-1] == "scalar" and cpu["kernels_used"] in cpu["kernels"]
    assert ("avx512" in cpu["kernels"]) <= ("avx2" in cpu["kernels"]) <= ("avx2" in flags)
    name = re.search(r"(?m)^model name\s*: (.*)$", kernel)
    assert not name or cpu["model"].split() == name.group(1).split(), (cpu["model"], name)
    assert cpu["processors_allowed"] == len(os.sched_getaffinity(0))
    assert cpu["processors"] == min(cpu["processors_allowed"], cpu["processors_quota"] or 1 << 20)
    assert 1 <= cpu["cores_allowed"] <= cpu["processors_allowed"] and cpu["nodes_online"] >= 1
    assert cpu["processors_online"] == os.sysconf("SC_NPROCESSORS_ONLN")
    total = int(re.search(r"MemTotal:\s+(\d+)", open("/proc/meminfo").read()).group(1)) * 1024
    assert cpu["memory_total_bytes"] == total and 0 < cpu["memory_available_bytes"] <= total
    version = tprun("--version").stdout.decode()
    assert info["tprun"]["commit"] in version and info["tprun"]["compiler"] in version
    assert "none" in info["cuda"] or info["cuda"]["gpus"] and info["cuda"]["driver"].startswith("CUDA ")


def test_info_has_a_line_for_all_of_its_json():
    info = json.loads(tprun("info", "--json").stdout)
    lines = dict(l.split(": ", 1) for l in tprun("info").stdout.decode().splitlines())
    info.pop("schema")
    names = {}
    for name, value in leaves(info):
        text = " ".join(value) if isinstance(value, list) else "none" if value is None else str(value)
        if name.endswith("_bytes"):
            name, text = name[:-6], f"{text} bytes ({value / (1 << 30):.1f} GiB)" if value is not None else text
        names[name.replace("_", " ")] = text
    changing = {"cpu memory available", *(n for n in names if n.endswith("memory free"))}
    assert set(names) == set(lines), set(names) ^ set(lines)
    assert all(lines[n] == names[n] for n in names if n not in changing), (names, lines)


def test_limits_of_a_process_are_said():
    def limit():
        import resource
        resource.setrlimit(resource.RLIMIT_AS, (4 << 30, 4 << 30))
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})

    if os.environ.get("CONFIG", "release") in ("asan", "tsan"):
        raise Skip("a sanitizer's shadow wants more than the limit")
    cpu = json.loads(tprun("info", "--json", preexec_fn=limit).stdout)["cpu"]
    assert cpu["processors"] == cpu["processors_allowed"] == 1
    assert 0 < cpu["memory_process_limit_bytes"] < 4 << 30


harness.main(globals())
