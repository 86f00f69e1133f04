"""Every call on files fails, is cut short or interrupted, in turn: the contract's exit status, one line, nothing lost, and
the same command without the fault ends its work. SWEEP=N: so many places for each command and fault (a sample
otherwise; 0: all)."""
import os
import random
import shutil
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))
import harness
from harness import Folder, checkpoint, error_line, run, tiny_model, tpshard, tree_bytes

SWEEP = int(os.environ.get("SWEEP", 3 if harness.SHARE == 1 else 1))
HARMLESS = ("eintr", "short")
ERRORS = {"enospc": "No space", "edquot": "quota", "efbig": "too large", "eio": "Input/output", "emfile": "Too many", "eacces": "denied",
          "erofs": "Read-only", "estale": "Stale", "enametoolong": "too long", "eisdir": "", "exdev": "cross-device",
          "eexist": ""}


class Sweep:
    """Commands that write to OUT, or print, in a world that is made anew for each."""

    def __init__(self, folder, args, prepare=None, program=harness.TPSHARD):
        self.folder, self.world, self.prepare, self.args, self.program = folder, os.path.join(folder, "world"), prepare, args, program
        self.fresh()
        done = self.run(0, TP_FAULT="count")
        self.want, self.stdout = tree_bytes(self.world), done.stdout
        self.calls = int(done.stderr.decode().split("io calls: ")[1].split()[0])

    def fresh(self):
        shutil.rmtree(self.world, ignore_errors=True)
        os.mkdir(self.world)
        if self.prepare:
            self.prepare(self.world)
        self.old = tree_bytes(self.world)

    def run(self, status, **env):
        return run([self.program, *self.args, "-q"], status, cwd=self.world, env=dict(os.environ, **env))

    def check(self, done, what):
        after = tree_bytes(self.world)
        assert after == self.want, f"{what}: {[n for n in after.keys() | self.want.keys() if after.get(n) != self.want.get(n)]}"
        assert done.stdout == self.stdout, what

    def fail_at(self, action, k):
        self.fresh()
        what = f"{' '.join(self.args)} {action}:{k} of {self.calls}"
        done = self.run(None, TP_FAULT=f"{action}:{k}")
        if action in HARMLESS or done.returncode == 0:
            assert done.returncode == 0, f"{what}: status {done.returncode}: {done.stderr.decode()}"
            self.check(done, what)
            return False
        wanted = (5, 2) if action == "eexist" else (5,)  # something has come to the output's name
        assert done.returncode in wanted, f"{what}: status {done.returncode}: {done.stderr.decode()}"
        error_line(done, done.returncode, ERRORS[action])
        now = tree_bytes(self.world)
        for name, data in self.old.items():  # what was there is there, as it was or as it is to be
            assert now.get(name) in (data, self.want.get(name)) or data in now.values(), f"{what}: {name} is another"
        again = self.run(None)
        if again.returncode == 2:  # it was complete: an error of the last call, a close or a sync
            again = done
        self.check(again, what)
        return True

    def all(self):
        rng, failed, tried = random.Random(7), 0, 0
        for action in (*HARMLESS, *ERRORS):
            ks = range(1, self.calls + 1)
            for k in ks if SWEEP == 0 else sorted(rng.sample(ks, min(SWEEP, self.calls))):
                failed += self.fail_at(action, k)
                tried += 1
        print(f"    {self.args[0]}: {self.calls} calls, {tried} faults, {failed} of them exit 5")


def bundle(folder, name="b", **changes):
    tiny_model(f"{folder}/{name}-model", **changes)
    os.mkdir(f"{folder}/{name}-model/additional_chat_templates")
    with open(f"{folder}/{name}-model/additional_chat_templates/tool_use.jinja", "w") as f:
        f.write("{{ messages[0].content }}")
    tpshard("convert", f"{folder}/{name}-model", "-o", f"{folder}/{name}", "-q", "--no-selftest", "--tp", "2")
    return f"{folder}/{name}"


def old_bundle(folder):
    """prepare() that leaves another bundle with somebody's notes in it"""
    other = bundle(folder, "other", vocab_size=48)

    def prepare(root):
        shutil.copytree(other, root + "/X")
        open(root + "/X/notes.txt", "w").write("mine")

    return prepare


def test_convert():
    with Folder() as d:
        tiny_model(d + "/m")
        Sweep(d, ["convert", d + "/m", "-o", "X", "--tp", "2", "--no-selftest", "--threads", "1"]).all()


def test_convert_compressed_with_its_selftest():
    with Folder() as d:
        tiny_model(d + "/m")
        Sweep(d, ["convert", d + "/m", "-o", "X", "--tp", "2", "--compress", "zstd", "--threads", "1"]).all()


def test_convert_over_a_bundle():
    with Folder() as d:
        tiny_model(d + "/m")
        Sweep(d, ["convert", d + "/m", "-o", "X", "--no-selftest", "--threads", "1", "--force"], old_bundle(d)).all()


def test_reshard():
    with Folder() as d:
        Sweep(d, ["reshard", bundle(d), "-o", "X", "--tp", "3", "--threads", "1"]).all()


def test_export():
    with Folder() as d:
        Sweep(d, ["export", bundle(d), "-o", "X", "--threads", "1"]).all()


def test_export_over_a_bundle():
    with Folder() as d:
        Sweep(d, ["export", bundle(d), "-o", "X", "--threads", "1", "--force"], old_bundle(d)).all()


def test_tokenizer():
    with Folder() as d:
        Sweep(d, ["tokenizer", checkpoint("yarn"), "-o", "T"], lambda root: open(root + "/T", "w").write("the one before")).all()


def test_verify_and_diff():
    with Folder() as d:
        b = bundle(d)
        Sweep(d, ["verify", b, "--threads", "1"]).all()


def test_logits_and_traces():
    with Folder() as d:
        b, machine = bundle(d), ["--threads", "1", "--prompt-ids", "1,2,3"]
        before = lambda root: open(root + "/L", "w").write("the one before")
        Sweep(d, ["logits", b, "-o", "L", "--trace", "R", *machine], before, harness.TPRUN).all()
        Sweep(d, ["generate", b, "-n", "4", "--temp", "0", "--ids", "--trace", "R", *machine], None, harness.TPRUN).all()


harness.main(globals())
