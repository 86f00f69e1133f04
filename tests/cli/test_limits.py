#!/usr/bin/env python3
"""What a machine may lack, for every command: stack, large pages, processors; and what a long run may gather."""
import ctypes
import fcntl
import json
import os
import resource
import subprocess
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))
import harness
from every_command import cases
from harness import DEMO, Skip, error_line, tprun, tpshard

F_SETPIPE_SZ = 1031  # Linux; Python 3.9 has no name for it
SOAK = float(os.environ.get("SOAK", 2))  # seconds for each command


def stack(kib):
    return lambda: resource.setrlimit(resource.RLIMIT_STACK, (kib << 10, kib << 10))


def test_a_stack_of_256_kib_is_enough_and_less_is_refused(folder):
    if harness.SHARE != 1:
        raise Skip("sanitizers and samples have frames of their own")
    for case in cases(folder):
        case.learn(f"{folder}/world")
        done = case.run(f"{folder}/world", preexec_fn=stack(256))
        assert done.returncode == 0, f"{case.name}: {done.returncode} {done.stderr}"
        assert not case.differs(done, f"{folder}/world"), case.name
        for kib in (32, 64, 128):
            done = case.run(f"{folder}/world", preexec_fn=stack(kib))
            error_line(done, 6, "256 KiB", str(kib))
            assert not os.path.exists(f"{folder}/world/out") or case.before


def test_templates_nest_to_their_limit_on_a_stack_of_256_kib(folder):
    """Whatever the shape: the result, or the template's own limit; never the end of the stack."""
    if harness.SHARE != 1:
        raise Skip("sanitizers and samples have frames of their own")
    shapes = ["|string" * 41, "[0:]" * 480, "".join(" if n else 0 if 0 else 1" for _ in range(20))]
    for at, shape in enumerate(shapes):
        with open(f"{folder}/t{at}", "w") as f:
            f.write("{% macro f(n) %}{% if n %}{{ f(n-1)" + shape + " }}{% endif %}{% endmacro %}{{ f(60) }}")
    with open(f"{folder}/t3", "w") as f:
        f.write("{% macro f(n) %}" + "{% for x in [n] %}" * 40 + "{% if n %}{{ f(n-1) }}{% endif %}" + "{% endfor %}" * 40 + "{% endmacro %}{{ f(60) }}")
    for at in range(4):
        wide = harness.run([harness.TPRUN, "render", "--template", f"{folder}/t{at}"], None, input=b"{}\n")
        narrow = harness.run([harness.TPRUN, "render", "--template", f"{folder}/t{at}"], None, input=b"{}\n", preexec_fn=stack(256))
        assert (narrow.returncode, narrow.stdout) == (wide.returncode, wide.stdout) and wide.returncode in (0, 3), (at, wide, narrow)


def test_without_large_pages_everything_is_the_same(folder):
    PR_SET_THP_DISABLE = 41
    libc = ctypes.CDLL(None)
    for case in cases(folder):
        case.learn(f"{folder}/world")
        done = case.run(f"{folder}/world", preexec_fn=lambda: libc.prctl(PR_SET_THP_DISABLE, 1, 0, 0, 0))
        assert done.returncode == 0 and not case.differs(done, f"{folder}/world"), f"{case.name}: {done.stderr}"


def generate(bundle, threads, **kw):
    """ids, stderr, processor seconds"""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = tprun("generate", bundle, "-p", "Once upon a time", "-n", "200", "--ids", "--ignore-eos", "--threads", threads, **kw)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return done.stdout, done.stderr.decode(), after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def test_more_threads_than_processors_take_turns(folder):
    """They sleep where they wait: all of them together burn little more than one that works alone."""
    if harness.SHARE != 1:
        raise Skip("a sanitizer's locks are its own")
    tpshard("convert", DEMO, "-o", f"{folder}/b", "-q", "--no-selftest", "--tp", "2")
    one = {min(os.sched_getaffinity(0))}
    ids, text, alone = generate(f"{folder}/b", 1, preexec_fn=lambda: os.sched_setaffinity(0, one))
    assert "take turns" not in text
    again, text, crowded = generate(f"{folder}/b", 8, preexec_fn=lambda: os.sched_setaffinity(0, one))
    print(f"    1 thread {alone:.2f} s of processor time, 8 threads on one processor {crowded:.2f} s")
    assert again == ids
    assert "8 threads take turns on 1 processor\n" in text, text
    assert crowded < 8 * alone + 1, "threads that wait burn the processor"


def test_threads_are_pinned_where_that_is_asked_for(folder):
    """On machines that hwloc is told of: who goes where, and the same answer. On this one: not where they do not fit."""
    tpshard("convert", DEMO, "-o", f"{folder}/b", "-q", "--no-selftest", "--tp", "2")

    def ask(threads, *more, **kw):
        done = tprun("generate", f"{folder}/b", "-p", "Once upon a time", "-n", "20", "--ids", "--report", "json", "--threads", threads, *more, **kw)
        report = json.loads([l for l in done.stderr.decode().splitlines() if l.startswith("{")][0])
        return done.stdout, report["pin"], report["places"]

    ids = ask(1, "--pin", "no")[0]
    for machine, threads, pin, wanted in (
            ("numa:2 core:2 pu:2", 4, "yes", ("processors", [0, 2, 4, 6])), ("numa:2 core:2 pu:2", 8, "yes", ("processors", [0, 2, 1, 3, 4, 6, 5, 7])),
            ("numa:2 core:2 pu:2", 2, "yes", ("processors", [0, 4])), ("numa:1 core:4 pu:1", 3, "yes", ("processors", [0, 1, 2])),
            ("numa:2 core:2 pu:2", 9, "yes", ("no", [])), ("numa:2 core:4 pu:1", 4, "auto", ("nodes", [0, 0, 1, 1])),
            ("numa:2 core:4 pu:1", 9, "auto", ("no", [])), ("numa:1 core:8 pu:1", 4, "auto", ("no", [])), ("numa:2 core:4 pu:1", 4, "no", ("no", []))):
        got, *where = ask(threads, "--pin", pin, env=dict(os.environ, HWLOC_SYNTHETIC=machine))
        assert got == ids and tuple(where) == wanted, (machine, threads, pin, where)
    one = {min(os.sched_getaffinity(0))}
    got, *where = ask(2, "--pin", "yes", preexec_fn=lambda: os.sched_setaffinity(0, one))
    assert got == ids and where == ["no", []]
    done = tprun("generate", f"{folder}/b", "-p", "Once", "-n", "2", "--threads", "2", "--pin", "yes", preexec_fn=lambda: os.sched_setaffinity(0, one))
    assert b"--pin yes: not every thread of 2 can have a processor of its own; none is pinned" in done.stderr, done.stderr


class Group:
    """A control group with a limit, of whichever version; enter() puts a new process in."""

    def __init__(self, controller, **limits):
        root = f"/sys/fs/cgroup/{controller}" if os.path.isdir(f"/sys/fs/cgroup/{controller}") else "/sys/fs/cgroup"
        self.path = f"{root}/tpshard-test-{os.getpid()}"
        try:
            os.mkdir(self.path)
        except OSError as why:
            raise Skip(f"no control group can be made: {why}")
        for name, value in limits.items():
            if os.path.exists(f"{self.path}/{controller}.{name}"):
                with open(f"{self.path}/{controller}.{name}", "w") as f:
                    f.write(value)
                return
        os.rmdir(self.path)
        raise Skip(f"no control of {controller}")

    def enter(self):
        with open(f"{self.path}/cgroup.procs", "w") as f:
            f.write(str(os.getpid()))

    def remove(self):
        for _ in range(50):  # until the last process is gone
            try:
                return os.rmdir(self.path)
            except OSError:
                time.sleep(0.1)


def test_memory_of_a_control_group_counts(folder):
    tpshard("convert", DEMO, "-o", f"{folder}/b", "-q", "--no-selftest")
    group = Group("memory", limit_in_bytes=str(64 << 20), max=str(64 << 20))
    try:
        ask = (harness.TPRUN, "generate", f"{folder}/b", "-p", "Once", "-n", "4", "-q")
        assert json.loads(tprun("info", "--json", preexec_fn=group.enter).stdout)["cpu"]["memory_available_bytes"] <= 64 << 20
        assert harness.run(ask, preexec_fn=group.enter).stdout
        done = harness.run([*ask, "--context", "1000000"], None, preexec_fn=group.enter)
        error_line(done, 6, "needed", str(64 << 20))
    finally:
        group.remove()


def test_a_quota_of_processor_time_counts(folder):
    group = Group("cpu", cfs_quota_us="100000", max="100000 100000")
    try:
        enter = group.enter
        assert "processors: 1\n" in tprun("info", preexec_fn=enter).stdout.decode()
        tpshard("convert", DEMO, "-o", f"{folder}/b", "-q", "--no-selftest", "--tp", "2")
        ids, _, _ = generate(f"{folder}/b", 1)
        again, text, _ = generate(f"{folder}/b", 2, preexec_fn=enter)
        assert again == ids and "2 threads take turns on 1 processor\n" in text, text
    finally:
        group.remove()


def resident(pid):
    with open(f"/proc/{pid}/status") as f:
        return next(int(line.split()[1]) for line in f if line.startswith("VmRSS"))


def soak(name, args, line):
    """Feed a command lines for SOAK seconds, a hundred at least, once it has taken some hundred; its memory after a fifth of them
    is its memory at the end."""
    p = subprocess.Popen([str(a) for a in args], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    fcntl.fcntl(p.stdin, F_SETPIPE_SZ, 4096)  # what is written is read soon
    for _ in range(500):  # what it touches first is touched, however busy the machine is
        p.stdin.write(line)
    start, sizes = time.time(), []
    while time.time() - start < SOAK or len(sizes) < 100:
        p.stdin.write(line)
        p.stdin.flush()
        sizes.append(resident(p.pid))
    p.stdin.close()
    text = p.stderr.read().decode()
    assert p.wait() == 0, text
    fifth = len(sizes) // 5
    first, last = max(sizes[:fifth]), max(sizes[-fifth:])
    print(f"    {name}: {len(sizes)} lines in {SOAK:.0f} s, {first} KiB after a fifth, {last} KiB at the end")
    assert last <= first * 1.01 + 64, f"{name}: grew from {first} to {last} KiB"


def test_a_long_run_gathers_nothing(folder):
    if harness.SHARE != 1 and os.environ.get("CONFIG", "release") != "release":
        raise Skip("a sanitizer keeps what is freed")
    tpshard("convert", DEMO, "-o", f"{folder}/b", "-q", "--no-selftest", "--tp", "2")
    with open(f"{folder}/template", "w") as f:
        f.write("{% for m in messages %}{{ m|tojson }}{{ m.content.split(' ')|join('-') }}{% endfor %}")
    soak("chat", [harness.TPRUN, "chat", f"{folder}/b", "-n", "8", "-q"], b"Once upon a time there was a dog.\n/reset\n")
    soak("tokenize", [harness.TPRUN, "tokenize", f"{folder}/b"], b'"Once upon a time there was a dog, and so on and on."\n')
    soak("render", [harness.TPRUN, "render", "--template", f"{folder}/template"], b'{"messages": [{"role": "user", "content": "a b c"}]}\n')


harness.main(globals())
