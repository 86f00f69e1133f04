"""Power cuts: from the recorded calls of a command the disks are made that a cut at any point could leave (what was not
synced lost, kept, torn, reordered). Each holds the old output or the new one, never a mix, and the same command ends
its work. CUTS=N: so many disks for each command (a sample otherwise)."""
import os
import random
import shutil
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))
import harness
from harness import Folder, Skip, checkpoint, run, tiny_model, tpshard, tree_bytes

CUTS = int(os.environ.get("CUTS", 120))
RECORDER = os.path.join(harness.BUILD, "tests", "record_io.so")


class File:
    def __init__(self, data=b""):
        self.safe = bytes(data)    # what a cut leaves for certain
        self.pending = []          # writes and sizes since the last sync, in order

    def contents(self, keep, rng):
        """The bytes after a cut that kept these of the pending ones; a write may be torn."""
        data = bytearray(self.safe)
        for i, (kind, at, value) in enumerate(self.pending):
            if i not in keep:
                continue
            if kind == "size" and at > len(data):
                data.extend(bytes(at - len(data)))
            elif kind == "cut":
                del data[at:]
                data.extend(bytes(at - len(data)))
            elif kind == "write":
                block = rng.choice((0, 0, 512, 4096)) if rng else 0
                for begin in range(0, len(value), block) if block else (0,):
                    part = value[begin:begin + block] if block else value
                    if not block or rng.random() < 0.5:
                        end = at + begin + len(part)
                        data.extend(bytes(max(0, end - len(data))))
                        data[at + begin:end] = part
        return bytes(data)


class Dir:
    def __init__(self, entries=None):
        self.safe = dict(entries or {})  # name -> object
        self.pending = []                # functions of entries, in order


class Disk:
    """What the recorded calls did, and what of it was synced when."""

    def __init__(self, root):
        self.objects = {}
        self.root = self.load(root)

    def load(self, path):
        if os.path.isdir(path):
            made = Dir({n: self.load(os.path.join(path, n)) for n in os.listdir(path)})
        else:
            made = File(open(path, "rb").read())
        self.objects[os.lstat(path).st_ino] = made
        return made

    def apply(self, line):
        kind, *f = line.rstrip("\n").split(" ")
        o = self.objects
        if kind in ("mkdir", "create"):
            o[int(f[2])] = made = Dir() if kind == "mkdir" else File()
            o[int(f[0])].pending.append(lambda e, n=f[1], m=made: e.__setitem__(n, m))
        elif kind == "unnamed":
            o[int(f[0])] = File()
        elif kind == "link":
            o[int(f[1])].pending.append(lambda e, n=f[2], m=o[int(f[0])]: e.__setitem__(n, m))
        elif kind == "write":
            o[int(f[0])].pending.append(("write", int(f[1]), bytes.fromhex(f[2])))
        elif kind in ("size", "cut"):
            o[int(f[0])].pending.append((kind, int(f[1]), b""))
        elif kind == "unlink":
            o[int(f[0])].pending.append(lambda e, n=f[1]: e.pop(n, None))
        elif kind == "rename" and f[0] == f[2]:
            o[int(f[0])].pending.append(lambda e, a=f[1], b=f[3], swap=f[4] == "2": self.rename(e, a, b, swap))
        elif kind == "rename":  # from one folder to another is one operation: both folders are as if synced
            source, target = o[int(f[0])], o[int(f[2])]
            moved = self.entries(source, None)[f[1]]
            source.pending.append(lambda e, n=f[1]: e.pop(n, None))
            target.pending.append(lambda e, n=f[3], m=moved: e.__setitem__(n, m))
            self.sync(source)
            self.sync(target)
        elif kind == "sync":
            self.sync(o[int(f[0])])

    @staticmethod
    def rename(entries, a, b, swap):
        if swap:
            entries[a], entries[b] = entries[b], entries[a]
        elif a in entries:
            entries[b] = entries.pop(a)

    @staticmethod
    def entries(folder, keep):
        """Operations of a folder keep their order: a journaling file system's do."""
        e = dict(folder.safe)
        for op in folder.pending if keep is None else folder.pending[:keep]:
            op(e)
        return e

    def sync(self, thing):
        if isinstance(thing, File):
            thing.safe = thing.contents(range(len(thing.pending)), None)
        else:
            thing.safe = self.entries(thing, None)
        thing.pending = []

    def write(self, path, folder, mode, rng):
        """A disk after a cut: everything pending lost or kept, or at random."""
        keep = {"lost": 0, "kept": None}.get(mode)
        if mode == "random":
            keep = rng.randint(0, len(folder.pending))
        for name, thing in self.entries(folder, keep).items():
            p = os.path.join(path, name)
            if isinstance(thing, Dir):
                os.mkdir(p, 0o700)
                self.write(p, thing, mode, rng)
            else:
                n = range(len(thing.pending))
                kept = n if mode == "kept" else () if mode == "lost" else {i for i in n if rng.random() < 0.6}
                with open(p, "wb") as f:
                    f.write(thing.contents(kept, rng if mode == "random" else None))


def cut(folder, prepare, args, out="X", mine=()):
    """Record `tpshard args -o OUT` in what prepare(root) made; then cut the power everywhere."""
    if harness.SHARE != 1:
        raise Skip("the recorder is for release builds")
    rng, world, log = random.Random(1), os.path.join(folder, "world"), os.path.join(folder, "log")
    os.mkdir(world)
    prepare(world)
    old = tree_bytes(world)
    disk = Disk(world)
    path = os.path.join(world, out)
    command = [harness.TPSHARD, *args, "-o", path, "-q"]
    run(command, env=dict(os.environ, LD_PRELOAD=RECORDER, RECORD_LOG=log, RECORD_ROOT=world))
    new = tree_bytes(world)
    lines = open(log).read().splitlines()
    assert len(lines) >= 4, "nothing was recorded"
    points = sorted(rng.sample(range(len(lines) + 1), min(CUTS // 3 + 1, len(lines) + 1)))
    at, made, resumed = 0, 0, 0
    for point in points:
        while at < point:
            disk.apply(lines[at])
            at += 1
        for mode in ("lost", "kept", "random"):
            shutil.rmtree(world)
            os.mkdir(world)
            disk.write(world, disk.root, mode, rng)
            made += 1
            where = f"after call {point} of {len(lines)} ({lines[point - 1][:60] if point else 'none'}), {mode}"
            found = {n: d for n, d in tree_bytes(world).items() if n.split(os.sep)[0] == out}
            theirs = {os.path.join(out, n) for n in mine}
            for tree in (old, new):
                want = {n: d for n, d in tree.items() if n.split(os.sep)[0] == out}
                if {n: d for n, d in without_tail(found, out).items() if n not in theirs} == {n: d for n, d in want.items() if n not in theirs}:
                    break
            else:
                raise AssertionError(f"{where}: {out} is neither the old nor the new one: {sorted(found)}")
            done = run(command, None)
            if done.returncode == 2 and found:  # complete, and the log was gone already
                assert without_tail(found, out) == {n: d for n, d in new.items() if n.split(os.sep)[0] == out}, f"{where}: {done.stderr.decode()}"
            else:
                assert done.returncode == 0, f"{where}: status {done.returncode}: {done.stderr.decode()}"
            resumed += done.returncode == 0
            after = tree_bytes(world)
            assert after == new, f"{where}: {[n for n in after.keys() | new.keys() if after.get(n) != new.get(n)]}"
    print(f"    {' '.join(a for a in args if not a.startswith('/'))}: {len(lines)} calls, {made} disks, {resumed} went on")


def without_tail(tree, out):
    return {n: d for n, d in tree.items() if n != os.path.join(out, "journal")}


def nothing(root):
    pass


def test_a_conversion():
    with Folder() as d:
        tiny_model(d + "/m")
        cut(d, nothing, ["convert", d + "/m", "--tp", "3", "--no-selftest"])


def test_a_compressed_conversion_with_its_selftest():
    with Folder() as d:
        tiny_model(d + "/m")
        cut(d, nothing, ["convert", d + "/m", "--tp", "2", "--compress", "zstd"])


def test_a_bundle_is_replaced_and_somebodys_notes_move_along():
    with Folder() as d:
        tiny_model(d + "/m")
        tiny_model(d + "/other", vocab_size=48)

        def prepare(root):
            tpshard("convert", d + "/other", "-o", root + "/X", "-q", "--no-selftest", "--tp", "3")
            os.mkdir(root + "/X/notes")
            open(root + "/X/notes/a.txt", "w").write("mine")
            open(root + "/X/b.txt", "w").write("mine too")

        cut(d, prepare, ["convert", d + "/m", "--tp", "2", "--no-selftest", "--force"], mine=("notes/a.txt", "b.txt"))


def test_a_bundle_is_cut_anew():
    with Folder() as d:
        tiny_model(d + "/m")
        tpshard("convert", d + "/m", "-o", d + "/b", "-q", "--no-selftest", "--tp", "3")
        cut(d, nothing, ["reshard", d + "/b", "--tp", "2"])


def add_templates(model, *names):
    os.mkdir(model + "/additional_chat_templates")
    for name in names:
        open(f"{model}/additional_chat_templates/{name}.jinja", "w").write(name * 40)


def test_an_export():
    with Folder() as d:
        tiny_model(d + "/m")
        add_templates(d + "/m", "a", "b")
        tpshard("convert", d + "/m", "-o", d + "/b", "-q", "--no-selftest", "--tp", "3")
        cut(d, nothing, ["export", d + "/b"])


def test_an_export_is_replaced():
    with Folder() as d:
        tiny_model(d + "/m")
        tiny_model(d + "/other", vocab_size=48)
        add_templates(d + "/m", "a", "b")
        add_templates(d + "/other", "b", "c")
        for name in ("m", "other"):
            tpshard("convert", f"{d}/{name}", "-o", f"{d}/b-{name}", "-q", "--no-selftest")
        cut(d, lambda root: tpshard("export", d + "/b-other", "-o", root + "/X", "-q"), ["export", d + "/b-m", "--force"])


def test_a_single_file_is_replaced():
    with Folder() as d:
        def prepare(root):
            open(root + "/X", "wb").write(b"the one before")

        cut(d, prepare, ["tokenizer", checkpoint("yarn")])


harness.main(globals())
