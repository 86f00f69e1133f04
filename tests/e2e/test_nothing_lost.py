"""Random sequences of commands that write, with kills, --force, --restart, and files of other people in every place:
none of those ever changes or vanishes, and what is published is what a fresh run gives.

SEQUENCES=N: so many (a sample otherwise). SEED=N: the first of them; a failure names its own.
"""
import os
import random
import shutil
import signal
import stat
import subprocess
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))
import harness
from harness import Folder, checkpoint, tiny_model, tpshard

SEQUENCES = int(os.environ.get("SEQUENCES", 60 // harness.SHARE + 4))
SEED = int(os.environ.get("SEED", 1))
# what a converter would like to call its own
TEMPTING = ("config.json", "manifest.json", "journal", "names", "raw", "rank-000-of-002.tps", "rank-001-of-003.tps",
            "selftest.json", "model.safetensors", "tpshard-export.json", "tokenizer.tpt", ".unfinished", "manifest.open.json")


def tree_bytes(folder):
    """name -> bytes of every regular file below a folder; links are not followed, FIFOs not opened"""
    return {os.path.relpath(p, folder): open(p, "rb").read() for p in
            (os.path.join(base, n) for base, _, names in os.walk(folder) for n in names) if stat.S_ISREG(os.lstat(p).st_mode)}


class Fixtures:
    """Models, a bundle, and what a fresh run gives of them; made once."""

    def __init__(self, folder):
        self.folder, self.known = folder, {}
        self.models = []
        for i, changes in enumerate((dict(), dict(num_hidden_layers=2, vocab_size=40), dict(torch_dtype="float32", attention_bias=True))):
            self.models.append(os.path.join(folder, f"m{i}"))
            tiny_model(self.models[-1], **changes)
        self.texts = checkpoint("yarn")
        self.bundle = os.path.join(folder, "source")
        tpshard("convert", self.models[1], "-o", self.bundle, "-q", "--no-selftest", "--tp", "2")

    def fresh(self, command):
        """name -> bytes of what the command gives in an empty place."""
        key = tuple(a for a in command if a not in ("--force", "--restart"))
        if key not in self.known:
            out = os.path.join(self.folder, f"fresh{len(self.known)}")
            tpshard(*key, "-o", out, "-q")
            self.known[key] = tree_bytes(out) if os.path.isdir(out) else {"": open(out, "rb").read()}
        return self.known[key]


class World:
    """A folder in which commands write to X (a bundle), E (an export), T (a file), and people leave things."""

    def __init__(self, path, fixtures, rng):
        self.path, self.fixtures, self.rng = path, fixtures, rng
        self.foreign = {}  # what makes it unmistakable -> (kind, the name it had)
        self.count = 0
        self.log = []

    def at(self, *names):
        return os.path.join(self.path, *names)

    # ---- what other people leave ----

    def put(self, path, over):
        """Something of somebody's at a free name, or, if over, in place of a file that is there."""
        self.count += 1
        mark = f"mine {self.count} {self.rng.random()}"
        kinds = ["file", "file", "folder", "link", "fifo", "checkpoint", "bundle", "zeros"]
        if os.path.basename(path) == "T":  # a file there is replaced, a FIFO written to
            kinds = ["folder"]
        if os.path.lexists(path):
            if os.path.islink(path) or not os.path.isfile(path) or self.owner(path) or kinds == ["folder"] or not over:
                return
            # who takes the list of names away leaves nobody who could tell ours from theirs: exit 5 from then on
            log = os.path.join(os.path.dirname(path), "names")
            if path == log or (path.endswith(".partial/journal") and not os.path.exists(log)):
                return
            kinds = ["file"]
        kind = self.rng.choice(kinds)
        if kind in ("file", "zeros"):
            data = mark.encode() * self.rng.choice((1, 1, 40, 2000)) if kind == "file" else bytes(8192) + mark.encode()
            tmp = path + ".new"
            with open(tmp, "wb") as f:
                f.write(data)
            os.rename(tmp, path)
            self.foreign[mark] = ("file", data)
        elif kind == "link":
            os.symlink("nowhere/" + mark, path)
            self.foreign[mark] = ("link", "nowhere/" + mark)
        elif kind == "fifo":
            os.mkfifo(path)
            self.foreign[mark] = ("fifo", os.lstat(path).st_ino)
        elif kind == "folder":
            os.mkdir(path)
            with open(os.path.join(path, self.rng.choice(TEMPTING)), "w") as f:
                f.write(mark)
            self.foreign[mark] = ("file", mark.encode())
        else:
            shutil.copytree(self.fixtures.models[2] if kind == "checkpoint" else self.fixtures.bundle, path)
            with open(os.path.join(path, "notes.txt"), "w") as f:
                f.write(mark)
            if os.path.basename(path) == "X" or os.path.basename(path) == "E":
                if kind == "bundle":  # may be replaced, as any bundle: its notes stay
                    self.foreign[mark] = ("file", mark.encode())
                    self.log.append(f"{kind} at {os.path.relpath(path, self.path)}")
                    return
            self.foreign[mark] = ("tree", tree_bytes(path))
        self.log.append(f"{kind} at {os.path.relpath(path, self.path)}")

    def owner(self, path):
        """The mark of somebody's file"""
        try:
            data = open(path, "rb").read()
        except OSError:
            return None
        return next((m for m, (k, v) in self.foreign.items() if k == "file" and v == data), None)

    def place(self, over=True):
        """Leave something somewhere. Not over a file while a command is between its look at it and its call."""
        rng = self.rng
        base = rng.choice(("X", "X", "X", "E", "T"))
        where = rng.choice(("at", "in", "in", "partial", "in partial", "in partial", "in raw"))
        name = rng.choice(TEMPTING) if rng.random() < 0.7 else f"notes-{self.count}"
        path = {"at": self.at(base), "in": self.at(base, name), "partial": self.at(base + ".partial"),
                "in partial": self.at(base + ".partial", name), "in raw": self.at(base + ".partial", "raw", name)}[where]
        home = os.path.dirname(path)
        theirs = [v for k, v in self.foreign.values() if k == "tree"]
        if os.path.isdir(home) and not os.path.islink(home) and tree_bytes(home) not in theirs:
            self.put(path, over)

    def check(self):
        """Nothing of anybody's is gone or other than it was, wherever it is now."""
        files, links, fifos = [], set(), set()
        for base, folders, names in os.walk(self.path):
            for n in names + folders:
                p = os.path.join(base, n)
                mode = os.lstat(p).st_mode
                if stat.S_ISLNK(mode):
                    links.add(os.readlink(p))
                elif stat.S_ISFIFO(mode):
                    fifos.add(os.lstat(p).st_ino)
                elif stat.S_ISREG(mode):
                    with open(p, "rb") as f:
                        files.append((p, f.read()))
        contents = {data for _, data in files}
        for mark, (kind, value) in self.foreign.items():
            if kind == "file":
                assert value in contents, f"somebody's file is gone: {mark}"
            elif kind == "link":
                assert value in links, f"somebody's link is gone: {mark}"
            elif kind == "fifo":
                assert value in fifos, f"somebody's FIFO is gone: {mark}"
            else:
                home = [os.path.dirname(p) for p, data in files if data == mark.encode()]
                assert any(tree_bytes(h) == value for h in home), f"somebody's folder changed: {mark}"

    def sweep(self):
        """People take away what is theirs."""
        for base, folders, names in os.walk(self.path, topdown=False):
            for n in names + folders:
                p = os.path.join(base, n)
                mode = os.lstat(p).st_mode
                if stat.S_ISLNK(mode) or stat.S_ISFIFO(mode):
                    os.unlink(p)
                elif stat.S_ISREG(mode) and self.owner(p):
                    os.unlink(p)
        for mark, (kind, value) in self.foreign.items():
            if kind == "tree":
                for base, _, names in os.walk(self.path):
                    if "notes.txt" in names and open(os.path.join(base, "notes.txt")).read() == mark:
                        shutil.rmtree(base)
                        break
        for base, folders, _ in os.walk(self.path, topdown=False):
            for n in folders:
                if n not in ("X", "E", "X.partial", "E.partial") and not os.listdir(os.path.join(base, n)):
                    os.rmdir(os.path.join(base, n))
        self.foreign = {}

    # ---- commands ----

    def command(self):
        rng, f = self.rng, self.fixtures
        kind = rng.choice(("convert", "convert", "convert", "reshard", "export", "tokenizer"))
        if kind == "convert":
            out, args = "X", ["convert", rng.choice(f.models), "--tp", rng.choice("123")]
            args += ["--compress", "zstd"] if rng.random() < 0.3 else []
            args += [] if rng.random() < 0.1 else ["--no-selftest"]
        elif kind == "reshard":
            out, args = "X", ["reshard", f.bundle, "--tp", rng.choice("134")]
        elif kind == "export":
            out, args = "E", ["export", f.bundle]
        else:
            out, args = "T", ["tokenizer", f.texts]
        if kind != "tokenizer" and rng.random() < 0.5:
            args.append("--force")
        if kind in ("convert", "reshard") and rng.random() < 0.3:
            args.append("--restart")
        return out, args

    def run(self, out, args):
        """One command, perhaps killed, perhaps with somebody busy meanwhile; returns its status."""
        rng, env = self.rng, dict(os.environ)
        fate = rng.choice(("whole", "whole", "kill", "kill", "stop", "fail"))
        k = int(rng.choice((20, 60, 200, 300)) * rng.random()) + 1
        if fate == "kill":
            env["TP_FAULT"] = f"kill:{k}"
        elif fate == "stop":
            env["TP_FAULT"] = rng.choice((f"stop:{k}", "stop:rename:1", "stop:unlink:1", "stop:sync_dir:2", "stop:mkdir:1"))
        elif fate == "fail":
            env["TP_FAULT"] = f"{rng.choice(('enospc', 'eio', 'eintr', 'short', 'exdev'))}:{k}"
        self.log.append(f"{env.get('TP_FAULT', '')} tpshard {' '.join(args)} -o {out}")
        p = subprocess.Popen([harness.TPSHARD, *args, "-o", self.at(out), "-q", *(["--threads", "2"] if args[0] != "tokenizer" else [])],
                             env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        if fate == "stop":
            _, status = os.waitpid(p.pid, os.WUNTRACED)
            if os.WIFSTOPPED(status):
                for _ in range(rng.randint(1, 2)):
                    self.place(over=False)
                p.send_signal(signal.SIGCONT)
            else:  # it ended before
                p.returncode = os.waitstatus_to_exitcode(status)
        stderr = p.communicate()[1].decode(errors="replace")
        self.log.append(f"  {p.returncode} {stderr.strip()[-200:]}")
        assert p.returncode in (0, 2, 5, 7, 8, -9) or fate == "fail", f"status {p.returncode}: {stderr}"
        assert p.returncode >= 0 or fate == "kill", f"status {p.returncode}: {stderr}"
        return p.returncode

    def check_made(self, out, args, foreign_too):
        """The output is a fresh run's, but for what is somebody's."""
        want, found = self.fixtures.fresh(args), {}
        path = self.at(out)
        found = tree_bytes(path) if os.path.isdir(path) else {"": open(path, "rb").read()}
        for name, data in want.items():
            assert found.get(name) == data or (foreign_too and self.owner(os.path.join(path, name))), f"{out}/{name} is not a fresh run's"
        if not foreign_too:
            assert found.keys() == want.keys(), f"{out}: {sorted(found.keys() ^ want.keys())}"
            if os.path.isdir(path):
                assert stat.S_IMODE(os.stat(path).st_mode) == 0o777 & ~UMASK, oct(os.stat(path).st_mode)

    def sequence(self):
        rng = self.rng
        for _ in range(rng.randint(2, 6)):
            for _ in range(rng.choice((0, 0, 1, 2))):
                self.place()
            out, args = self.command()
            status = self.run(out, args)
            self.check()
            if status == 0:
                self.check_made(out, args, True)
            if rng.random() < 0.2 and os.path.isdir(self.at("X")):
                tpshard("verify", self.at("X"), "-q", status=None)
                self.check()
        self.sweep()
        for out, args in (self.command() for _ in range(3)):
            args = [a for a in args if a not in ("--force", "--restart")]
            force = [] if args[0] == "tokenizer" else ["--force"] if args[0] == "export" else ["--force", "--restart"]
            self.log.append(f"tpshard {' '.join(args)} -o {out} {force}")
            shutil.rmtree(self.at(out), ignore_errors=True) if os.path.isdir(self.at(out)) and not self.is_ours(out) else None
            tpshard(*args, *force, "-o", self.at(out), "-q")
            self.check_made(out, args, False)
            assert not os.path.lexists(self.at(out + ".partial")), f"{out}.partial is left"
        assert set(os.listdir(self.path)) <= {"X", "E", "T", "X.partial", "E.partial"}, os.listdir(self.path)

    def is_ours(self, out):
        """A bundle, an export, or nothing: what --force takes; a folder whose manifest people took away is theirs."""
        names = os.listdir(self.at(out))
        return not names or "manifest.json" in names or "tpshard-export.json" in names


UMASK = os.umask(0o022)
os.umask(UMASK)


def test_random_sequences_lose_nothing():
    with Folder() as d:
        fixtures = Fixtures(d)
        statuses = {}
        for seed in range(SEED, SEED + SEQUENCES):
            world = World(os.path.join(d, "world"), fixtures, random.Random(seed))
            os.mkdir(world.path)
            try:
                world.sequence()
            except (AssertionError, OSError) as why:
                raise AssertionError(f"SEED={seed} SEQUENCES=1: {why}\n" + "\n".join(world.log))
            for line in world.log:
                if line.startswith("  ") and line.split()[0].lstrip("-").isdigit():
                    statuses[line.split()[0]] = statuses.get(line.split()[0], 0) + 1
            shutil.rmtree(world.path)
        print(f"    {SEQUENCES} sequences, commands by status: {dict(sorted(statuses.items()))}")


if __name__ == "__main__":
    harness.main(globals())
