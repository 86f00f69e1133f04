"""Rank files that change while they are in use: what was computed from others than those that were checked does not count.

A program is held in the midst of an answer by a pipe that has room for its beginning only, or stopped at a call on files.
"""
import array
import fcntl
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import termios
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))
import harness
from harness import DEMO, Folder, TPRUN, TPSHARD, checkpoint, convert, error_line, tiny_model, tprun, tpshard

RANK = "rank-001-of-002.tps"
F_SETPIPE_SZ = 1031
BEGIN = ("-p", "Once upon a time", "-n", "120", "--ignore-eos", "--temp", "0", "--threads", "1")
FOLDER = tempfile.TemporaryDirectory(prefix="tpshard-test-")  # of the bundles that tests copy


# ---- programs that are held ----

class Held:
    """Its standard output has room for so many bytes, then it waits to be read."""

    def __init__(self, args, room, feed=b"", pages=1, **env):
        self.read_end, write_end = os.pipe()
        self.junk = fcntl.fcntl(write_end, F_SETPIPE_SZ, pages * 4096) - room
        os.write(write_end, bytes(self.junk))
        self.errors = tempfile.TemporaryFile()
        self.process = subprocess.Popen([str(a) for a in args], stdin=subprocess.PIPE, stdout=write_end, stderr=self.errors,
                                        env={**os.environ, **env})
        os.close(write_end)
        self.feed(feed)

    def feed(self, line):
        self.process.stdin.write(line)
        self.process.stdin.flush()

    def wait_for(self, what, seconds=60):
        end = time.monotonic() + seconds
        while not what():
            assert self.process.poll() is None and time.monotonic() < end, self.stderr()
            time.sleep(0.005)

    def said(self):
        """Bytes that wait in the pipe."""
        n = array.array("i", [0])
        fcntl.ioctl(self.read_end, termios.FIONREAD, n)
        return n[0] - self.junk

    def stderr(self):
        self.errors.seek(0)
        return self.errors.read()

    def end(self):
        """Read it to its end; like subprocess.run's result."""
        self.process.stdin.close()
        out = b"".join(iter(lambda: os.read(self.read_end, 1 << 16), b""))
        os.close(self.read_end)
        status = self.process.wait()
        done = subprocess.CompletedProcess(self.process.args, status, out[self.junk:], self.stderr())
        self.errors.close()
        return done


def begun(args, room=40, **more):
    held = Held(args, room, **more)
    held.wait_for(held.said)
    return held


def stopped(args, fault, act, **env):
    """Stop the program at a call on files, act, and let it end."""
    p = subprocess.Popen([str(a) for a in args], stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                         env={**os.environ, **env, "TP_FAULT": "stop:" + fault})
    _, status = os.waitpid(p.pid, os.WUNTRACED)
    assert os.WIFSTOPPED(status), f"{args}: ended before {fault}"
    act()
    p.send_signal(signal.SIGCONT)
    out, err = p.communicate()
    return subprocess.CompletedProcess(p.args, p.returncode, out, err)


# ---- what happens to a file ----

def cut_to_half(path):
    os.truncate(path, os.path.getsize(path) // 2)


def cut_by_a_byte(path):  # of a page that stays: no access fails
    os.truncate(path, os.path.getsize(path) - 1)


def cut_and_regrown(path):
    size = os.path.getsize(path)
    os.truncate(path, 8192)
    os.truncate(path, size)


def written_to(path):
    """Other values that are as plausible."""
    with open(path, "r+b") as f:
        data = bytearray(f.read())
        for i in range(len(data) // 2, len(data), 2):
            data[i] ^= 0x20
        f.seek(len(data) // 2)
        f.write(data[len(data) // 2:])


def touched(path):
    os.utime(path)


def written_to_secretly(path):
    now = os.stat(path)
    written_to(path)
    os.utime(path, ns=(now.st_atime_ns, now.st_mtime_ns))


def linked(path):
    os.link(path, path + ".link")


def another_mode(path):
    os.chmod(path, 0o600)


def moved_and_back(path):
    os.rename(path, path + ".moved")
    os.rename(path + ".moved", path)


def replaced(path):
    with open(path + ".new", "wb") as f:
        f.write(os.urandom(os.path.getsize(path)))
    os.rename(path + ".new", path)


def unlinked(path):
    os.unlink(path)


CHANGES = (cut_to_half, cut_by_a_byte, cut_and_regrown, written_to, touched, written_to_secretly)
HARMLESS = (linked, another_mode, moved_and_back, replaced, unlinked)


def bundle(d, *args):
    """A copy of the demo model's, of two ranks, that may be spoiled."""
    name = os.path.join(FOLDER.name, "-".join(("demo",) + args))
    if not os.path.exists(name):
        convert(DEMO, name, "--tp", "2", *args, selftest=True)
    shutil.rmtree(d + "/b", ignore_errors=True)
    shutil.copytree(name, d + "/b")
    return d + "/b"


def after(act, d, run):
    """What run(bundle, act) gives; names the case where it fails."""
    b = bundle(d)
    try:
        return run(b, lambda: act(os.path.join(b, RANK)))
    except AssertionError as why:
        raise AssertionError(f"{act.__name__}: {why}")


def refused(done):
    return error_line(done, 7, RANK)


# ---- an answer as it comes ----

def generate(b, act):
    held = begun([TPRUN, "generate", b, *BEGIN])
    act()
    return held.end()


def test_an_answer_of_weights_that_changed_never_ends_well():
    with Folder() as d:
        for act in CHANGES:
            done = after(act, d, generate)
            line = refused(done)
            assert "hash" in line if act is written_to_secretly else "IO04" in line, line


def test_what_is_known_to_be_wrong_is_not_shown():
    """Held for longer than a second: behind the text that waits to be written comes nothing."""
    with Folder() as d:
        whole = tprun("generate", bundle(d), *BEGIN).stdout
        for act in (cut_by_a_byte, cut_and_regrown, written_to):
            held = begun([TPRUN, "generate", bundle(d), *BEGIN])
            held.wait_for(lambda: held.said() > 20)
            act(os.path.join(d, "b", RANK))
            time.sleep(1.2)
            done = held.end()
            refused(done)
            assert whole[:20] == done.stdout[:20] and len(done.stdout) < 80 < len(whole), (act.__name__, done.stdout)


def test_files_that_hold_what_they_held_may_be_linked_moved_replaced_removed():
    with Folder() as d:
        want = tprun("generate", bundle(d), *BEGIN).stdout
        for act in HARMLESS:
            done = after(act, d, generate)
            assert (done.returncode, done.stdout) == (0, want), (act.__name__, done.stderr)
            notes = [l for l in done.stderr.decode().splitlines() if "replaced or removed" in l]
            assert len(notes) == (act in (replaced, unlinked)) and all(RANK in l for l in notes), (act.__name__, done.stderr)


def test_without_hashes_sizes_and_times_are_looked_at():
    with Folder() as d:
        for act, status in ((written_to, 7), (cut_by_a_byte, 7), (written_to_secretly, 0), (linked, 0)):
            held = begun([TPRUN, "generate", bundle(d), *BEGIN, "--verify", "header"])
            act(os.path.join(d, "b", RANK))
            done = held.end()
            assert done.returncode == status, (act.__name__, done.stderr)


def test_weights_in_memory_are_no_files():
    with Folder() as d:
        b = bundle(d, "--compress", "zstd")
        want = tprun("generate", b, *BEGIN).stdout
        held = begun([TPRUN, "generate", b, *BEGIN])
        cut_to_half(os.path.join(b, RANK))
        done = held.end()
        assert (done.returncode, done.stdout) == (0, want), done.stderr


def test_a_gpus_copy_is_no_file():
    with Folder() as d:
        tiny_model(d + "/m")
        convert(d + "/m", d + "/b", "--tp", "2")
        run = [os.path.join(harness.BUILD, "tests", "tprun_cuda"), "logits", d + "/b", "--prompt-ids", "1,2,3", "--chunk", "1", "-q",
               "--device", "cuda", "--share-gpu", "-o"]
        emulated = {"LD_LIBRARY_PATH": os.path.join(harness.BUILD, "tests", "emulated")}
        harness.run([*run, d + "/want"], env={**os.environ, **emulated})
        done = stopped([*run, d + "/l"], "write:1", lambda: cut_to_half(os.path.join(d, "b", RANK)), **emulated)
        assert done.returncode == 0 and open(d + "/l", "rb").read() == open(d + "/want", "rb").read(), done.stderr


# ---- answers that are printed when they are complete ----

def test_a_line_of_json_is_not_printed_of_weights_that_changed():
    with Folder() as d:
        with open(d + "/prompts", "w") as f:
            for n in (2, 60, 100):
                f.write(json.dumps({"id": n, "prompt_ids": [1, 2], "n": n}) + "\n")

        def run(b, act):
            held = begun([TPRUN, "generate", b, "--prompts", d + "/prompts", "--json", "--ignore-eos", "--temp", "0", "-q", "--threads", "1"], 300)
            act()
            return held.end()

        want = bundle(d) and run(d + "/b", lambda: None)
        assert want.returncode == 0 and len(want.stdout.splitlines()) == 3 and len(want.stdout.splitlines()[0]) < 300
        for act in (cut_to_half, written_to, written_to_secretly):
            done = after(act, d, run)
            refused(done)
            assert done.stdout in want.stdout and len(done.stdout.splitlines()) < 3, done.stdout
            assert done.stdout.endswith(b"\n"), done.stdout
        assert after(linked, d, run).stdout == want.stdout


def test_an_interrupted_answer_is_looked_at_too():
    def run(b, act):
        held = begun([TPRUN, "generate", b, *BEGIN])
        act()
        held.process.send_signal(signal.SIGINT)
        return held.end()

    with Folder() as d:
        error_line(after(linked, d, run), 10, "interrupted")
        refused(after(written_to, d, run))


def test_logits_and_traces_of_weights_that_changed_are_not_published():
    prompt = ["--prompt-ids", ",".join(map(str, range(1, 30))), "--chunk", "4", "-q"]
    with Folder() as d:
        def to_files(b, act):
            return stopped([TPRUN, "logits", b, *prompt, "-o", d + "/l", "--trace", d + "/t"], "write:6", act)

        def to_a_pipe(b, act):
            held = begun([TPRUN, "logits", b, *prompt, "-o", "-"], 4096, pages=2)
            act()
            return held.end()

        for act in (cut_to_half, written_to, written_to_secretly):
            refused(after(act, d, to_files))
            assert not os.path.exists(d + "/l") and not os.path.exists(d + "/t"), act.__name__
            refused(after(act, d, to_a_pipe))
        assert after(unlinked, d, to_files).returncode == 0
        assert open(d + "/l", "rb").read() == after(linked, d, to_a_pipe).stdout and os.path.exists(d + "/t")


# ---- conversations ----

def chat(b):
    return [TPRUN, "chat", b, "-n", "100", "--temp", "0", "--stats"]


def test_a_turn_of_weights_that_changed_does_not_end_well():
    def run(b, act):
        held = begun(chat(b), 10, feed=b"Tell me a story about a dog.\n")
        act()
        return held.end()

    with Folder() as d:
        want = after(linked, d, run)
        assert want.returncode == 0 and len(want.stdout) > 30, want.stdout
        for act in (cut_to_half, written_to, written_to_secretly):
            done = after(act, d, run)
            refused(done)
            assert not done.stdout.endswith(b"\n"), done.stdout


def test_a_turn_after_a_change_says_nothing():
    def run(b, act):
        held = Held(chat(b), 4000, b"Tell me a story about a dog.\n")
        held.wait_for(lambda: b"turn 1" in held.stderr())
        before = held.said()
        act()
        held.feed(b"And then?\n")
        done = held.end()
        return done, done.stdout[before:]

    with Folder() as d:
        for act in (cut_to_half, cut_by_a_byte, written_to):
            done, said = after(act, d, run)
            refused(done)
            assert said == b"", (act.__name__, said)
        done, said = after(replaced, d, run)
        assert done.returncode == 0 and said and done.stderr.count(b"replaced or removed") == 1, done.stderr


# ---- while they are opened, and other readers ----

def test_a_file_that_changes_while_it_is_checked_is_refused():
    """Stopped where the last file is mapped: sizes and times were taken before, hashes come after."""
    with Folder() as d:
        for args in ((), ("--compress", "zstd")):
            for command in (["generate", "--prompt-ids", "1", "-n", "2", "--ids"], ["selftest"]):
                b = bundle(d, *args)
                rank = os.path.join(b, RANK)
                run = [TPRUN, command[0], b, *command[1:]]
                done = stopped(run, "map:2", lambda: touched(rank))
                assert "changed" in refused(done) and done.stdout == b"", done.stdout
                done = stopped(run, "map:2", lambda: (linked(rank), unlinked(rank)))
                assert done.returncode == 0 and b"replaced or removed" in done.stderr, done.stderr


def test_tpshard_refuses_what_changes_while_it_reads():
    with Folder() as d:
        model = checkpoint("yarn")
        shutil.copytree(model, d + "/m")
        for name in "ab":
            convert(model, f"{d}/{name}", "--tp", "2", "--compress", "zstd" if name == "a" else "none")
        weights, one, two = d + "/m/model.safetensors", f"{d}/a/{RANK}", f"{d}/b/{RANK}"
        out = ["-o", d + "/out", "-q"]
        for path, fault, args in (
                (one, "map:4", ["diff", d + "/a", d + "/b"]), (two, "map:4", ["diff", d + "/a", d + "/b"]),
                (one, "map:2", ["verify", d + "/a"]), (weights, "map:3", ["verify", d + "/a", "--against", d + "/m"]),
                (one, "write:3", ["reshard", d + "/a", "--tp", "3", *out]), (one, "write:3", ["export", d + "/a", *out]),
                (weights, "write:3", ["convert", d + "/m", "--no-selftest", *out])):
            done = stopped([TPSHARD, *args], fault, lambda: touched(path))
            error_line(done, 7, os.path.basename(path), "changed")
            assert done.stdout == b"" and not os.path.exists(d + "/out"), args
            shutil.rmtree(d + "/out.partial", ignore_errors=True)


def test_a_compiled_tokenizer_is_read_once(folder):
    """What becomes of its file does not matter, whatever that is."""
    path = f"{folder}/t.tpt"
    tpshard("tokenizer", harness.DEMO, "-o", path, "-q")
    data = open(path, "rb").read()
    want = harness.run([harness.TPRUN, "tokenize", path], input=b'"Once upon a time"\n').stdout
    for change in (lambda f: f.truncate(0), lambda f: f.write(os.urandom(len(data))), lambda f: f.write(data[:100] + data)):
        with open(path, "wb") as f:
            f.write(data)
        p = subprocess.Popen([harness.TPRUN, "tokenize", path], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        p.stdin.write(b'"Once upon a time"\n')
        p.stdin.flush()
        assert p.stdout.readline() == want
        with open(path, "r+b") as f:
            change(f)
        out, _ = p.communicate(b'"Once upon a time"\n')
        assert (p.returncode, out) == (0, want)


harness.main(globals())
