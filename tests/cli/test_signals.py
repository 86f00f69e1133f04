#!/usr/bin/env python3
"""Signals and limits of the system: exit status 10 and one line within two seconds, in every phase of every command; the
contract's statuses under ulimit; a timer's EINTR changes nothing."""
import glob
import os
import resource
import shutil
import signal
import subprocess
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))
import harness
from harness import Folder, Skip, checkpoint, error_line, run, synthetic, tiny_model, tprun, tpshard, tree_bytes

WITHIN = 2 if harness.SHARE == 1 else 15  # seconds; sanitizers are slow


class Large(Folder):
    """A model of 310 MB, so that every phase takes a while; made once."""
    made = None

    def __enter__(self):
        d = super().__enter__()
        synthetic(d + "/large", hidden_size=1024, num_attention_heads=16, num_key_value_heads=8, head_dim=64, intermediate_size=4096,
                  vocab_size=32000, num_hidden_layers=6, max_position_embeddings=4096, torch_dtype="bfloat16")
        os.rename(d + "/large/m", d + "/m")
        shutil.rmtree(d + "/large")
        return d


def interrupted(p, what):
    """The process ends as the contract says; how long it took."""
    start = time.time()
    try:
        stdout, stderr = p.communicate(timeout=WITHIN + 20)
    except subprocess.TimeoutExpired:
        p.kill()
        raise AssertionError(f"{what}: does not end")
    took = time.time() - start
    assert p.returncode == 10, f"{what}: status {p.returncode}: {stderr.decode()[-300:]}"
    error_line(subprocess.CompletedProcess([], p.returncode, b"", stderr), 10, "interrupted")
    assert took < WITHIN, f"{what}: {took:.1f} s"
    return took


def start(program, *args, group=False, **kw):
    return subprocess.Popen([program, *args], stdout=kw.pop("stdout", subprocess.PIPE), stderr=subprocess.PIPE, start_new_session=True, **kw)


def wait_for(p, condition):
    for _ in range(20000):
        if p.poll() is not None:
            raise AssertionError(f"ended before: {p.communicate()[1].decode()[-300:]}")
        if condition():
            return
        time.sleep(0.001)
    p.kill()
    raise AssertionError("the phase did not come")


def catches(pid, sig=signal.SIGINT):
    """Before main it catches nothing."""
    found = [line for line in open(f"/proc/{pid}/status") if line.startswith("SigCgt:")]
    return bool(found) and int(found[0].split()[1], 16) >> (sig - 1) & 1


def children(pid):
    found = []
    for stat in glob.glob("/proc/[0-9]*/stat"):
        try:
            words = open(stat).read().rpartition(")")[2].split()
        except OSError:
            continue
        if int(words[1]) == pid:
            found.append(stat.split("/")[2])
    return found


def test_every_phase_of_a_conversion_can_be_interrupted_and_goes_on():
    with Large() as d:
        out, partial = d + "/x", d + "/x.partial"
        rank = partial + "/rank-000-of-002.tps"
        raw = partial + "/raw/rank-000-of-002.tps"
        begun = [0]
        fresh = lambda p: os.path.exists(p) and os.stat(p).st_mtime > begun[0]
        phases = {"reading": lambda: catches(p.pid), "filling": lambda: fresh(raw),
                  "selftest": lambda: fresh(partial + "/raw/manifest.open.json"), "compression": lambda: fresh(rank)}
        args = ["convert", d + "/m", "-o", out, "--tp", "2", "--compress", "zstd", "-q", "--threads", "2"]
        longest, signals = 0, [signal.SIGINT, signal.SIGTERM, signal.SIGHUP]
        for i, (phase, condition) in enumerate(phases.items()):
            for group in (False, True):
                begun[0] = time.time()
                shutil.rmtree(partial, ignore_errors=True)
                p = start(harness.TPSHARD, *args)
                wait_for(p, condition)
                kids = children(p.pid)
                (os.killpg if group else os.kill)(p.pid, signals[i % 3])
                longest = max(longest, interrupted(p, f"{phase}, {'group' if group else 'process'}"))
                assert not os.path.exists(out)
                for kid in kids:
                    assert not os.path.exists(f"/proc/{kid}"), f"{phase}: a child is left"
        begun[0] = time.time()
        shutil.rmtree(partial)
        p = start(harness.TPSHARD, *args)  # twice: at once
        wait_for(p, phases["compression"])
        os.kill(p.pid, signal.SIGINT)
        os.kill(p.pid, signal.SIGINT)
        interrupted(p, "twice")
        done = tpshard(*[a for a in args if a != "-q"])
        assert b"from the interrupted run" in done.stderr, done.stderr
        tpshard("verify", out, "-q")
        tpshard("convert", d + "/m", "-o", d + "/fresh", "--tp", "2", "--compress", "zstd", "-q")
        assert tree_bytes(out) == tree_bytes(d + "/fresh")
        print(f"    the longest took {longest:.2f} s")

        p = start(harness.TPSHARD, "reshard", out, "-o", d + "/r", "--tp", "3", "-q")
        wait_for(p, lambda: os.path.exists(d + "/r.partial/raw/rank-000-of-003.tps"))
        os.kill(p.pid, signal.SIGTERM)
        interrupted(p, "reshard")
        tpshard("reshard", out, "-o", d + "/r", "--tp", "3", "-q")
        p = start(harness.TPSHARD, "export", out, "-o", d + "/e", "-q")
        wait_for(p, lambda: os.path.exists(d + "/e.partial/model.safetensors"))
        os.kill(p.pid, signal.SIGINT)
        interrupted(p, "export")
        assert not os.path.exists(d + "/e")
        tpshard("export", out, "-o", d + "/e", "-q")
        assert sorted(os.listdir(d)) == ["e", "fresh", "m", "r", "x"]
        for command in (["verify", out], ["diff", out, d + "/r"], ["verify", out, "--against", d + "/m"]):
            p = start(harness.TPSHARD, *command)
            wait_for(p, lambda: catches(p.pid))
            os.kill(p.pid, signal.SIGINT)
            interrupted(p, command[0])


def test_generate_and_logits_can_be_interrupted_at_any_time():
    with Large() as d:
        tpshard("convert", d + "/m", "-o", d + "/b", "-q", "--no-selftest")
        prompt = ["--prompt-ids", ",".join(str(i % 1000) for i in range(2000)), "--threads", "1", "-q"]
        for delay in (0.0, 0.03, 0.1, 0.6, 1.5):
            for args in (["generate", d + "/b", "-n", "100000", "--ids", "--ignore-eos", "--temp", "0", *prompt],
                         ["logits", d + "/b", "-o", d + "/l", "--chunk", "1", *prompt]):  # large chunks may take less than a second
                p = start(harness.TPRUN, *args)
                wait_for(p, lambda: catches(p.pid))
                time.sleep(delay)
                os.kill(p.pid, signal.SIGTERM if delay else signal.SIGINT)
                interrupted(p, f"{args[0]} after {delay} s")
                assert sorted(os.listdir(d)) == ["b", "m"]


def test_a_command_that_waits_for_a_reader_can_be_interrupted():
    if os.environ.get("CONFIG") == "tsan":
        raise Skip("the thread sanitizer holds signals back while a call waits")
    with Folder() as d:
        tiny_model(d + "/m")
        tpshard("convert", d + "/m", "-o", d + "/b", "-q", "--no-selftest")
        os.mkfifo(d + "/fifo")
        for args in ([harness.TPSHARD, "tokenizer", checkpoint("yarn"), "-o", d + "/fifo"],
                     [harness.TPRUN, "logits", d + "/b", "-o", d + "/fifo", "--prompt-ids", "1", "-q"]):
            p = start(*args)
            time.sleep(0.3)
            os.kill(p.pid, signal.SIGINT)
            interrupted(p, "waiting for a reader")
        r, w = os.pipe()
        p = start(harness.TPRUN, "logits", d + "/b", "-o", "-", "--prompt-ids", ",".join(["1"] * 3000), "-q", stdout=w)
        time.sleep(0.5)  # the pipe is full
        os.kill(p.pid, signal.SIGINT)
        interrupted(p, "a full pipe")


def test_at_the_end_a_signal_comes_before_or_after():
    """Status 10 and its line, or status 0 and all that was made: never the one with the other."""
    with Folder() as d:
        tiny_model(d + "/m")
        tpshard("convert", d + "/m", "-o", d + "/want", "-q", "--no-selftest")
        statuses = []
        for i in range(200 // harness.SHARE):
            for args in (["convert", d + "/m", "-o", d + "/x", "--no-selftest"], ["inspect", d + "/want"]):
                fault = f"stop:{40 + i % 40}" if args[0] == "convert" and i % 2 else ""
                p = start(harness.TPSHARD, *args, env=dict(os.environ, TP_FAULT=fault))
                time.sleep(0 if fault else i * 2e-5)
                if fault:
                    os.waitpid(p.pid, os.WUNTRACED)
                    os.kill(p.pid, signal.SIGCONT)
                os.kill(p.pid, signal.SIGTERM)
                stdout, stderr = p.communicate()
                statuses.append(p.returncode)
                if p.returncode == 10:
                    error_line(subprocess.CompletedProcess([], 10, b"", b"".join(stderr.splitlines(True)[-1:])), 10, "interrupted")
                elif p.returncode == 0:
                    assert b"interrupted" not in stderr, stderr
                    assert args[0] != "convert" or tree_bytes(d + "/x") == tree_bytes(d + "/want")
                    assert args[0] != "inspect" or stdout
                else:  # before main: nothing was caught yet
                    assert p.returncode == -signal.SIGTERM and not stderr and not os.path.exists(d + "/x"), (p.returncode, stderr)
                shutil.rmtree(d + "/x", ignore_errors=True)
                shutil.rmtree(d + "/x.partial", ignore_errors=True)
        print("    " + ", ".join(f"{n}: {statuses.count(n)}" for n in sorted(set(statuses))))


def test_a_hangup_that_is_ignored_stays_so():
    with Folder() as d:
        tiny_model(d + "/m")
        p = start(harness.TPSHARD, "convert", d + "/m", "-o", d + "/b", "-q", "--no-selftest", env=dict(os.environ, TP_FAULT="stop:write:5"),
                  preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_IGN))
        os.waitpid(p.pid, os.WUNTRACED)
        os.kill(p.pid, signal.SIGHUP)
        os.kill(p.pid, signal.SIGCONT)
        assert p.wait() == 0, p.stderr.read()


def test_a_closed_pipe_is_exit_5():
    with Folder() as d:
        tpshard("convert", checkpoint("yarn"), "-o", d + "/b", "-q", "--no-selftest", "--tp", "48")
        for args in ([harness.TPSHARD, "inspect", d + "/b", "--tensors"],
                     [harness.TPRUN, "logits", d + "/b", "-o", "-", "--prompt-ids", ",".join(["1"] * 500), "-q", "--threads", "1"]):
            r, w = os.pipe()
            os.close(r)
            p = start(*args, stdout=w)
            os.close(w)
            stderr = p.communicate()[1]
            error_line(subprocess.CompletedProcess([], p.returncode, b"", stderr), 5, "Broken pipe")


def limited(args, limit, value, **kw):
    return subprocess.run(args, stdout=subprocess.PIPE, stderr=subprocess.PIPE, preexec_fn=lambda: resource.setrlimit(limit, (value, value)), **kw)


def test_limits_of_the_system_give_the_contracts_statuses():
    if harness.SHARE != 1:
        raise Skip("sanitizers need memory of their own")
    demo = harness.DEMO
    with Folder() as d:
        tpshard("convert", demo, "-o", d + "/want", "-q", "--tp", "2", "--no-selftest")
        want = tree_bytes(d + "/want")
        commands = {"convert": [harness.TPSHARD, "convert", demo, "-o", d + "/x", "-q", "--tp", "2", "--no-selftest", "--threads", "2"],
                    "reshard": [harness.TPSHARD, "reshard", d + "/want", "-o", d + "/x", "-q", "--tp", "3", "--threads", "2"],
                    "export": [harness.TPSHARD, "export", d + "/want", "-o", d + "/x", "-q", "--threads", "2"],
                    "verify": [harness.TPSHARD, "verify", d + "/want", "-q"],
                    "tokenizer": [harness.TPSHARD, "tokenizer", demo, "-o", d + "/x", "-q"],
                    "generate": [harness.TPRUN, "generate", d + "/want", "-p", "Once", "-n", "4", "-q", "--temp", "0"],
                    "logits": [harness.TPRUN, "logits", d + "/want", "-p", "Once", "-o", d + "/x", "-q"]}
        plans = ((resource.RLIMIT_AS, [int(m * 2**20) for m in (6, 6.5, 7, 8, 9, 9.25, 9.5, 10, 11, 12, 13, 14, 16, 20, 28, 40, 90, 200)], 6),
                 (resource.RLIMIT_NOFILE, range(4, 16), 5),
                 (resource.RLIMIT_FSIZE, (0, 1, 63, 64, 100, 1000, 4095, 4096, 10000, 300000, 1500000), 5))
        seen = {}
        for name, args in commands.items():
            for limit, values, status in plans:
                for value in values:
                    done = limited(args, limit, value)
                    shared = done.returncode == 127 and b"shared librar" in done.stderr  # the dynamic loader's
                    # the kernel's, which maps the program first: with a GPU's kernels it is a large one
                    shared |= limit == resource.RLIMIT_AS and value < os.path.getsize(args[0]) and done.returncode == -signal.SIGSEGV
                    assert done.returncode in (0, status) or shared, f"{name} {limit} {value}: {done}"
                    if done.returncode == status:
                        error_line(done, status)
                    seen[(limit, done.returncode)] = seen.get((limit, done.returncode), 0) + 1
                    if done.returncode and name in ("convert", "reshard", "export") and os.path.exists(d + "/x.partial"):
                        run(args)  # goes on
                    if name == "convert" and os.path.exists(d + "/x"):
                        assert tree_bytes(d + "/x") == want
                    for p in ("/x", "/x.partial"):
                        shutil.rmtree(d + p, ignore_errors=True) if os.path.isdir(d + p) else os.path.exists(d + p) and os.unlink(d + p)
                    assert sorted(os.listdir(d)) == ["want"], os.listdir(d)
        print(f"    {seen}")




def test_a_timer_that_interrupts_every_call_changes_nothing():
    """1 kHz of SIGALRM, as a preloaded timer or a profiler sends it: EINTR is no interrupt."""
    source = r"""
#include <signal.h>
#include <sys/time.h>
static void ignore(int sig) { (void)sig; }
__attribute__((constructor)) static void start(void)
{
    struct itimerval t = {{0, 1000}, {0, 1000}};
    struct sigaction action = {.sa_handler = ignore};
    sigaction(SIGALRM, &action, 0);
    setitimer(ITIMER_REAL, &t, 0);
}
"""
    if harness.SHARE != 1:
        raise Skip("a preloaded library is for release builds")
    with Folder() as d:
        open(d + "/timer.c", "w").write(source)
        run(["gcc", "-shared", "-fPIC", "-O1", "-o", d + "/timer.so", d + "/timer.c"])
        env = dict(os.environ, LD_PRELOAD=d + "/timer.so")
        demo = harness.DEMO
        tpshard("convert", demo, "-o", d + "/want", "-q", "--tp", "3", "--compress", "zstd")
        for i in range(3):
            tpshard("convert", demo, "-o", d + "/x", "-q", "--tp", "3", "--compress", "zstd", env=env)
            assert tree_bytes(d + "/x") == tree_bytes(d + "/want")
            tpshard("reshard", d + "/x", "-o", d + "/r", "-q", "--tp", "5", env=env)
            tpshard("export", d + "/r", "-o", d + "/e", "-q", env=env)
            tpshard("verify", d + "/r", "--against", d + "/e", "-q", env=env)
            one, two = (tprun("generate", d + "/r", "-p", "Once", "-n", "40", "-q", "--temp", "0", env=e).stdout for e in (env, None))
            assert one == two
            for out in ("x", "r", "e"):
                shutil.rmtree(f"{d}/{out}")
        p = subprocess.Popen([harness.TPRUN, "tokenize", d + "/want"], env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        time.sleep(0.2)
        assert p.communicate(b'"Once"\n')[0] and p.returncode == 0


harness.main(globals())
